//! What the machine is, and what it is busy with (proc(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::endpoint::MARK;

/// Ticks of a second in /proc/stat, which is the same for every program (USER_HZ).
const TICKS: f64 = 100.0;

/// The machine in a few lines: name and value.
pub fn describe() -> Vec<(String, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| {
            Some(line.split_once([':', '='])?.1.trim().trim_matches('"').to_owned())
        })
    };
    let processors = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let model = field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
    let system = field(&read("/etc/os-release"), "PRETTY_NAME").unwrap_or_default();
    [
        ("processors", format!("{processors} × {model}")),
        ("memory", memory),
        ("system", system),
        // Without what its builder calls it.
        ("kernel", read("/proc/sys/kernel/osrelease").split(['-', '\n']).take(1).collect()),
        ("cgroups", format!("v{}", cgroup_version())),
        ("load before the end", read("/proc/loadavg").trim().to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// The version of cgroups that has the controllers.
pub fn cgroup_version() -> u8 {
    if fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false) { 2 } else { 1 }
}

/// What a container, and one more process in one, cost at the least here, in milliseconds: by this program, in a
/// process that has one thread. Nothing where it cannot be told.
pub fn floor() -> Option<(f64, f64)> {
    let mut command = std::process::Command::new(std::env::current_exe().ok()?);
    let out = command.arg("floor").stderr(std::process::Stdio::inherit()).output().ok()?;
    if !out.status.success() {
        eprintln!("the floor cannot be measured: {}", out.status);
        return None;
    }
    let text = String::from_utf8(out.stdout).ok()?;
    let (container, exec) = text.trim().split_once(' ')?;
    Some((container.parse().ok()?, exec.parse().ok()?))
}

/// CPU time of the whole machine but for this process: what the kernel does for the runtimes, their short-lived
/// programs and the containers.
pub fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, irq, softirq: not idle, not waiting, not stolen.
    let all: f64 = [0, 1, 2, 5, 6].iter().filter_map(|at| ticks.get(*at)).sum();
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let own: Vec<&str> = own.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let tick = |at: usize| own.get(at).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
    Duration::from_secs_f64(((all - tick(11) - tick(12)) / TICKS).max(0.0))
}

/// Every process that there is.
pub fn processes() -> BTreeSet<u32> {
    let all = fs::read_dir("/proc").expect("/proc");
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The process that started another one, or that was given it.
pub fn parent(pid: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name, which may have anything in it: the state, then the parent.
    text.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// Whether a process has the network of the machine and `daemon` has not: then neither came of the other.
pub fn is_elsewhere(pid: u32, daemon: u32) -> bool {
    let network = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let machine = network(1);
    machine.is_some() && network(pid) == machine && network(daemon) != machine
}

/// Memory in KiB, each shared page counted by its share (PSS).
pub fn pss(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Of these processes, those that belong to a runtime: they have memory, and none of a container's words on
/// their command line.
pub fn of_runtime(pids: impl Iterator<Item = u32>) -> BTreeMap<u32, u64> {
    let is_of_container = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(MARK.len()).any(|window| window == MARK.as_bytes())
    };
    pids.filter(|pid| !is_of_container(*pid)).filter_map(|pid| Some((pid, pss(pid)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_parent() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent(u32::MAX), None);
    }
}
