//! Figures and metrics: made up, with a time and an owner that are true.

use std::collections::BTreeMap;

use cri_api::v1::*;

use crate::fault::Fault;
use crate::world::{Container, Pod, Tables, World, now};

fn number(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

fn cpu(since: i64) -> Option<CpuUsage> {
    let age = u64::try_from(now() - since).unwrap_or_default();
    Some(CpuUsage {
        timestamp: now(),
        // A thousandth of a core.
        usage_core_nano_seconds: number(age / 1000),
        usage_nano_cores: number(1_000_000),
        psi: None,
    })
}

fn memory() -> Option<MemoryUsage> {
    let bytes = number(8 << 20);
    Some(MemoryUsage {
        timestamp: now(),
        working_set_bytes: bytes,
        usage_bytes: bytes,
        rss_bytes: bytes,
        ..Default::default()
    })
}

pub(crate) fn container(world: &World, id: &str, one: &Container) -> ContainerStats {
    let attributes = ContainerAttributes {
        id: id.to_owned(),
        metadata: one.config.metadata.clone(),
        labels: one.config.labels.clone(),
        annotations: one.config.annotations.clone(),
    };
    ContainerStats {
        attributes: Some(attributes).filter(|_| !world.has(Fault::StatsBare)),
        cpu: cpu(one.started_at),
        memory: memory(),
        ..Default::default()
    }
}

/// Whether all labels of a selector are there.
pub(crate) fn fits(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Whether it has figures in lists.
fn runs(world: &World, one: &Container) -> bool {
    one.state == ContainerState::ContainerRunning || world.has(Fault::StatsEnded)
}

pub(crate) fn containers(world: &World, filter: &ContainerStatsFilter) -> Vec<ContainerStats> {
    let tables = world.lock();
    let all = tables.containers.iter().filter(|(id, one)| {
        runs(world, one)
            && (filter.id.is_empty() || filter.id == **id)
            && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == one.pod)
            && fits(&one.config.labels, &filter.label_selector)
    });
    all.map(|(id, one)| container(world, id, one)).collect()
}

pub(crate) fn pod(world: &World, tables: &Tables, id: &str, one: &Pod) -> PodSandboxStats {
    let attributes = PodSandboxAttributes {
        id: id.to_owned(),
        metadata: one.config.metadata.clone(),
        labels: one.config.labels.clone(),
        annotations: one.config.annotations.clone(),
    };
    let ours = tables
        .containers
        .iter()
        .filter(|(_, container)| container.pod == id && runs(world, container));
    let containers: Vec<_> = ours.map(|(id, one)| container(world, id, one)).collect();
    let process =
        ProcessUsage { timestamp: now(), process_count: number(1 + containers.len() as u64) };
    let linux = LinuxPodSandboxStats {
        cpu: cpu(one.created_at),
        memory: memory(),
        network: None,
        process: Some(process),
        containers,
        io: None,
    };
    PodSandboxStats {
        attributes: Some(attributes).filter(|_| !world.has(Fault::StatsBare)),
        linux: Some(linux),
        windows: None,
    }
}

pub(crate) fn pods(world: &World, filter: &PodSandboxStatsFilter) -> Vec<PodSandboxStats> {
    let tables = world.lock();
    let all = tables.pods.iter().filter(|(id, one)| {
        one.is_ready
            && (filter.id.is_empty() || filter.id == **id)
            && fits(&one.config.labels, &filter.label_selector)
    });
    all.map(|(id, one)| pod(world, &tables, id, one)).collect()
}

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";

pub(crate) fn descriptors(world: &World) -> Vec<MetricDescriptor> {
    let keys = ["id", "name"].map(str::to_owned).to_vec();
    let one = |name: &str, help: &str| MetricDescriptor {
        name: name.to_owned(),
        help: help.to_owned(),
        label_keys: keys.clone(),
    };
    let mut all = vec![one(CPU, "CPU time used, in seconds.")];
    if !world.has(Fault::MetricUndescribed) {
        all.push(one(MEMORY, "Working set, in bytes."));
    }
    all
}

fn metrics(world: &World, id: &str, name: &str, since: i64) -> Vec<Metric> {
    let mut labels = vec![id.to_owned(), name.to_owned()];
    if world.has(Fault::MetricLabels) {
        labels.pop();
    }
    let seconds = u64::try_from((now() - since) / 1_000_000_000).unwrap_or_default();
    let one = |name: &str, kind: MetricType, value| Metric {
        name: name.to_owned(),
        timestamp: now(),
        metric_type: kind.into(),
        label_values: labels.clone(),
        value: number(value),
    };
    vec![one(CPU, MetricType::Counter, seconds), one(MEMORY, MetricType::Gauge, 8 << 20)]
}

pub(crate) fn pod_metrics(world: &World) -> Vec<PodSandboxMetrics> {
    let tables = world.lock();
    let all = tables.pods.iter().filter(|(_, pod)| pod.is_ready).map(|(pod_id, pod)| {
        let ours =
            tables.containers.iter().filter(|(_, one)| one.pod == *pod_id && runs(world, one));
        let container_metrics = ours.map(|(id, one)| {
            let name = one.config.metadata.as_ref().map_or("", |metadata| &metadata.name);
            let metrics = metrics(world, id, name, one.started_at);
            ContainerMetrics { container_id: id.clone(), metrics }
        });
        PodSandboxMetrics {
            pod_sandbox_id: pod_id.clone(),
            metrics: metrics(world, pod_id, "", pod.created_at),
            container_metrics: container_metrics.collect(),
        }
    });
    all.collect()
}
