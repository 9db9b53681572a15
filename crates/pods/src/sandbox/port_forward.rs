//! PortForward: a connection to a port inside a pod.

use std::time::Duration;

use model::SandboxId;
use operations::Phases;
use tokio::net::TcpStream;

use crate::error::PodsError;
use crate::pods::Pods;
use crate::records::SandboxStage;
use crate::steps::step;

const OPERATION: &str = "PortForward";

/// How long each family of addresses is tried. On a loopback interface the answer is there at once, or the
/// port's own queue is full.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connects to a port of the pod's loopback interface, IPv4 first, then IPv6. The monitor only makes the
/// sockets, which are in the pod's network namespace for ever.
pub(crate) async fn connect(
    pods: &Pods,
    id: &SandboxId,
    port: u16,
    phases: &Phases,
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
            return Err(PodsError::State { operation: OPERATION, object, problem });
        }
    };
    let deadline = PATIENCE * 2 + pods.inner.config.deadlines.answer;
    let dialled = step(phases, "dial", deadline, monitor.dial(port, PATIENCE)).await;
    dialled.map_err(|failure| failure.of(OPERATION, &object))
}
