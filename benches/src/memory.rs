//! What the daemon and a monitor hold.

use testkit::{Daemon, Network};

use crate::samples::line;

const PODS: usize = 10;

pub async fn measure() {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    fill(&daemon, &image, PODS).await;
    let rss = field(&format!("/proc/{}/status", daemon.pid()), "VmRSS:");
    let mb = rss as f64 * 1024.0 / 1e6;
    let verdict = if mb <= 25.0 { "kept" } else { "BROKEN" };
    line(
        &format!("daemon's resident memory with {PODS} pods"),
        &format!("{mb:.1} MB"),
        Some(format!("promised 25 MB: {verdict}")),
    );
    let monitors: Vec<u64> = monitors(&daemon)
        .into_iter()
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

/// Pods with one container each.
pub async fn fill(daemon: &Daemon, image: &str, count: usize) {
    for number in 0..count {
        let pod = testkit::host_network(testkit::pod(daemon, &format!("pod-{number}")));
        let id = daemon.run_pod(&pod, "").await.expect("a pod");
        daemon.launch(&id, &pod, &testkit::sleeper("main", image)).await.expect("a container");
    }
}

/// The processes that the daemon's pods are held by.
fn monitors(daemon: &Daemon) -> Vec<u32> {
    let own = daemon.pid().to_string();
    let all = std::fs::read_dir("/proc").expect("/proc");
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_monitor = status.starts_with("Name:\tisopod-monitor");
        is_monitor && status.lines().any(|l| l.strip_prefix("PPid:\t") == Some(own.as_str()))
    })
    .collect()
}

/// The number in KiB behind a word of a file in /proc.
pub fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("{path} has no {name}"))
}
