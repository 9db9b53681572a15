//! ContainerStats, PodSandboxStats, their lists and streams.
//!
//! Always: numbers come from the one place that samples (`pods`), several objects at once; lists have ready
//! pods and containers that run; an object that is gone meanwhile is not in a list, and one that cannot be read
//! does not spoil it.

use std::sync::Arc;
use std::time::Duration;

use cri_api::v1;
use futures_util::StreamExt as _;
use pods::{ContainerFilter, ContainerStateKind, ContainerStatus, Detail, SandboxStatus, Usage};
use tonic::{Response, Status};

use super::{Answer, known_container, known_sandbox};
use crate::parse;
use crate::short_ids::{self, To, make_whole};
use crate::stream::{Streamed, pieces};
use crate::{Inner, code, render};

/// Objects that are read at the same time.
const AT_ONCE: usize = 64;
/// How long a list waits to know on which file system writable layers are; it can do without.
const FILE_SYSTEM: Duration = Duration::from_secs(1);

pub(super) async fn container(
    inner: &Inner,
    request: &v1::ContainerStatsRequest,
) -> Answer<v1::ContainerStatsResponse> {
    let id = known_container(&inner.services, &request.container_id, To::Look)?;
    let pods = &inner.services.pods;
    let status = pods.container_status(&id).await.map_err(|error| code::status(&error))?;
    let usage =
        pods.container_usage(&id, Detail::Brief).await.map_err(|error| code::status(&error))?;
    let mountpoint = mountpoint(inner).await;
    let stats = container_stats(&status, &usage, mountpoint.as_deref());
    Ok(Response::new(v1::ContainerStatsResponse { stats: Some(stats) }))
}

pub(super) async fn list_containers(
    inner: &Inner,
    request: v1::ListContainerStatsRequest,
) -> Answer<v1::ListContainerStatsResponse> {
    let stats = containers(inner, request.filter).await?;
    Ok(Response::new(v1::ListContainerStatsResponse { stats }))
}

pub(super) async fn stream_containers(
    inner: &Inner,
    request: v1::StreamContainerStatsRequest,
) -> Answer<Streamed<v1::StreamContainerStatsResponse>> {
    let stats = containers(inner, request.filter).await?;
    Ok(pieces(stats, |container_stats| v1::StreamContainerStatsResponse { container_stats }))
}

pub(super) async fn sandbox(
    inner: &Inner,
    request: &v1::PodSandboxStatsRequest,
) -> Answer<v1::PodSandboxStatsResponse> {
    let id = known_sandbox(&inner.services, &request.pod_sandbox_id, To::Look)?;
    let asked = inner.services.pods.sandbox_status(&id).await;
    let (status, _) = asked.map_err(|error| code::status(&error))?;
    let mountpoint = mountpoint(inner).await;
    let stats = sandbox_stats(inner, status, mountpoint.as_deref()).await?;
    Ok(Response::new(v1::PodSandboxStatsResponse { stats: Some(stats) }))
}

pub(super) async fn list_sandboxes(
    inner: &Inner,
    request: v1::ListPodSandboxStatsRequest,
) -> Answer<v1::ListPodSandboxStatsResponse> {
    let stats = sandboxes(inner, request.filter).await?;
    Ok(Response::new(v1::ListPodSandboxStatsResponse { stats }))
}

pub(super) async fn stream_sandboxes(
    inner: &Inner,
    request: v1::StreamPodSandboxStatsRequest,
) -> Answer<Streamed<v1::StreamPodSandboxStatsResponse>> {
    let stats = sandboxes(inner, request.filter).await?;
    Ok(pieces(stats, |pod_sandbox_stats| v1::StreamPodSandboxStatsResponse { pod_sandbox_stats }))
}

async fn containers(
    inner: &Inner,
    mut filter: Option<v1::ContainerStatsFilter>,
) -> Result<Vec<v1::ContainerStats>, Status> {
    let pods = &inner.services.pods;
    if let Some(filter) = &mut filter {
        make_whole(&mut filter.id, |text| short_ids::container(pods, text, To::Look));
        make_whole(&mut filter.pod_sandbox_id, |text| short_ids::sandbox(pods, text, To::Look));
    }
    let filter = parse::container_stats_filter(filter).map_err(|bad| code::status(&bad))?;
    let Some(filter) = filter else { return Ok(Vec::new()) };
    Ok(containers_of(inner, &filter, mountpoint(inner).await.as_deref()).await)
}

async fn containers_of(
    inner: &Inner,
    filter: &ContainerFilter,
    mountpoint: Option<&str>,
) -> Vec<v1::ContainerStats> {
    let pods = &inner.services.pods;
    let found = pods.list_containers(filter);
    let read = found.into_iter().map(|status| async move {
        let usage = pods.container_usage(&status.id, Detail::Brief).await.ok()?;
        Some(container_stats(&status, &usage, mountpoint))
    });
    let read: Vec<_> = futures_util::stream::iter(read).buffered(AT_ONCE).collect().await;
    read.into_iter().flatten().collect()
}

async fn sandboxes(
    inner: &Inner,
    mut filter: Option<v1::PodSandboxStatsFilter>,
) -> Result<Vec<v1::PodSandboxStats>, Status> {
    if let Some(filter) = &mut filter {
        make_whole(&mut filter.id, |text| short_ids::sandbox(&inner.services.pods, text, To::Look));
    }
    let filter = parse::sandbox_stats_filter(filter).map_err(|bad| code::status(&bad))?;
    let Some(filter) = filter else { return Ok(Vec::new()) };
    let mountpoint = mountpoint(inner).await;
    let mountpoint = mountpoint.as_deref();
    let found = inner.services.pods.list_sandboxes(&filter);
    let read = found
        .into_iter()
        .map(|status| async move { sandbox_stats(inner, status, mountpoint).await.ok() });
    let read: Vec<_> = futures_util::stream::iter(read).buffered(AT_ONCE).collect().await;
    Ok(read.into_iter().flatten().collect())
}

async fn mountpoint(inner: &Inner) -> Option<String> {
    let asked = tokio::time::timeout(FILE_SYSTEM, inner.services.images.fs_info()).await;
    let info = asked.ok()?.ok()?;
    let on = if info.is_shared { info.images } else { info.containers };
    Some(on.mountpoint.display().to_string())
}

fn container_stats(
    status: &Arc<ContainerStatus>,
    usage: &Usage,
    mountpoint: Option<&str>,
) -> v1::ContainerStats {
    let (at, cgroup) = (usage.at.0, usage.cgroup.as_ref());
    let item = render::container_item(status);
    v1::ContainerStats {
        attributes: Some(v1::ContainerAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }),
        cpu: cgroup.and_then(|stats| render::stats::cpu(at, stats, usage.cpu_rate)),
        memory: cgroup.and_then(|stats| render::stats::memory(at, stats)),
        writable_layer: render::stats::writable(usage, mountpoint),
        swap: cgroup.and_then(|stats| render::stats::swap(at, stats)),
        io: cgroup.and_then(|stats| render::stats::io(at, stats)),
    }
}

async fn sandbox_stats(
    inner: &Inner,
    status: Arc<SandboxStatus>,
    mountpoint: Option<&str>,
) -> Result<v1::PodSandboxStats, Status> {
    let asked = inner.services.pods.sandbox_usage(&status.id, Detail::Tasks).await;
    let (usage, interfaces) = asked.map_err(|error| code::status(&error))?;
    let of_it = ContainerFilter {
        sandbox: Some(status.id.clone()),
        state: Some(ContainerStateKind::Running),
        ..ContainerFilter::default()
    };
    let containers = containers_of(inner, &of_it, mountpoint).await;
    let (at, cgroup) = (usage.at.0, usage.cgroup.as_ref());
    let item = render::sandbox_item(&status);
    Ok(v1::PodSandboxStats {
        attributes: Some(v1::PodSandboxAttributes {
            id: item.id,
            metadata: item.metadata,
            labels: item.labels,
            annotations: item.annotations,
        }),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: cgroup.and_then(|stats| render::stats::cpu(at, stats, usage.cpu_rate)),
            memory: cgroup.and_then(|stats| render::stats::memory(at, stats)),
            network: render::stats::network(at, &interfaces),
            process: cgroup.and_then(|stats| render::stats::processes(at, stats)),
            containers,
            io: cgroup.and_then(|stats| render::stats::io(at, stats)),
        }),
        windows: None,
    })
}
