//! What Isopod does, in a terminal, in a few seconds.
//!
//! A daemon in a directory and a network namespace of its own, an image assembled on the spot, a pod
//! with two containers; its address, its logs, an exec, the daemon killed and started again, and
//! where the milliseconds went. At the end nothing of it is left, and that is checked.

mod paint;
mod timeline;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cri_api::v1::{ContainerConfig, PodSandboxConfig, VersionRequest};
use testkit::{Compression, Daemon, Layer, Network, Setup, busybox};
use tonic::Status;

use paint::{Paint, milliseconds};

/// The name of the image.
const IMAGE: &str = "isopod.example/demo:1";
/// How often the exec is repeated to measure it.
const EXECS: usize = 25;
/// What the server in the pod sends.
const PAGE: &str = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello from the pod\n";

/// What stops a demo; told as it is.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let paint = Paint::for_stdout();
    // The daemon, its bridge and its rules live in a network namespace that ends with this program.
    testkit::isolate_network();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let told = runtime.map_err(Failure::from).and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                told = Box::pin(tell(&paint)) => told,
                // What is dropped by this cleans up after itself.
                _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
            }
        })
    });
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn tell(paint: &Paint) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut daemon = Setup::new().network(Network::Bridge).start().await;
    let started = begun.elapsed();
    let request = VersionRequest { version: "v1".to_owned() };
    let version = daemon.runtime().version(request).await?.into_inner();
    paint.title(&format!("{} {}", version.runtime_name, version.runtime_version));
    let build = if cfg!(debug_assertions) { "development build" } else { "release build" };
    let memory = timeline::resident(daemon.pid());
    paint.step("daemon", &format!("serves after {}, {build}, {memory}", milliseconds(started)));

    load(&daemon, paint)?;
    let pod = testkit::pod(&daemon, "demo");
    let (pod_id, web, client) = run(&daemon, &pod, paint).await?;
    watch(&daemon, &web, &client, paint).await?;
    exec(&daemon, &web, paint).await?;
    restart(&mut daemon, &pod_id, &client, paint).await?;
    timeline::show(&daemon, paint, &pod_id, &[("web", &web), ("client", &client)]).await?;

    // Dropping it stops and removes the pod, ends the daemon, and panics where anything is left.
    drop(daemon);
    let gone = "no process, mount, network namespace, cgroup or link is left";
    paint.step("cleaned up", gone);
    paint.end(begun.elapsed());
    Ok(())
}

/// Assembles an image, and gives it to the daemon by `isopod load`.
fn load(daemon: &Daemon, paint: &Paint) -> Result<(), Failure> {
    let page = Layer::new().directory("srv", 0o755).file("srv/answer", 0o644, PAGE.as_bytes());
    let image = busybox(Compression::Gzip).layer(page.build(Compression::Zstd));
    let archive = testkit::archive::oci_layout(&[(&image, IMAGE)]);
    let path = daemon.directory().join("demo.tar");
    std::fs::write(&path, &archive)?;
    let begun = Instant::now();
    let done = daemon.cli(&["load", &path.to_string_lossy()]).output()?;
    let took = begun.elapsed();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    let size = archive.len() / 1_000;
    let text = format!("{IMAGE}, a gzip and a zstd layer, {size} kB, in {}", milliseconds(took));
    paint.step("image", &text);
    Ok(())
}

/// The pod and its two containers; gives their ids.
async fn run(
    daemon: &Daemon,
    pod: &PodSandboxConfig,
    paint: &Paint,
) -> Result<(String, String, String), Status> {
    let begun = Instant::now();
    let pod_id = daemon.run_pod(pod, "").await?;
    let pod_took = begun.elapsed();
    let web = shell("web", "while :; do nc -l -p 8080 < /srv/answer | head -n 1; done");
    let client = shell(
        "client",
        "n=1; while :; do echo \"$n: $(wget -q -O - http://127.0.0.1:8080/)\"; n=$((n+1)); sleep 0.2; done",
    );
    let begun = Instant::now();
    let web = daemon.launch(&pod_id, pod, &web).await?;
    let client = daemon.launch(&pod_id, pod, &client).await?;
    let containers_took = begun.elapsed();
    let status = daemon.pod_status(&pod_id).await?;
    let network = status.network.unwrap_or_default();
    let more = network.additional_ips.iter().map(|address| address.ip.as_str());
    let addresses: Vec<&str> = std::iter::once(network.ip.as_str()).chain(more).collect();
    paint.step("pod", &format!("{} ready in {}", &pod_id[..12], milliseconds(pod_took)));
    paint.more(&format!("address {}", addresses.join(" and ")));
    let text = format!("web and client, created and started in {}", milliseconds(containers_took));
    paint.step("containers", &text);
    Ok((pod_id, web, client))
}

fn shell(name: &str, script: &str) -> ContainerConfig {
    testkit::container(name, IMAGE, &["sh", "-c", script])
}

/// Shows what both have logged, once there is something.
async fn watch(daemon: &Daemon, web: &str, client: &str, paint: &Paint) -> Result<(), Failure> {
    paint.step("logs", "written by the pod's monitor, read from its files");
    for (name, id) in [("client", client), ("web", web)] {
        let said =
            testkit::until(format!("{name} says something"), Duration::from_secs(20), async || {
                let text = daemon.logged(id).await;
                (text.lines().count() >= 2).then_some(text)
            })
            .await;
        for line in said.lines().take(2) {
            paint.quote(name, line.trim_end());
        }
    }
    Ok(())
}

async fn exec(daemon: &Daemon, id: &str, paint: &Paint) -> Result<(), Failure> {
    let done = daemon.exec(id, &["sh", "-c", "hostname; ps -o pid,args"]).await?;
    let mut times = Vec::with_capacity(EXECS);
    for _ in 0..EXECS {
        let begun = Instant::now();
        daemon.exec(id, &["true"]).await?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let median = milliseconds(times[EXECS / 2]);
    paint.step("exec", &format!("`true` takes {median} (median of {EXECS}); `hostname; ps` says"));
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        paint.quote("web", line.trim_end());
    }
    Ok(())
}

/// Kills the daemon, and shows that the pod did not notice.
async fn restart(
    daemon: &mut Daemon,
    pod_id: &str,
    client: &str,
    paint: &Paint,
) -> Result<(), Failure> {
    let log = daemon.status(client).await?.log_path;
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    daemon.kill();
    let before = lines();
    testkit::until("the log grows", Duration::from_secs(20), async || {
        (lines() >= before + 3).then_some(())
    })
    .await;
    let written = lines() - before;
    let begun = Instant::now();
    daemon.start().await;
    let took = begun.elapsed();
    let state = daemon.pod_status(pod_id).await?.state();
    let status = daemon.status(client).await?;
    let (pod, container) = (state.as_str_name(), status.state().as_str_name());
    let text = format!(
        "killed with kill -9; {written} log lines came meanwhile; serves again after {}",
        milliseconds(took)
    );
    paint.step("daemon", &text);
    paint.more(&format!("{pod}, {container}"));
    Ok(())
}
