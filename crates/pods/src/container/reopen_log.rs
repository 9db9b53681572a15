//! ReopenContainerLog.

use model::ContainerId;
use operations::Phases;

use super::{monitor_of_running, name, there};
use crate::error::PodsError;
use crate::pods::Pods;
use crate::steps::step;

const OPERATION: &str = "ReopenContainerLog";

/// The log goes on in the file that has its name now.
pub(crate) async fn reopen_log(pods: &Pods, id: &ContainerId) -> Result<(), PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let monitor = monitor_of_running(inner, &record, OPERATION)?;
    let deadline = inner.config.deadlines.answer;
    let reopened = step(&Phases::begin(), "log", deadline, monitor.reopen_log(id.clone())).await;
    reopened.map_err(|failure| failure.of(OPERATION, &name(inner, &record)))
}
