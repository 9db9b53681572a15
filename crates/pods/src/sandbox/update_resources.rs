//! UpdatePodSandboxResources.

use cgroups::Cgroup;
use model::{Resources, SandboxId};
use operations::Phases;

use super::limits;
use crate::error::PodsError;
use crate::pods::Pods;
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
    let visible = |r: &_| r != &SandboxStage::Making;
    let record = inner.table.sandbox(id).filter(|r| visible(&r.stage));
    let record = record.ok_or_else(|| PodsError::NoSandbox { id: id.clone() })?;
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
            blocking_step(&phases, "cgroup", deadline, move || cgroup.apply(&limits)).await?;
        }
        inner.table.change_sandbox(id, |r| r.resources = merged);
        inner.table.save_sandbox(id).map_err(|e| Failure::new("record", e))
    };
    updated.await.map_err(|failure| failure.of(OPERATION, &object))
}
