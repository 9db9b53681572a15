//! UpdateContainerResources.

use cgroups::Cgroup;
use model::{ContainerId, Resources, State};
use operations::Phases;
use runtime_spec::Resources as Limits;

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
        apply(inner, &record, limits, all.map_err(|e| Failure::new("limits", e))?).await?;
        inner.table.change_container(id, |r| r.resources = merged);
        inner.table.save_container(id).map_err(|e| Failure::new("record", e))
    };
    updated.await.map_err(|failure| failure.of(OPERATION, &object))
}

/// `new` is what is asked for now, `all` what holds together with what was said before.
async fn apply(
    inner: &Inner,
    record: &ContainerRecord,
    new: Limits,
    all: Limits,
) -> Result<(), Failure> {
    let cgroup = Cgroup::at(&inner.hierarchies, &record.cgroup);
    let directory = inner.bundle(&record.sandbox, &record.id);
    let apply = move || -> Result<(), Cause> {
        if cgroup.exists() {
            return Ok(cgroup.apply(&new)?);
        }
        bundle::change_limits(&directory, &all)
    };
    let phases = Phases::begin();
    blocking_step(&phases, "cgroup", inner.config.deadlines.cgroup, apply).await
}
