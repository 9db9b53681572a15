//! UpdatePodSandboxResources.

use cgroups::Cgroup;
use model::{Resources, SandboxId};
use operations::Phases;
use tokio::sync::OwnedMutexGuard;

use super::limits;
use crate::error::PodsError;
use crate::pods::{Inner, Pods};
use crate::records::SandboxStage;
use crate::steps::{Failure, blocking_step};

const OPERATION: &str = "UpdatePodSandboxResources";

/// New limits of the pod as a whole. A cgroup that the kubelet has made has the kubelet's limits already;
/// there they are only remembered.
pub(crate) async fn update_resources(
    pods: &Pods,
    id: &SandboxId,
    overhead: Resources,
    resources: Resources,
) -> Result<(), PodsError> {
    let inner = &pods.inner;
    inner.table.settled(id).await;
    let gone = || PodsError::NoSandbox { id: id.clone() };
    // The limits that hold are read once it is this update's turn.
    let turn = inner.table.sandbox_turn(id).ok_or_else(gone)?.lock_owned().await;
    // Whoever stops the pod waits for this, or is seen.
    let inside = inner.table.gate(id).ok_or_else(gone)?.read_owned().await;
    let visible = |r: &_| r != &SandboxStage::Making;
    let record = inner.table.sandbox(id).filter(|r| visible(&r.stage));
    let record = record.ok_or_else(gone)?;
    let object = record.config.metadata.to_string();
    let mut merged = record.resources.clone();
    merged.merge(&limits::of_pod(&overhead, &resources));
    let phases = Phases::begin();
    let updated = async {
        let limits =
            specgen::resources(&merged, &inner.host).map_err(|e| Failure::new("limits", e))?;
        if record.cgroup.is_own && record.stage == SandboxStage::Ready {
            let cgroup = Cgroup::at(&inner.hierarchies, &record.cgroup.path);
            let deadline = inner.config.deadlines.cgroup;
            // The turn ends no sooner than the work, also where nobody waits for that any more.
            let apply = move || cgroup.apply(&limits).map(|()| (turn, inside));
            let (turn, _inside) = blocking_step(&phases, "cgroup", deadline, apply).await?;
            return remember(inner, id, merged, turn);
        }
        remember(inner, id, merged, turn)
    };
    updated.await.map_err(|failure: Failure| failure.of(OPERATION, &object))
}

/// Writes the limits down, before it is the turn of the next update.
fn remember(
    inner: &Inner,
    id: &SandboxId,
    resources: Resources,
    _turn: OwnedMutexGuard<()>,
) -> Result<(), Failure> {
    inner.table.change_sandbox(id, |r| r.resources = resources);
    inner.table.save_sandbox(id).map_err(|e| Failure::new("record", e))
}
