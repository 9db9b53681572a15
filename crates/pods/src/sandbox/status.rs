//! PodSandboxStatus.

use std::sync::Arc;

use model::SandboxId;

use crate::error::PodsError;
use crate::pods::Pods;
use crate::status::{ContainerStatus, SandboxStatus};

/// The pod as it is; waits for this pod alone to be taken up after a restart.
pub(crate) async fn status(
    pods: &Pods,
    id: &SandboxId,
) -> Result<(Arc<SandboxStatus>, Vec<Arc<ContainerStatus>>), PodsError> {
    let table = &pods.inner.table;
    table.settled(id).await;
    table.pod_status(id).ok_or_else(|| PodsError::NoSandbox { id: id.clone() })
}
