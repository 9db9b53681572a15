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
        let limits = specgen::resources(&changed(&resources, &merged), &inner.host)
            .map_err(|e| Failure::new("limits", e))?;
        let all = specgen::resources(&merged, &inner.host);
        let all = all.map_err(|e| Failure::new("limits", e))?;
        let score = resources.oom_score_adj;
        let _turn = apply(inner, &record, Changes { new: limits, all, score }, turn).await?;
        inner.table.change_container(id, |r| r.resources = merged);
        inner.table.save_container(id).map_err(|e| Failure::new("record", e))
    };
    updated.await.map_err(|failure| failure.of(OPERATION, &object))
}

/// What `asked` changes. Memory and swap are limited together, so that who changes one of them says the other,
/// too, as it was.
fn changed(asked: &Resources, merged: &Resources) -> Resources {
    let mut changed = asked.clone();
    if asked.memory_limit.is_some() || asked.memory_swap_limit.is_some() {
        changed.memory_limit = merged.memory_limit;
        changed.memory_swap_limit = merged.memory_swap_limit;
    }
    changed
}

/// What is to be changed.
struct Changes {
    /// What is asked for now.
    new: Limits,
    /// What holds together with what was said before.
    all: Limits,
    /// The OOM score that all of its processes are to have.
    score: Option<i32>,
}

/// The turn ends no sooner than the work, also where nobody waits for that any more.
async fn apply(
    inner: &Inner,
    record: &ContainerRecord,
    changes: Changes,
    turn: OwnedMutexGuard<()>,
) -> Result<OwnedMutexGuard<()>, Failure> {
    let cgroup = Cgroup::at(&inner.hierarchies, &record.cgroup);
    let directory = inner.bundle(&record.sandbox, &record.id);
    let apply = move || -> Result<_, Cause> {
        let Changes { new, all, score } = changes;
        if cgroup.exists() {
            cgroup.apply(&new)?;
            score.map_or(Ok(()), |score| cgroup.adjust_oom_score(score))?;
        } else {
            bundle::change_limits(&directory, &all, score)?;
        }
        Ok(turn)
    };
    let phases = Phases::begin();
    blocking_step(&phases, "cgroup", inner.config.deadlines.cgroup, apply).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_limit_of_memory_keeps_the_swap_that_was_allowed() {
        let limits = |memory_limit, memory_swap_limit| Resources {
            memory_limit,
            memory_swap_limit,
            ..Resources::default()
        };
        let mut merged = limits(Some(64), Some(256));
        let asked = limits(Some(128), None);
        merged.merge(&asked);
        assert_eq!(changed(&asked, &merged), limits(Some(128), Some(256)));
        assert_eq!(changed(&limits(None, None), &merged), limits(None, None));
    }
}
