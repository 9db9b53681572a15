//! What containers and pods use.
//!
//! Always: nothing here waits for a pod to be taken up after a restart, and each object is read within a bound,
//! because lists of all of them are made from this; an object is read once for all who ask at about the same time.

use std::future::Future;
use std::time::Duration;

use cgroups::{Cgroup, CgroupError, CgroupPath, Detail, Stats};
use image_store::{ImageStore, Measured};
use model::{ContainerId, SandboxId};
use network::InterfaceStats;
use operations::Phases;

use crate::container::name;
use crate::error::{Cause, PodsError};
use crate::pods::{Inner, Pods};
use crate::records::{ContainerStage, SandboxStage};
use crate::samples::Sample;
use crate::status::{FileSystem, More, Usage};
use crate::steps::{Failure, step};
use crate::{clock, devices, processes};

/// How long reading one object may take. It is files of the kernel and one exchange with it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long what metrics alone tell of a file system may take.
const SPACE_PATIENCE: Duration = Duration::from_secs(1);

pub(crate) async fn of_container(
    pods: &Pods,
    id: &ContainerId,
    detail: Detail,
) -> Result<Usage, PodsError> {
    let inner = &pods.inner;
    let record = inner.table.container(id).filter(|r| r.stage != ContainerStage::Making);
    let record = record.ok_or_else(|| PodsError::NoContainer { id: id.clone() })?;
    let used = async {
        let whose = Whose::Container { first: record.pid.filter(|_| !record.is_over()) };
        let (read, disk) =
            tokio::join!(read(inner, &record.cgroup, detail, whose), disk(inner, id, detail));
        let read = read.map_err(|f| f.of("ContainerStats", &name(inner, &record)))?;
        let (cgroup, more) = read.unzip();
        let (writable, space) = disk;
        let more = More { space, ..more.unwrap_or_default() };
        let usage = Usage { at: clock::now(), cgroup, writable, cpu_rate: None, more };
        Ok::<_, PodsError>(Sample { usage, interfaces: Vec::new() })
    };
    let sample = inner.samples.get(id.as_str(), detail, record.created_at, clock::now, used);
    Ok(sample.await?.usage.clone())
}

pub(crate) async fn of_sandbox(
    pods: &Pods,
    id: &SandboxId,
    detail: Detail,
) -> Result<(Usage, Vec<InterfaceStats>), PodsError> {
    let inner = &pods.inner;
    let record = inner.table.sandbox(id).filter(|r| r.stage != SandboxStage::Making);
    let record = record.ok_or_else(|| PodsError::NoSandbox { id: id.clone() })?;
    let object = record.config.metadata.to_string();
    let used = async {
        let failed = |failure: Failure| failure.of("PodSandboxStats", &object);
        let read = read(inner, &record.cgroup.path, detail, Whose::Pod).await.map_err(failed)?;
        let (cgroup, more) = read.unzip();
        let interfaces = match record.network.netns() {
            Some(_) if record.stage == SandboxStage::Ready => {
                let networks = &inner.services.networks;
                let netns = networks.netns(id);
                let stats = Box::pin(networks.interface_stats(&netns));
                step(&Phases::begin(), "network", PATIENCE, stats).await.map_err(failed)?
            }
            Some(_) | None => Vec::new(),
        };
        let more = more.unwrap_or_default();
        let usage = Usage { at: clock::now(), cgroup, writable: None, cpu_rate: None, more };
        Ok(Sample { usage, interfaces })
    };
    let sample =
        inner.samples.get(id.as_str(), detail, record.created_at, clock::now, used).await?;
    Ok((sample.usage.clone(), sample.interfaces.clone()))
}

/// What the writable layer of a container takes, and, where all is to be read, what it lies on.
async fn disk(
    inner: &Inner,
    id: &ContainerId,
    detail: Detail,
) -> (Option<Measured>, Option<FileSystem>) {
    match detail {
        Detail::Brief | Detail::Tasks => (writable(inner, id).await, None),
        Detail::Whole => {
            let space = on_disk(inner, id, |images, id| {
                let space = images.space(id).ok()?;
                let device = devices::of_file_system(space.device);
                Some(FileSystem { device, capacity: space.capacity, available: space.available })
            });
            let used = async {
                match writable(inner, id).await {
                    // One so young that nobody has measured it yet.
                    None => on_disk(inner, id, |images, id| images.measure(id).ok()).await,
                    used => used,
                }
            };
            tokio::join!(used, space)
        }
    }
}

/// What `ask` finds out about a container's directory; `None` also where that takes too long.
async fn on_disk<T: Send + 'static>(
    inner: &Inner,
    id: &ContainerId,
    ask: impl FnOnce(&ImageStore, &ContainerId) -> Option<T> + Send + 'static,
) -> Option<T> {
    let (images, of) = (inner.services.images.clone(), id.clone());
    // Apart from what pods are made with: what is given up goes on.
    let asked = inner.measuring.run(move || Ok(ask(&images, &of)));
    asked_or_last(SPACE_PATIENCE, asked, || None).await
}

/// What the writable layer of a container takes. A file system that counts it is asked.
async fn writable(inner: &Inner, id: &ContainerId) -> Option<Measured> {
    let images = &inner.services.images;
    if !images.counts_writable() {
        return images.usage(id);
    }
    let (counts, of) = (images.clone(), id.clone());
    let asked = inner.may_hang.run(move || Ok(counts.usage(&of)));
    asked_or_last(PATIENCE, asked, || images.last_usage(id)).await
}

/// What `asked` gives; the `last` one known where that fails or takes longer than `patience`: what else is known
/// of the container does not wait for a file system.
async fn asked_or_last<T>(
    patience: Duration,
    asked: impl Future<Output = Result<T, Cause>>,
    last: impl FnOnce() -> T,
) -> T {
    match step(&Phases::begin(), "writable layer", patience, asked).await {
        Ok(now) => now,
        Err(failure) => {
            let error: &dyn std::error::Error = &*failure.cause;
            tracing::debug!(error, "what a writable layer takes is told as it was last known");
            last()
        }
    }
}

/// Whose cgroup is read.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// A container's, with its first process while that lives.
    Container { first: Option<i32> },
    /// A pod's: what its processes have open is told of its containers.
    Pod,
}

/// What a cgroup uses; `None` once it is gone.
async fn read(
    inner: &Inner,
    path: &CgroupPath,
    detail: Detail,
    whose: Whose,
) -> Result<Option<(Stats, More)>, Failure> {
    let cgroup = Cgroup::at(&inner.hierarchies, path);
    let read = move || {
        let stats = cgroup.stats(detail)?;
        // Nothing at all is said by one that has no controllers, too.
        if stats == Stats::default() && !cgroup.exists() {
            return Ok::<_, CgroupError>(None);
        }
        let more = match detail {
            Detail::Brief | Detail::Tasks => More::default(),
            Detail::Whole => more(&cgroup, &stats, whose)?,
        };
        Ok(Some((stats, more)))
    };
    // What a node decides by does not wait behind what is shown.
    let readers = match detail {
        Detail::Brief | Detail::Tasks => &inner.readers,
        Detail::Whole => &inner.slow_readers,
    };
    step(&Phases::begin(), "cgroup", PATIENCE, readers.read(read)).await
}

fn more(cgroup: &Cgroup, stats: &Stats, whose: Whose) -> Result<More, CgroupError> {
    let processes = match whose {
        Whose::Container { first } => processes::look(cgroup, first)?,
        Whose::Pod => processes::count(cgroup)?,
    };
    Ok(More {
        devices: stats.io.iter().map(|io| devices::name((io.major, io.minor))).collect(),
        processes: Some(processes),
        space: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::MayHang;

    #[tokio::test]
    async fn a_file_system_that_does_not_answer_takes_nothing_with_it_but_what_it_counts() {
        let may_hang = MayHang::new();
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let hung = may_hang.run(move || {
            let _ = gate.recv();
            Ok(2)
        });
        assert_eq!(asked_or_last(Duration::from_millis(1), hung, || 1).await, 1);
        let broken = async { Err(Cause::other(model::Class::Internal, "no")) };
        assert_eq!(asked_or_last(PATIENCE, broken, || 1).await, 1);
        let fine = may_hang.run(|| Ok(2));
        assert_eq!(asked_or_last(PATIENCE, fine, || 1).await, 2);
        drop(go);
    }
}
