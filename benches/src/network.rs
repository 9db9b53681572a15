//! What a pod's network costs: with CNI's plugins, with the built-in bridge, alone and a hundred at once, and whether
//! namespaces that come and go make it dearer.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{PortMapping, RunPodSandboxRequest};
use testkit::{Daemon, Network, Setup};
use tonic::transport::Channel;

use crate::pods::{Starts, remove};
use crate::samples::{Samples, line};

const ROUNDS: usize = 30;
/// Pods at once.
const PODS: usize = 100;
/// Plugins at once, as a node has it that says nothing.
const PLUGINS: usize = 10;
/// Namespaces that come and go.
const NAMESPACES: usize = 500;
/// Of these the first and the last so many are compared.
const COMPARED: usize = 100;
/// A node rests between pods.
const REST: Duration = Duration::from_millis(50);
const OWN_SHARE_MS: f64 = 5.0;
const BRIDGE_MS: f64 = 3.0;
const BRIDGE_RATIO: f64 = 1.3;
/// By how much the last may be above the first, for what a machine does beside it.
const FLAT_RATIO: f64 = 1.15;

/// Debian's plugins; `@` is the daemon's own directory.
const CHAIN: &str = r#"{ "cniVersion": "1.0.0", "name": "bench", "plugins": [
  { "type": "bridge", "bridge": "cni-bench", "isGateway": true, "ipMasq": true,
    "ipam": { "type": "host-local", "dataDir": "@", "ranges": [[{ "subnet": "10.78.0.0/16" }]],
              "routes": [{ "dst": "0.0.0.0/0" }] } },
  { "type": "portmap", "capabilities": { "portMappings": true } } ] }"#;

pub async fn measure() {
    own_share().await;
    Box::pin(built_in()).await;
    at_once().await;
    namespaces().await;
}

fn setup() -> Setup {
    let setup = Setup::new().state_in_memory();
    let metrics = setup.directory().join("metrics.sock").display().to_string();
    setup.toml(&format!("log.level = \"warn\"\nmetrics.address = {metrics:?}"))
}

/// The sum of all series of the daemon's metrics that begin so, in seconds.
fn seconds(daemon: &Daemon, series: &str) -> f64 {
    let socket = daemon.directory().join("metrics.sock");
    let mut stream = UnixStream::connect(socket).expect("the daemon serves metrics");
    let request = b"GET /metrics HTTP/1.1\r\nHost: isopod\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let values = text.lines().filter(|line| line.starts_with(series));
    values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

type Runtime = RuntimeServiceClient<Channel>;

async fn run(daemon: &Daemon, runtime: &Runtime, name: &str, host_port: i32) -> (String, Duration) {
    let mut pod = testkit::pod(daemon, name);
    if host_port > 0 {
        pod.port_mappings =
            vec![PortMapping { container_port: 80, host_port, ..PortMapping::default() }];
    }
    let request = RunPodSandboxRequest { config: Some(pod), ..Default::default() };
    let mut runtime = runtime.clone();
    let began = Instant::now();
    let answer = runtime.run_pod_sandbox(request).await.expect("a pod");
    (answer.into_inner().pod_sandbox_id, began.elapsed())
}

/// RunPodSandbox with a chain of real plugins: the call, and what is left of it without their processes.
async fn own_share() {
    let daemon = setup().cni(CHAIN).start().await;
    let runtime = daemon.runtime();
    let (mut calls, mut plugins, mut ours) =
        (Samples::default(), Samples::default(), Samples::default());
    let mut network = Samples::default();
    let added = "isopod_plugin_seconds_sum{";
    let phase = r#"isopod_phase_seconds_total{kind="RunPodSandbox",phase="network"}"#;
    let mut pods = Vec::new();
    for round in 0..=ROUNDS {
        let before = (seconds(&daemon, added), seconds(&daemon, phase));
        let (id, took) =
            run(&daemon, &runtime, &format!("chain-{round}"), 20_000 + round as i32).await;
        pods.push(id);
        let processes = Duration::from_secs_f64(seconds(&daemon, added) - before.0);
        let all = Duration::from_secs_f64(seconds(&daemon, phase) - before.1);
        // The first makes the bridge and the chains of iptables.
        if round > 0 {
            calls.add(took);
            plugins.add(processes);
            ours.add(took.saturating_sub(processes));
            network.add(all.saturating_sub(processes));
        }
        tokio::time::sleep(REST).await;
    }
    calls.print("RunPodSandbox, bridge, host-local and portmap", None);
    plugins.print("  the plugins' processes", None);
    ours.print("  our own share: all but these", Some(OWN_SHARE_MS));
    network.print("  of it between the plugins: records, and starting them", None);
    for id in pods {
        remove(&daemon, id).await;
    }
}

/// The built-in network beside the host's, turn by turn on one daemon.
async fn built_in() {
    let registry = testkit::Registry::start(testkit::Scheme::Http);
    registry.push(&testkit::busybox(testkit::Compression::Gzip), "bench/busybox:1");
    let daemon = setup().registry(&registry).network(Network::Bridge).start().await;
    let image = registry.reference("bench/busybox:1");
    daemon.pull(&image).await.expect("the image is pulled");
    let (mut host, mut bridge) = (Starts::on(&daemon), Starts::on(&daemon));
    let mut network = Samples::default();
    let phases = ["netns", "network"]
        .map(|p| format!(r#"isopod_phase_seconds_total{{kind="RunPodSandbox",phase="{p}"}}"#));
    let spent = || phases.iter().map(|series| seconds(&daemon, series)).sum::<f64>();
    for round in 0..=ROUNDS {
        let pod = testkit::host_network(testkit::pod(&daemon, &format!("host-{round}")));
        host.one(&image, &pod).await;
        tokio::time::sleep(REST).await;
        let before = spent();
        let pod = testkit::pod(&daemon, &format!("bridge-{round}"));
        bridge.one(&image, &pod).await;
        if round > 0 {
            network.add(Duration::from_secs_f64(spent() - before));
        }
        tokio::time::sleep(REST).await;
    }
    let ratio = bridge.median().as_secs_f64() / host.median().as_secs_f64();
    host.print(&daemon, "host network", None).await;
    bridge.print(&daemon, "built-in bridge", None).await;
    let verdict = if ratio <= BRIDGE_RATIO { "kept" } else { "BROKEN" };
    let promise = format!("promised {BRIDGE_RATIO}: {verdict}");
    line("  built-in bridge to host network, medians", &format!("{ratio:.2}"), Some(promise));
    network.print("  the pod's network: its namespace, and joining", Some(BRIDGE_MS));
}

/// A call of a plugin: when it began and ended, in nanoseconds, and for whom.
#[derive(Debug, Clone)]
struct Call {
    began: u64,
    ended: u64,
    sandbox: String,
}

/// Puts a program before each plugin that notes when it runs; gives the directory.
fn recording(directory: &Path) {
    std::fs::create_dir_all(directory.join("calls")).expect("a directory");
    for kind in ["bridge", "host-local", "portmap"] {
        let script = format!(
            "#!/bin/sh\nbegan=$(date +%s%N)\n/usr/lib/cni/{kind}\nstatus=$?\n\
             [ \"$CNI_COMMAND\" = ADD ] && [ {kind} != host-local ] && \
             echo \"$began $(date +%s%N) $CNI_CONTAINERID\" > {}/calls/$$.{kind}\nexit $status\n",
            directory.display()
        );
        let at = directory.join(kind);
        std::fs::write(&at, script).expect("a program");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&at, mode).expect("it can be executed");
    }
}

fn recorded(directory: &Path) -> Vec<Call> {
    let entries = std::fs::read_dir(directory.join("calls")).expect("calls of plugins");
    let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let call = |text: String| {
        let mut words = text.split_ascii_whitespace();
        let mut number = || words.next()?.parse().ok();
        let (began, ended) = (number()?, number()?);
        Some(Call { began, ended, sandbox: words.next()?.to_owned() })
    };
    let mut calls: Vec<Call> = texts.filter_map(call).collect();
    calls.sort_by_key(|call| call.began);
    calls
}

/// A hundred pods at once: how many plugins run together, and how long the one waits that waits longest.
async fn at_once() {
    let base = setup();
    let plugins = base.directory().join("plugins");
    recording(&plugins);
    let dirs = format!(
        "network.cni.plugin_dirs = [{:?}]\nnetwork.cni.plugins_at_once = {PLUGINS}",
        plugins.display().to_string()
    );
    let daemon = base.cni(CHAIN).toml(&dirs).start().await;
    let runtime = daemon.runtime();
    let began = Instant::now();
    let names: Vec<String> = (0..PODS).map(|n| format!("one-{n}")).collect();
    let runs = names.iter().map(|name| run(&daemon, &runtime, name, 0));
    let done = futures_util::future::join_all(runs).await;
    let whole = began.elapsed();
    let calls = recorded(&plugins);
    assert_eq!(calls.len(), 2 * PODS, "each pod has two plugins");
    let together = |call: &Call| {
        calls.iter().filter(|one| one.began <= call.began && one.ended > call.began).count()
    };
    let most = calls.iter().map(together).max().unwrap_or_default();
    let mut of_pod: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in &calls {
        of_pod.entry(&call.sandbox).or_default().push(call);
    }
    let waits = of_pod.values().filter_map(|two| Some(two.get(1)?.began - two.first()?.ended));
    let longest = Duration::from_nanos(waits.max().unwrap_or_default());
    let seconds = whole.as_secs_f64();
    line(
        &format!("{PODS} pods at once, all ready, {PLUGINS} plugins at once"),
        &format!("{seconds:.2} s, {:.1} ms each", seconds * 1000.0 / PODS as f64),
        None,
    );
    let verdict = if most <= PLUGINS { "kept" } else { "BROKEN" };
    line(
        "  plugins that ran together",
        &format!("{most}"),
        Some(format!("promised {PLUGINS}: {verdict}")),
    );
    // Whoever waits has before him at most what each other pod asks for once.
    let verdict = if longest < whole { "kept" } else { "BROKEN" };
    line(
        "  the longest that a pod waited between its plugins",
        &format!("{:.2} s", longest.as_secs_f64()),
        Some(format!("promised less than all together: {verdict}")),
    );
    for (id, _) in done {
        remove(&daemon, id).await;
    }
}

/// Pods with a namespace and no more in it come and go one after the other.
async fn namespaces() {
    let daemon = setup().network(Network::None).start().await;
    let runtime = daemon.runtime();
    let (mut made, mut removed) = (Vec::new(), Vec::new());
    for round in 0..NAMESPACES {
        let (id, took) = run(&daemon, &runtime, &format!("netns-{round}"), 0).await;
        made.push(took);
        let began = Instant::now();
        remove(&daemon, id).await;
        removed.push(began.elapsed());
    }
    for (what, times) in [("RunPodSandbox", made), ("its stop and removal", removed)] {
        let median = |part: &[Duration]| {
            let mut samples = Samples::default();
            part.iter().for_each(|took| samples.add(*took));
            samples.median().as_secs_f64() * 1000.0
        };
        let first = median(&times[..COMPARED]);
        let last = median(&times[times.len() - COMPARED..]);
        let verdict = if last <= first * FLAT_RATIO { "kept" } else { "BROKEN" };
        line(
            &format!("{what}: the first and last {COMPARED} of {NAMESPACES} namespaces"),
            &format!("medians {first:.2} ms and {last:.2} ms"),
            Some(format!("promised {FLAT_RATIO} times: {verdict}")),
        );
    }
}
