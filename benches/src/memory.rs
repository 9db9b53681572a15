//! What the daemon and a monitor hold.

use testkit::{Daemon, Network};

use crate::samples::line;

const PODS: usize = 10;

pub async fn measure() {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    let pods = fill(&daemon, &image, PODS).await;
    let rss = field(&format!("/proc/{}/status", daemon.pid()), "VmRSS:");
    let mb = rss as f64 * 1024.0 / 1e6;
    let verdict = if mb <= 25.0 { "kept" } else { "BROKEN" };
    line(
        &format!("daemon's resident memory with {PODS} pods"),
        &format!("{mb:.1} MB"),
        Some(format!("promised 25 MB: {verdict}")),
    );
    let monitors: Vec<u64> = pods
        .iter()
        .filter_map(|pod| daemon.monitor(pod))
        .map(|pid| field(&format!("/proc/{pid}/smaps_rollup"), "Pss:"))
        .collect();
    let mean = monitors.iter().sum::<u64>() / monitors.len().max(1) as u64;
    let verdict = if !monitors.is_empty() && mean <= 1000 { "kept" } else { "BROKEN" };
    line(
        "a monitor's share of memory (PSS), mean",
        &format!("{mean} KiB   n {:4}", monitors.len()),
        Some(format!("promised 1000 KiB: {verdict}")),
    );
}

/// Containers of one pod beside the first.
const MORE: u64 = 10;

/// What a monitor has in memory for itself alone: with one container, and for each further one.
pub async fn monitor() {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    // Where there is another, what all have of the one program is not private.
    fill(&daemon, &image, 1).await;
    let pod = testkit::host_network(testkit::pod(&daemon, "one"));
    let id = daemon.run_pod(&pod, "").await.expect("a pod");
    let launch = async |name: &str| {
        daemon.launch(&id, &pod, &testkit::sleeper(name, &image)).await.expect("a container")
    };
    launch("first").await;
    let monitor = daemon.monitor(&id).expect("the pod has a monitor");
    let private = || {
        let rollup = format!("/proc/{monitor}/smaps_rollup");
        (field(&rollup, "Private_Dirty:") + field(&rollup, "Private_Clean:")) * 1024 / 1000
    };
    let with_one = private();
    for number in 0..MORE {
        launch(&format!("more-{number}")).await;
    }
    let each = private().saturating_sub(with_one) / MORE;
    for (what, found, promised) in [
        ("a monitor's private memory with one container", with_one, 150),
        ("… more with each further container", each, 20),
    ] {
        let verdict = if found < promised { "kept" } else { "BROKEN" };
        line(what, &format!("{found} kB"), Some(format!("promised {promised} kB: {verdict}")));
    }
}

/// Pods with one container each; their ids.
pub async fn fill(daemon: &Daemon, image: &str, count: usize) -> Vec<String> {
    let mut pods = Vec::new();
    for number in 0..count {
        let pod = testkit::host_network(testkit::pod(daemon, &format!("pod-{number}")));
        let id = daemon.run_pod(&pod, "").await.expect("a pod");
        daemon.launch(&id, &pod, &testkit::sleeper("main", image)).await.expect("a container");
        pods.push(id);
    }
    pods
}

/// The number in KiB behind a word of a file in /proc.
pub fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{path} has no {name}"))
}
