//! Use cases of containers.

pub(crate) mod attach;
pub(crate) mod create;
pub(crate) mod exec;
pub(crate) mod exec_sync;
pub(crate) mod list;
pub(crate) mod log_lines;
pub(crate) mod remove;
pub(crate) mod reopen_log;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod update_resources;

mod amounts;
mod bundle;
mod checks;
mod classes;
mod extras;
mod host_paths;
mod log_limits;
mod relabel;
mod rootfs;
mod writable;

use std::sync::Arc;

use model::ContainerId;
use monitor_client::Monitor;

use crate::error::PodsError;
use crate::pods::Inner;
use crate::records::{ContainerRecord, ContainerStage};

/// A container that is there, once its pod has been taken up after a restart.
pub(crate) async fn there(
    inner: &Inner,
    id: &ContainerId,
) -> Result<Arc<ContainerRecord>, PodsError> {
    if let Some(record) = inner.table.container(id) {
        inner.table.settled(&record.sandbox).await;
    }
    let record = inner.table.container(id).filter(|r| r.stage != ContainerStage::Making);
    record.ok_or_else(|| PodsError::NoContainer { id: id.clone() })
}

/// A container for people: its pod and its name.
pub(crate) fn name(inner: &Inner, record: &ContainerRecord) -> String {
    let name = &record.config.metadata.name;
    match inner.table.sandbox(&record.sandbox) {
        Some(sandbox) => format!("{}/{name}", sandbox.config.metadata),
        None => format!("{}/{name}", record.sandbox.short()),
    }
}

/// The monitor of a container that runs.
pub(crate) fn monitor_of_running(
    inner: &Inner,
    record: &ContainerRecord,
    operation: &'static str,
) -> Result<Monitor, PodsError> {
    let problem = match record.state {
        model::State::Running { .. } => match inner.table.monitor(&record.sandbox) {
            Some(monitor) => return Ok(monitor),
            None => "its pod has no monitor",
        },
        model::State::Created => "it has not been started",
        model::State::Exited { .. } => "it has ended",
    };
    let object = name(inner, record);
    Err(PodsError::State { operation, object, problem: problem.to_owned() })
}
