//! Streams into containers and pods, for whoever serves them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use model::{ContainerId, SandboxId};
use monitor_client::api::TerminalSize;
use monitor_client::{AttachStreams, Attached, ExecStreams, Monitor, RunningExec};
use operations::Phases;
use tokio::net::TcpStream;

use crate::container::{monitor_of_running, name, there};
use crate::error::PodsError;
use crate::pods::Pods;
use crate::records::SandboxStage;
use crate::steps::step;

/// The monitor of a running container, and the container for people.
async fn running(
    pods: &Pods,
    id: &ContainerId,
    operation: &'static str,
) -> Result<(Monitor, String), PodsError> {
    let record = there(&pods.inner, id).await?;
    let monitor = monitor_of_running(&pods.inner, &record, operation)?;
    Ok((monitor, name(&pods.inner, &record)))
}

pub(crate) async fn exec(
    pods: &Pods,
    id: &ContainerId,
    command: Vec<String>,
    streams: ExecStreams,
) -> Result<RunningExec, PodsError> {
    let (monitor, object) = running(pods, id, "Exec").await?;
    let started = monitor.exec(id.clone(), command, streams);
    let deadline = pods.inner.config.deadlines.start;
    let started = step(&Phases::begin(), "exec", deadline, started).await;
    started.map_err(|failure| failure.of("Exec", &object))
}

pub(crate) async fn exec_with_terminal(
    pods: &Pods,
    id: &ContainerId,
    command: Vec<String>,
    size: TerminalSize,
) -> Result<(RunningExec, OwnedFd), PodsError> {
    let (monitor, object) = running(pods, id, "Exec").await?;
    let started = monitor.exec_with_terminal(id.clone(), command, size);
    let deadline = pods.inner.config.deadlines.start;
    let started = step(&Phases::begin(), "exec", deadline, started).await;
    started.map_err(|failure| failure.of("Exec", &object))
}

pub(crate) async fn attach(
    pods: &Pods,
    id: &ContainerId,
    streams: AttachStreams,
) -> Result<Attached, PodsError> {
    let (monitor, object) = running(pods, id, "Attach").await?;
    let attached = monitor.attach(id.clone(), streams);
    let deadline = pods.inner.config.deadlines.answer;
    let attached = step(&Phases::begin(), "attach", deadline, attached).await;
    attached.map_err(|failure| failure.of("Attach", &object))
}

pub(crate) async fn close_stdin(pods: &Pods, id: &ContainerId) -> Result<(), PodsError> {
    let (monitor, object) = running(pods, id, "Attach").await?;
    let deadline = pods.inner.config.deadlines.answer;
    let closed = step(&Phases::begin(), "stdin", deadline, monitor.close_stdin(id.clone())).await;
    closed.map_err(|failure| failure.of("Attach", &object))
}

pub(crate) async fn resize(
    pods: &Pods,
    id: &ContainerId,
    size: TerminalSize,
) -> Result<(), PodsError> {
    let (monitor, object) = running(pods, id, "Attach").await?;
    let deadline = pods.inner.config.deadlines.answer;
    let resized =
        step(&Phases::begin(), "resize", deadline, monitor.resize(id.clone(), size)).await;
    resized.map_err(|failure| failure.of("Attach", &object))
}

pub(crate) async fn dial(
    pods: &Pods,
    id: &SandboxId,
    port: u16,
    patience: Duration,
) -> Result<TcpStream, PodsError> {
    let table = &pods.inner.table;
    table.settled(id).await;
    let record = table.sandbox(id).filter(|r| r.stage != SandboxStage::Making);
    let record = record.ok_or_else(|| PodsError::NoSandbox { id: id.clone() })?;
    let object = record.config.metadata.to_string();
    let monitor = match table.monitor(id) {
        Some(monitor) if record.stage == SandboxStage::Ready => monitor,
        Some(_) | None => {
            let problem = "it is not ready".to_owned();
            return Err(PodsError::State { operation: "PortForward", object, problem });
        }
    };
    // Each family has that patience, and the monitor a moment to make the sockets.
    let deadline = patience * 2 + pods.inner.config.deadlines.answer;
    let dialled = step(&Phases::begin(), "dial", deadline, monitor.dial(port, patience)).await;
    dialled.map_err(|failure| failure.of("PortForward", &object))
}
