//! StartContainer.

use std::sync::Arc;
use std::time::Duration;

use model::{ContainerId, Event, Signal, State, Timestamp, with_causes};
use monitor_client::api::{ContainerReport, KillScope};
use operations::Phases;

use super::{name, there};
use crate::error::{Cause, PodsError};
use crate::monitors;
use crate::pods::{Inner, Pods};
use crate::records::{ContainerRecord, SandboxStage};
use crate::steps::{Failure, bounded, step_at};

const OPERATION: &str = "StartContainer";

/// How long the end of a container that could not be started may take to be told after the failure.
const TOLD: Duration = Duration::from_secs(2);

/// Joins or begins the operation. A container that runs already is started, whoever asks again.
pub(crate) async fn start(pods: &Pods, id: &ContainerId) -> Result<(), PodsError> {
    let inner = &pods.inner;
    let record = there(inner, id).await?;
    let object = name(inner, &record);
    match record.state {
        State::Created => {}
        State::Running { .. } => return Ok(()),
        State::Exited { .. } => {
            let problem = "it has ended".to_owned();
            return Err(PodsError::State { operation: OPERATION, object, problem });
        }
    }
    let sandbox = inner.table.sandbox(&record.sandbox);
    if sandbox.is_none_or(|s| s.stage != SandboxStage::Ready) {
        let problem = "its sandbox is not ready".to_owned();
        return Err(PodsError::State { operation: OPERATION, object, problem });
    }
    let operations = inner.services.operations.clone();
    let (inner, key, name) = (Arc::clone(inner), id.to_string(), object.clone());
    let work = move |phases: Phases| async move {
        begin(&inner, &record, &phases).await.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

async fn begin(inner: &Inner, record: &ContainerRecord, phases: &Phases) -> Result<(), Failure> {
    let (id, deadlines) = (&record.id, inner.config.deadlines);
    let lost = || {
        let message = "the sandbox has lost its monitor";
        Failure::new("begin", Cause::other(model::Class::Unavailable, message))
    };
    let monitor = inner.table.monitor(&record.sandbox).ok_or_else(lost)?;
    let spot = inner.monitor_spot(&record.sandbox);
    let start = monitor.start(id.clone());
    let started = step_at(phases, "start", deadlines.start, &spot, start).await;
    match started {
        Ok(at) => {
            monitors::apply(inner, id, &[Event::Started(at)]);
            if record.pid.is_none() {
                learn_pid(inner, record).await;
            }
            Ok(())
        }
        Err(failure) => {
            if let Some(at) = runs_already(inner, record).await {
                monitors::apply(inner, id, &[Event::Started(at)]);
                return Ok(());
            }
            if matches!(*failure.cause, Cause::Deadline(_)) {
                // It must not begin to run after it was said that it does not.
                let kill = monitor.kill(id.clone(), Signal::KILL, KillScope::All);
                if let Err(cause) = bounded("kill", deadlines.answer, kill).await {
                    tracing::warn!(error = %with_causes(&cause), container = %id, "start is given up");
                }
            }
            inner.wait_for_end(id, TOLD).await;
            Err(failure)
        }
    }
}

/// Since when a container runs whose start has come to nothing: an earlier start may have succeeded although
/// its answer was lost, and then this one is refused.
async fn runs_already(inner: &Inner, record: &ContainerRecord) -> Option<Timestamp> {
    match report(inner, record).await?.state {
        State::Running { started_at } => Some(started_at),
        State::Created | State::Exited { .. } => None,
    }
}

/// What the monitor says of a container.
async fn report(inner: &Inner, record: &ContainerRecord) -> Option<ContainerReport> {
    let monitor = inner.table.monitor(&record.sandbox)?;
    let welcome = bounded("hello", inner.config.deadlines.answer, monitor.hello()).await.ok()?;
    welcome.containers.into_iter().find(|c| c.container == record.id)
}

/// An external runtime makes the process at the start, so its id is known only now.
async fn learn_pid(inner: &Inner, record: &ContainerRecord) {
    let Some(report) = report(inner, record).await else { return };
    let pid = report.pid;
    inner.table.change_container(&record.id, |r| r.pid = pid);
    if let Err(error) = inner.table.save_container(&record.id) {
        tracing::warn!(error = %with_causes(&error), container = %record.id, "its process id is not recorded");
    }
}
