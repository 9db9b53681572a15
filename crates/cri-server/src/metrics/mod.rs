//! ListMetricDescriptors, ListPodSandboxMetrics, StreamPodSandboxMetrics: what cAdvisor measured, so that a
//! node can do without it.
//!
//! Owns: the table of metrics, from which both the descriptors and the values come. Always: a metric has as
//! many label values as its descriptor has keys; what the kernel does not say is left out, never 0; only what
//! runs is measured: ready pods, and containers that have not ended.
//! Callers: the runtime service.

mod families;

use std::sync::Arc;

use cri_api::v1;
use futures_util::StreamExt as _;
use model::{SandboxState, State, Timestamp};
use pods::{
    ContainerFilter, ContainerStateKind, ContainerStatus, Detail, InterfaceStats, SandboxFilter,
    SandboxStatus, Usage,
};
use tonic::{Response, Status};

use crate::stream::{Streamed, pieces};
use crate::{Inner, code};
use families::{FAMILIES, Family};

/// Pods, and containers of one pod, that are read at the same time.
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
    /// Since when it is there.
    started_at: Option<Timestamp>,
    /// The CPU shares that a container was asked to have.
    asked_shares: Option<u64>,
}

/// A value, with the values of the labels that its family adds.
type Value = (Vec<String>, u64);

/// What can be measured here: a metric that no machine of this kind has is not described, because whoever
/// reads a description waits for values.
pub(crate) fn descriptors(counts_huge_pages: bool) -> v1::ListMetricDescriptorsResponse {
    let here = FAMILIES.iter().filter(|family| counts_huge_pages || !family.needs_huge_pages);
    let descriptors = here.map(|family| v1::MetricDescriptor {
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
    let ready = SandboxFilter { state: Some(SandboxState::Ready), ..SandboxFilter::default() };
    let sandboxes = inner.services.pods.list_sandboxes(&ready);
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
    let sample = Sample {
        usage: &usage,
        interfaces: &interfaces,
        started_at: Some(sandbox.created_at),
        asked_shares: None,
    };
    let metrics = values(&sample, Whose::Pod, &base);
    let filter = ContainerFilter {
        sandbox: Some(sandbox.id.clone()),
        state: Some(ContainerStateKind::Running),
        ..ContainerFilter::default()
    };
    let read = pods.list_containers(&filter).into_iter().map(|container| async move {
        let usage = pods.container_usage(&container.id, Detail::Whole).await.ok()?;
        Some(of_container(sandbox, &container, &usage))
    });
    let read: Vec<_> = futures_util::stream::iter(read).buffered(AT_ONCE).collect().await;
    let container_metrics = read.into_iter().flatten().collect();
    Ok(v1::PodSandboxMetrics { pod_sandbox_id: sandbox.id.to_string(), metrics, container_metrics })
}

fn of_container(
    sandbox: &SandboxStatus,
    container: &Arc<ContainerStatus>,
    usage: &Usage,
) -> v1::ContainerMetrics {
    let base = labels(sandbox, Some(container), &container.cgroup);
    let started_at = match &container.state {
        State::Created => None,
        State::Running { started_at } | State::Exited { started_at, .. } => Some(*started_at),
    };
    let asked_shares = container.resources.cpu_shares.filter(|shares| *shares > 0);
    let sample = Sample { usage, interfaces: &[], started_at, asked_shares };
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
mod tests;
