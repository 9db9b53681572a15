//! ContainerStatus.

use std::sync::Arc;

use model::ContainerId;

use crate::error::PodsError;
use crate::pods::Pods;
use crate::status::ContainerStatus;

/// The container as it is; waits for its pod alone to be taken up after a restart.
pub(crate) async fn status(
    pods: &Pods,
    id: &ContainerId,
) -> Result<Arc<ContainerStatus>, PodsError> {
    super::there(&pods.inner, id).await?;
    let status = pods.inner.table.container_status(id);
    status.ok_or_else(|| PodsError::NoContainer { id: id.clone() })
}
