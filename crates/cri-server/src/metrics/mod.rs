//! ListMetricDescriptors, ListPodSandboxMetrics, StreamPodSandboxMetrics: what cAdvisor measured, so that a
//! node can do without it.
//!
//! Owns: the table of metrics, from which both the descriptors and the values come. Always: a metric has as
//! many label values as its descriptor has keys; what the kernel does not say is left out, never 0.
//! Callers: the runtime service.

mod families;

use std::sync::Arc;

use cri_api::v1;
use futures_util::StreamExt as _;
use pods::{
    ContainerFilter, ContainerStatus, Detail, InterfaceStats, SandboxFilter, SandboxStatus, Usage,
};
use tonic::{Response, Status};

use crate::stream::{Streamed, pieces};
use crate::{Inner, code};
use families::{FAMILIES, Family};

/// Pods that are read at the same time.
const AT_ONCE: usize = 16;
/// Labels of every metric, as the kubelet's own have them.
const LABELS: [&str; 6] = ["container", "id", "image", "name", "namespace", "pod"];

/// Of whom a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A container's and a pod's.
    Both,
    /// A container's.
    Container,
    /// A pod's.
    Pod,
}

/// What was read of one container or pod.
struct Sample<'a> {
    usage: &'a Usage,
    interfaces: &'a [InterfaceStats],
    container: Option<&'a ContainerStatus>,
}

/// A value, with the values of the labels that its family adds.
type Value = (Vec<String>, u64);

pub(crate) fn descriptors() -> v1::ListMetricDescriptorsResponse {
    let descriptors = FAMILIES.iter().map(|family| v1::MetricDescriptor {
        name: family.name.to_owned(),
        help: family.help.to_owned(),
        label_keys: LABELS.iter().chain(family.labels).map(|key| (*key).to_owned()).collect(),
    });
    v1::ListMetricDescriptorsResponse { descriptors: descriptors.collect() }
}

pub(crate) async fn list(
    inner: &Inner,
) -> Result<Response<v1::ListPodSandboxMetricsResponse>, Status> {
    let pod_metrics = all(inner).await;
    Ok(Response::new(v1::ListPodSandboxMetricsResponse { pod_metrics }))
}

pub(crate) async fn stream(
    inner: &Inner,
) -> Result<Response<Streamed<v1::StreamPodSandboxMetricsResponse>>, Status> {
    let all = all(inner).await;
    Ok(pieces(all, |pod_sandbox_metrics| v1::StreamPodSandboxMetricsResponse {
        pod_sandbox_metrics,
    }))
}

/// A pod that is gone meanwhile, or cannot be read, is not in it and does not spoil the rest.
async fn all(inner: &Inner) -> Vec<v1::PodSandboxMetrics> {
    let sandboxes = inner.services.pods.list_sandboxes(&SandboxFilter::default());
    let read = sandboxes.into_iter().map(|sandbox| async move { pod(inner, &sandbox).await.ok() });
    let read: Vec<_> = futures_util::stream::iter(read).buffered(AT_ONCE).collect().await;
    read.into_iter().flatten().collect()
}

async fn pod(inner: &Inner, sandbox: &SandboxStatus) -> Result<v1::PodSandboxMetrics, Status> {
    let pods = &inner.services.pods;
    let asked = pods.sandbox_usage(&sandbox.id, Detail::Whole).await;
    let (usage, interfaces) = asked.map_err(|error| code::status(&error))?;
    let cgroup = sandbox.cgroup.clone().unwrap_or_default();
    let base = labels(sandbox, None, &cgroup);
    let sample = Sample { usage: &usage, interfaces: &interfaces, container: None };
    let metrics = values(&sample, Whose::Pod, &base);
    let filter =
        ContainerFilter { sandbox: Some(sandbox.id.clone()), ..ContainerFilter::default() };
    let mut container_metrics = Vec::new();
    for container in pods.list_containers(&filter) {
        if let Ok(usage) = pods.container_usage(&container.id, Detail::Whole).await {
            container_metrics.push(of_container(sandbox, &container, &usage));
        }
    }
    Ok(v1::PodSandboxMetrics { pod_sandbox_id: sandbox.id.to_string(), metrics, container_metrics })
}

fn of_container(
    sandbox: &SandboxStatus,
    container: &Arc<ContainerStatus>,
    usage: &Usage,
) -> v1::ContainerMetrics {
    let base = labels(sandbox, Some(container), &container.cgroup);
    let sample = Sample { usage, interfaces: &[], container: Some(container) };
    v1::ContainerMetrics {
        container_id: container.id.to_string(),
        metrics: values(&sample, Whose::Container, &base),
    }
}

/// Values of [`LABELS`].
fn labels(
    sandbox: &SandboxStatus,
    container: Option<&ContainerStatus>,
    cgroup: &str,
) -> [String; 6] {
    let of_container = |text: fn(&ContainerStatus) -> String| container.map(text);
    [
        of_container(|c| c.config.metadata.name.clone()).unwrap_or_default(),
        cgroup.to_owned(),
        of_container(|c| c.config.image.image.clone()).unwrap_or_default(),
        of_container(|c| c.id.to_string()).unwrap_or_default(),
        sandbox.config.metadata.namespace.clone(),
        sandbox.config.metadata.name.clone(),
    ]
}

fn values(sample: &Sample<'_>, whose: Whose, base: &[String; 6]) -> Vec<v1::Metric> {
    let mut metrics = Vec::new();
    let wanted = |family: &&Family| family.whose == Whose::Both || family.whose == whose;
    for family in FAMILIES.iter().filter(wanted) {
        for (more, value) in (family.read)(sample) {
            metrics.push(v1::Metric {
                name: family.name.to_owned(),
                timestamp: sample.usage.at.0,
                metric_type: family.kind.into(),
                label_values: base.iter().cloned().chain(more).collect(),
                value: Some(v1::UInt64Value { value }),
            });
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use model::Timestamp;
    use pods::Stats;

    use super::*;

    /// Statistics in which the kernel says everything.
    fn everything() -> Usage {
        let stats = Stats {
            cpu: Some(Default::default()),
            memory: Some(Default::default()),
            pids: Some(Default::default()),
            io: vec![Default::default()],
            hugetlb: vec![Default::default()],
            cpu_pressure: Some(Default::default()),
            memory_pressure: Some(Default::default()),
            io_pressure: Some(Default::default()),
        };
        Usage { at: Timestamp(5), cgroup: Some(stats), writable: None, cpu_rate: None }
    }

    #[test]
    fn every_metric_has_a_descriptor_with_as_many_labels() {
        let usage = everything();
        let interfaces = [InterfaceStats { name: "eth0".into(), ..InterfaceStats::default() }];
        let sample = Sample { usage: &usage, interfaces: &interfaces, container: None };
        let base = LABELS.map(str::to_owned);
        let described = descriptors().descriptors;
        let mut seen = std::collections::BTreeSet::new();
        for whose in [Whose::Pod, Whose::Container] {
            for metric in values(&sample, whose, &base) {
                let descriptor = described.iter().find(|d| d.name == metric.name).unwrap();
                assert_eq!(
                    descriptor.label_keys.len(),
                    metric.label_values.len(),
                    "{}",
                    metric.name
                );
                seen.insert(metric.name);
            }
        }
        assert!(seen.len() > 30, "{seen:?}");
        assert!(seen.contains("container_cpu_usage_seconds_total"));
    }

    #[test]
    fn names_are_unique_and_described() {
        let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(FAMILIES.iter().all(|family| family.help.ends_with('.')));
    }

    #[test]
    fn what_the_kernel_does_not_say_is_left_out() {
        let usage = Usage { at: Timestamp(5), cgroup: None, writable: None, cpu_rate: None };
        let sample = Sample { usage: &usage, interfaces: &[], container: None };
        let base = LABELS.map(str::to_owned);
        let names: Vec<String> =
            values(&sample, Whose::Container, &base).into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["container_last_seen"]);
    }
}
