//! Pods that come and go: what the daemon holds must not grow with how many there have been.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use cri_api::v1::{RemovePodSandboxRequest, StopPodSandboxRequest};
use testkit::{Daemon, Network};

use crate::memory::field;
use crate::samples::line;

/// After these everything that is kept for the next pod is there.
const WARM: usize = 200;
/// Pods at once.
const AT_ONCE: usize = 4;
/// What may be added to what was there after the first, in percent.
const GROWTH: u64 = 10;
/// How often what there is now is shown.
const SHOWN_EVERY: usize = 500;

/// What the daemon holds, each with its name and what it may grow by beside [`GROWTH`]: connections and threads
/// come and go one by one.
fn sample(daemon: &Daemon) -> [(&'static str, u64, u64); 6] {
    let process = format!("/proc/{}", daemon.pid());
    let status = format!("{process}/status");
    let entries = |path: &str| fs::read_dir(path).into_iter().flatten().count() as u64;
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the table of mounts");
    [
        ("memory of its own, KiB", field(&status, "RssAnon:"), 1024),
        ("descriptors", entries(&format!("{process}/fd")), 8),
        ("threads", field(&status, "Threads:"), 4),
        ("mounts", mounts.lines().count() as u64, 0),
        ("files on disk", files(daemon.root()), 0),
        ("files of state", files(daemon.state()), 0),
    ]
}

fn files(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        1 + if is_directory { files(&entry.path()) } else { 0 }
    };
    entries.map(one).sum()
}

/// Lets `pods` come and go; fails where something grows.
pub async fn measure(pods: usize) -> ExitCode {
    let (daemon, _registry, image) = crate::daemon(Network::Bridge).await;
    let mut before = None;
    let mut done = 0;
    while done < pods {
        let names: Vec<String> = (done..done + AT_ONCE).map(|n| format!("pod-{n}")).collect();
        let mut running = tokio::task::JoinSet::new();
        for name in names {
            running.spawn(live(daemon.channel(), testkit::pod(&daemon, &name), image.clone()));
        }
        while let Some(lived) = running.join_next().await {
            lived.expect("a pod comes and goes");
        }
        done += AT_ONCE;
        if before.is_none() && done >= WARM {
            before = Some(sample(&daemon));
        }
        if done % SHOWN_EVERY < AT_ONCE {
            show(&daemon, done);
        }
    }
    let before = before.unwrap_or_else(|| sample(&daemon));
    let mut grown = false;
    for ((name, first, slack), (_, last, _)) in before.into_iter().zip(sample(&daemon)) {
        let may = first + first * GROWTH / 100 + slack;
        grown |= last > may;
        let verdict = if last > may { "BROKEN" } else { "kept" };
        let verdict = Some(format!("promised {may}: {verdict}"));
        line(&format!("{name} after {WARM} and {done} pods"), &format!("{first} {last}"), verdict);
    }
    if grown { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show(daemon: &Daemon, done: usize) {
    let now = sample(daemon).map(|(name, value, _)| format!("{name} {value}"));
    println!("{done} pods: {}", now.join(", "));
}

/// A pod from its beginning to its end.
async fn live(
    channel: tonic::transport::Channel,
    pod: cri_api::v1::PodSandboxConfig,
    image: String,
) {
    use cri_api::v1::runtime_service_client::RuntimeServiceClient;
    use cri_api::v1::{RunPodSandboxRequest, StartContainerRequest};
    let mut runtime = RuntimeServiceClient::new(channel);
    let request =
        RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: String::new() };
    let answer = runtime.run_pod_sandbox(request).await.expect("a pod");
    let pod_sandbox_id = answer.into_inner().pod_sandbox_id;
    let sleeper = testkit::sleeper("main", &image);
    let create = testkit::create_request(&pod_sandbox_id, &pod, &sleeper);
    let answer = runtime.create_container(create).await.expect("a container");
    let container_id = answer.into_inner().container_id;
    runtime.start_container(StartContainerRequest { container_id }).await.expect("it starts");
    let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    runtime.stop_pod_sandbox(stop).await.expect("it stops");
    let remove = RemovePodSandboxRequest { pod_sandbox_id };
    runtime.remove_pod_sandbox(remove).await.expect("it is removed");
}
