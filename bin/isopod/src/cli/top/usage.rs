//! What an object has used so far, and what it uses in a second.

use std::collections::BTreeMap;

use cri_api::v1::{
    ContainerStats, CpuUsage, Metric, NetworkUsage, PodSandboxMetrics, PodSandboxStats, PsiStats,
    UInt64Value,
};
use serde_json::{Value, json};

use crate::cli::find::POD_NAME;

/// Of a pod or a container, counted since its beginning.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Usage {
    pub id: String,
    pub is_pod: bool,
    pub name: String,
    /// When it was read, in nanoseconds since 1970.
    pub at: i64,
    pub cpu_ns: u64,
    pub memory: u64,
    pub io: u64,
    pub network: u64,
    /// Not every runtime tells it of a container.
    pub processes: Option<u64>,
    /// Percent of the last ten seconds in which some task waited: for CPU, memory, I/O.
    pub pressure: Option<[f64; 3]>,
}

/// What it uses.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rate {
    pub id: String,
    pub is_pod: bool,
    pub name: String,
    /// Thousandths of a core.
    pub millicores: Option<u64>,
    pub memory: u64,
    /// Bytes in a second.
    pub io: Option<u64>,
    pub network: Option<u64>,
    pub processes: Option<u64>,
    pub pressure: Option<[f64; 3]>,
}

/// For programs.
pub fn json(rate: &Rate) -> Value {
    let waits =
        rate.pressure.map(|[cpu, memory, io]| json!({ "cpu": cpu, "memory": memory, "io": io }));
    json!({
        "kind": if rate.is_pod { "pod" } else { "container" },
        "id": rate.id,
        "name": rate.name,
        "millicores": rate.millicores,
        "memoryBytes": rate.memory,
        "ioBytesPerSecond": rate.io,
        "networkBytesPerSecond": rate.network.filter(|_| rate.is_pod),
        "processes": rate.processes,
        "waitsPercent": waits,
    })
}

/// All pods and containers of an answer.
pub fn read(pods: &[PodSandboxStats], metrics: &[PodSandboxMetrics]) -> Vec<Usage> {
    let more = more_of(metrics);
    let mut all = Vec::new();
    for pod in pods {
        let attributes = pod.attributes.clone().unwrap_or_default();
        let metadata = attributes.metadata.unwrap_or_default();
        let name = format!("{}/{}", metadata.namespace, metadata.name);
        let Some(linux) = &pod.linux else { continue };
        let psi = [
            linux.cpu.as_ref().and_then(|cpu| cpu.psi.as_ref()),
            linux.memory.as_ref().and_then(|memory| memory.psi.as_ref()),
            linux.io.as_ref().and_then(|io| io.psi.as_ref()),
        ];
        let of_containers = linux.containers.iter().map(|one| container(one, &name, &more));
        let containers: Vec<Usage> = of_containers.collect();
        all.push(Usage {
            io: containers.iter().map(|one| one.io).sum(),
            id: attributes.id,
            is_pod: true,
            name,
            at: linux.cpu.as_ref().map_or(0, |cpu| cpu.timestamp),
            cpu_ns: cpu(linux.cpu.as_ref()),
            memory: linux.memory.as_ref().map_or(0, |m| value(m.working_set_bytes.as_ref())),
            network: network(linux.network.as_ref()),
            processes: linux.process.as_ref().map(|p| value(p.process_count.as_ref())),
            pressure: pressure(psi),
        });
        all.extend(containers);
    }
    all
}

fn container(stats: &ContainerStats, pod: &str, more: &BTreeMap<&str, More>) -> Usage {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let own = attributes.metadata.unwrap_or_default().name;
    // A pod is called by its label where the runtime gives no better name.
    let label = attributes.labels.get(POD_NAME).cloned().unwrap_or_default();
    let pod = if pod.len() > 1 { pod } else { &label };
    let psi = [
        stats.cpu.as_ref().and_then(|cpu| cpu.psi.as_ref()),
        stats.memory.as_ref().and_then(|memory| memory.psi.as_ref()),
        stats.io.as_ref().and_then(|io| io.psi.as_ref()),
    ];
    let more = more.get(attributes.id.as_str()).copied().unwrap_or_default();
    Usage {
        io: more.io,
        is_pod: false,
        name: format!("{pod}/{own}"),
        at: stats.cpu.as_ref().map_or(0, |cpu| cpu.timestamp),
        cpu_ns: cpu(stats.cpu.as_ref()),
        memory: stats.memory.as_ref().map_or(0, |m| value(m.working_set_bytes.as_ref())),
        network: 0,
        processes: more.processes,
        pressure: pressure(psi),
        id: attributes.id,
    }
}

fn value(value: Option<&UInt64Value>) -> u64 {
    value.map_or(0, |value| value.value)
}

fn cpu(cpu: Option<&CpuUsage>) -> u64 {
    cpu.map_or(0, |cpu| value(cpu.usage_core_nano_seconds.as_ref()))
}

fn network(network: Option<&NetworkUsage>) -> u64 {
    let Some(network) = network else { return 0 };
    let all = network.default_interface.iter().chain(&network.interfaces);
    all.map(|one| value(one.rx_bytes.as_ref()) + value(one.tx_bytes.as_ref())).sum()
}

/// `None` where the kernel tells none of them.
fn pressure(psi: [Option<&PsiStats>; 3]) -> Option<[f64; 3]> {
    let some =
        |one: Option<&PsiStats>| one.and_then(|psi| psi.some.as_ref()).map_or(0.0, |p| p.avg10);
    psi.iter().any(Option::is_some).then(|| psi.map(some))
}

/// What is among a container's metrics alone.
#[derive(Debug, Clone, Copy, Default)]
struct More {
    /// Bytes read and written.
    io: u64,
    processes: Option<u64>,
}

/// By container.
fn more_of(metrics: &[PodSandboxMetrics]) -> BTreeMap<&str, More> {
    let of = |all: &[Metric]| {
        let mut more = More::default();
        for metric in all {
            let value = value(metric.value.as_ref());
            match metric.name.as_str() {
                "container_fs_reads_bytes_total" | "container_fs_writes_bytes_total" => {
                    more.io += value;
                }
                "container_processes" => more.processes = Some(value),
                _ => {}
            }
        }
        more
    };
    let containers = metrics.iter().flat_map(|pod| &pod.container_metrics);
    containers.map(|one| (one.container_id.as_str(), of(&one.metrics))).collect()
}

/// What is used in a second between two looks. What is new has no rate yet.
pub fn between(before: &[Usage], now: &[Usage]) -> Vec<Rate> {
    let known: BTreeMap<&str, &Usage> = before.iter().map(|one| (one.id.as_str(), one)).collect();
    let rate = |now: &Usage| {
        let last = known.get(now.id.as_str()).filter(|last| now.at > last.at);
        let per_second = |now: u64, last: u64, time: i64| {
            let more = u128::from(now.saturating_sub(last)) * 1_000_000_000;
            u64::try_from(more / u128::from(time.unsigned_abs().max(1))).unwrap_or(u64::MAX)
        };
        let of = |count: fn(&Usage) -> u64| {
            last.map(|last| per_second(count(now), count(last), now.at - last.at))
        };
        Rate {
            id: now.id.clone(),
            is_pod: now.is_pod,
            name: now.name.clone(),
            millicores: of(|one| one.cpu_ns).map(|ns| ns.div_ceil(1_000_000)),
            memory: now.memory,
            io: of(|one| one.io),
            network: of(|one| one.network),
            processes: now.processes,
            pressure: now.pressure,
        }
    };
    now.iter().map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_taken_between_two_looks_and_what_is_new_has_none() {
        let usage = |id: &str, at, cpu_ns, io| Usage {
            id: id.to_owned(),
            at,
            cpu_ns,
            io,
            ..Usage::default()
        };
        let second = 1_000_000_000;
        let before = [usage("a", 0, 0, 100)];
        let now = [usage("a", 2 * second, 500_000_000, 300), usage("b", 2 * second, 7, 7)];
        let rates = between(&before, &now);
        assert_eq!((rates[0].millicores, rates[0].io), (Some(250), Some(100)));
        assert_eq!((rates[1].millicores, rates[1].io), (None, None));
        assert_eq!(between(&now, &now)[0].millicores, None, "no time has passed");
    }
}
