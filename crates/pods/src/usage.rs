//! What containers and pods use.
//!
//! Always: nothing here waits for a pod to be taken up after a restart, and each object is read within a bound,
//! because lists of all of them are made from this; an object is read once for all who ask at about the same time.

use std::future::Future;
use std::time::Duration;

use cgroups::{Cgroup, CgroupError, CgroupPath, Detail, Stats};
use image_store::Measured;
use model::{ContainerId, SandboxId};
use network::InterfaceStats;
use operations::Phases;

use crate::clock;
use crate::container::name;
use crate::error::{Cause, PodsError};
use crate::pods::{Inner, Pods};
use crate::records::{ContainerStage, SandboxStage};
use crate::samples::Sample;
use crate::status::Usage;
use crate::steps::{Failure, step};

/// How long reading one object may take. It is files of the kernel and one exchange with it.
const PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn of_container(
    pods: &Pods,
    id: &ContainerId,
    detail: Detail,
) -> Result<Usage, PodsError> {
    let inner = &pods.inner;
    let record = inner.table.container(id).filter(|r| r.stage != ContainerStage::Making);
    let record = record.ok_or_else(|| PodsError::NoContainer { id: id.clone() })?;
    let used = async {
        let (cgroup, writable) =
            tokio::join!(read(inner, &record.cgroup, detail), writable(inner, id));
        let cgroup = cgroup.map_err(|f| f.of("ContainerStats", &name(inner, &record)))?;
        let usage = Usage { at: clock::now(), cgroup, writable, cpu_rate: None };
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
        let cgroup = read(inner, &record.cgroup.path, detail).await.map_err(failed)?;
        let interfaces = match record.network.netns() {
            Some(_) if record.stage == SandboxStage::Ready => {
                let networks = &inner.services.networks;
                let netns = networks.netns(id);
                let stats = Box::pin(networks.interface_stats(&netns));
                step(&Phases::begin(), "network", PATIENCE, stats).await.map_err(failed)?
            }
            Some(_) | None => Vec::new(),
        };
        let usage = Usage { at: clock::now(), cgroup, writable: None, cpu_rate: None };
        Ok(Sample { usage, interfaces })
    };
    let sample =
        inner.samples.get(id.as_str(), detail, record.created_at, clock::now, used).await?;
    Ok((sample.usage.clone(), sample.interfaces.clone()))
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

/// What a cgroup uses; `None` once it is gone.
async fn read(inner: &Inner, path: &CgroupPath, detail: Detail) -> Result<Option<Stats>, Failure> {
    let cgroup = Cgroup::at(&inner.hierarchies, path);
    let read = move || {
        let stats = cgroup.stats(detail)?;
        // Nothing at all is said by one that has no controllers, too.
        let is_there = stats != Stats::default() || cgroup.exists();
        Ok::<_, CgroupError>(is_there.then_some(stats))
    };
    step(&Phases::begin(), "cgroup", PATIENCE, inner.readers.read(read)).await
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
