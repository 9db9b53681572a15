//! Log lines that are not in a container's log.

use model::ContainerId;
use operations::Phases;

use super::{name, there};
use crate::error::PodsError;
use crate::pods::Pods;
use crate::status::LogLines;
use crate::steps::step;

/// As its monitor counts them; `None` once its pod has no monitor any more.
pub(crate) async fn log_lines(
    pods: &Pods,
    id: &ContainerId,
) -> Result<Option<LogLines>, PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let Some(monitor) = inner.table.monitor(&record.sandbox) else { return Ok(None) };
    let deadline = inner.config.deadlines.answer;
    let asked = step(&Phases::begin(), "monitor", deadline, monitor.hello()).await;
    let welcome = asked.map_err(|failure| failure.of("ContainerStatus", &name(inner, &record)))?;
    let found = welcome.containers.iter().find(|one| one.container == *id);
    Ok(found.map(|one| LogLines { lost: one.log_lines_lost, dropped: one.log_lines_dropped }))
}
