//! UpdateContainerResources.

use cgroups::Cgroup;
use model::{ContainerId, Resources, State};
use operations::Phases;
use runtime_spec::Resources as Limits;
use tokio::sync::OwnedMutexGuard;

use super::{bundle, name, there};
use crate::error::{Cause, PodsError};
use crate::pods::{Inner, Pods};
use crate::records::ContainerRecord;
use crate::steps::{Failure, blocking_step};

const OPERATION: &str = "UpdateContainerResources";

/// New limits, applied where the container has a cgroup, and written into its spec where it has none yet.
pub(crate) async fn update_resources(
    pods: &Pods,
    id: &ContainerId,
    resources: Resources,
) -> Result<(), PodsError> {
    let inner = &pods.inner;
    let gone = || PodsError::NoContainer { id: id.clone() };
    there(inner, id).await?;
    // The limits that hold are read once it is this update's turn.
    let turn = inner.table.container_turn(id).ok_or_else(gone)?.lock_owned().await;
    let record = there(inner, id).await?;
    let object = name(inner, &record);
    match record.state {
        State::Created | State::Running { .. } => {}
        State::Exited { .. } => {
            let problem = "it has ended".to_owned();
            return Err(PodsError::State { operation: OPERATION, object, problem });
        }
    }
    let mut merged = record.resources.clone();
    merged.merge(&resources);
    let updated = async {
        let limits =
            specgen::resources(&resources, &inner.host).map_err(|e| Failure::new("limits", e))?;
        let all = specgen::resources(&merged, &inner.host);
        let all = all.map_err(|e| Failure::new("limits", e))?;
        let _turn = apply(inner, &record, limits, all, turn).await?;
        inner.table.change_container(id, |r| r.resources = merged);
        inner.table.save_container(id).map_err(|e| Failure::new("record", e))
    };
    updated.await.map_err(|failure| failure.of(OPERATION, &object))
}

/// `new` is what is asked for now, `all` what holds together with what was said before. The turn ends no sooner
/// than the work, also where nobody waits for that any more.
async fn apply(
    inner: &Inner,
    record: &ContainerRecord,
    new: Limits,
    all: Limits,
    turn: OwnedMutexGuard<()>,
) -> Result<OwnedMutexGuard<()>, Failure> {
    let cgroup = Cgroup::at(&inner.hierarchies, &record.cgroup);
    let directory = inner.bundle(&record.sandbox, &record.id);
    let apply = move || -> Result<_, Cause> {
        if cgroup.exists() {
            cgroup.apply(&new)?;
        } else {
            bundle::change_limits(&directory, &all)?;
        }
        Ok(turn)
    };
    let phases = Phases::begin();
    blocking_step(&phases, "cgroup", inner.config.deadlines.cgroup, apply).await
}
