//! RemoveContainer.

use std::sync::Arc;

use model::ContainerId;
use operations::Phases;

use super::name;
use crate::error::PodsError;
use crate::pods::{Inner, Pods};
use crate::records::{ContainerRecord, ContainerStage};
use crate::steps::{Failure, step};
use crate::undo::{Hands as _, Undo};

const OPERATION: &str = "RemoveContainer";

/// Joins or begins the operation.
pub(crate) async fn remove(pods: &Pods, id: &ContainerId) -> Result<(), PodsError> {
    let inner = &pods.inner;
    let Ok(record) = super::there(inner, id).await else { return Ok(()) };
    let object = name(inner, &record);
    let operations = inner.services.operations.clone();
    let (inner, key, name) = (Arc::clone(inner), id.to_string(), object.clone());
    let work = move |phases: Phases| async move {
        clear(&inner, &record, &phases).await.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

/// Everything of a container goes, in the order in which it can be tried again.
pub(crate) async fn clear(
    inner: &Inner,
    record: &ContainerRecord,
    phases: &Phases,
) -> Result<(), Failure> {
    inner.table.change_container(&record.id, |r| {
        if r.stage == ContainerStage::Made {
            r.stage = ContainerStage::Removing;
        }
    });
    inner.table.save_container(&record.id).map_err(|e| Failure::new("record", e))?;
    let kill = inner.config.deadlines.kill * 2;
    for (phase, undo) in leavings(inner, record) {
        step(phases, phase, kill, inner.carry_out(&undo)).await?;
    }
    Ok(())
}

/// What there is, or may be, of a container, in the order in which it goes.
pub(crate) fn leavings(inner: &Inner, record: &ContainerRecord) -> Vec<(&'static str, Undo)> {
    let (sandbox, container) = (record.sandbox.clone(), record.id.clone());
    vec![
        ("monitor", Undo::RemoveFromMonitor { sandbox, container: container.clone() }),
        ("cgroup", Undo::RemoveCgroup(record.cgroup.clone())),
        ("rootfs", Undo::ReleaseRootfs(container.clone())),
        ("bundle", Undo::RemoveDirectory(inner.bundle(&record.sandbox, &container))),
        ("record", Undo::ForgetContainer(container)),
    ]
}
