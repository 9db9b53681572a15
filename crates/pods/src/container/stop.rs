//! StopContainer.

use std::sync::Arc;
use std::time::Duration;

use model::{Class, ContainerId, Signal, State};
use monitor_client::api::KillScope;
use monitor_client::{Monitor, MonitorError};
use operations::{PhaseError, Phases};

use super::name;
use crate::error::{Cause, PodsError};
use crate::pods::{Inner, Pods};
use crate::records::ContainerRecord;
use crate::steps::{Failure, step_at};

const OPERATION: &str = "StopContainer";
/// How soon a connection that broke is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Joins the operation of the same timeout, or begins one: those of other timeouts go their own ways, and
/// the first to come to its end has done the work of all.
pub(crate) async fn stop(
    pods: &Pods,
    id: &ContainerId,
    timeout: Duration,
) -> Result<(), PodsError> {
    let inner = &pods.inner;
    let Ok(record) = super::there(inner, id).await else { return Ok(()) };
    if record.is_over() {
        return Ok(());
    }
    let object = name(inner, &record);
    let operations = inner.services.operations.clone();
    let key = format!("{id}/{}", timeout.as_millis());
    let (inner, name) = (Arc::clone(inner), object.clone());
    let work = move |phases: Phases| async move {
        end(&inner, &record, timeout, &phases).await.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

/// Asks a container to end, and after `timeout` kills all that is in it. Returns when it has ended.
pub(crate) async fn end(
    inner: &Inner,
    record: &ContainerRecord,
    timeout: Duration,
    phases: &Phases,
) -> Result<(), Failure> {
    let (id, deadlines) = (&record.id, inner.config.deadlines);
    // It may have been started, or have ended, since it was looked up.
    let Some(record) = inner.table.container(id) else { return Ok(()) };
    // One that was never started has no program that could heed a signal.
    let monitor = inner.monitor_spot(&record.sandbox);
    let can_heed = matches!(record.state, State::Running { .. }) && !timeout.is_zero();
    if can_heed {
        let signal = send(inner, &record, record.stop_signal, KillScope::First);
        forgive(step_at(phases, "signal", deadlines.answer, &monitor, signal).await)?;
        phases.enter("ending", Some(timeout));
        let ended = inner.wait_for_end(id, timeout).await;
        phases.leave();
        if ended {
            return Ok(());
        }
    }
    let kill = send(inner, &record, Signal::KILL, KillScope::All);
    forgive(step_at(phases, "kill", deadlines.answer, &monitor, kill).await)?;
    until_over(inner, id, "killed", deadlines.kill, phases).await
}

/// Sends a signal, over a connection that may have to be made anew; to be bounded by whoever waits.
async fn send(
    inner: &Inner,
    record: &ContainerRecord,
    signal: Signal,
    scope: KillScope,
) -> Result<(), MonitorError> {
    let id = &record.id;
    while let Some(monitor) = connected(inner, record).await {
        match monitor.kill(id.clone(), signal, scope).await {
            // That it is broken is not known everywhere yet, or it was broken just now.
            Err(MonitorError::Gone) => tokio::time::sleep(LOOK_AGAIN).await,
            other => return other,
        }
    }
    Ok(())
}

/// The connection to a container's monitor once there is one; `None` if the container ends first.
async fn connected(inner: &Inner, record: &ContainerRecord) -> Option<Monitor> {
    let mut monitor = inner.table.watch_monitor(&record.sandbox)?;
    let mut state = inner.table.watch_state(&record.id)?;
    tokio::select! {
        biased;
        _ = state.wait_for(|s| matches!(s, State::Exited { .. })) => None,
        found = monitor.wait_for(Option::is_some) => found.ok().and_then(|m| m.clone()),
    }
}

/// A monitor that has ended, or does not know the container, has told its end or will; and a process that is
/// not there yet cannot be asked to end.
fn forgive(result: Result<(), Failure>) -> Result<(), Failure> {
    let Err(failure) = result else { return Ok(()) };
    let is_over = matches!(failure.cause.as_ref(), Cause::Monitor(MonitorError::Gone))
        || matches!(
            failure.cause.as_ref(),
            Cause::Monitor(MonitorError::Refused(refusal))
                if matches!(refusal.class, Class::NotFound | Class::FailedPrecondition)
        );
    if is_over { Ok(()) } else { Err(failure) }
}

async fn until_over(
    inner: &Inner,
    id: &ContainerId,
    phase: &'static str,
    patience: Duration,
    phases: &Phases,
) -> Result<(), Failure> {
    phases.enter(phase, Some(patience));
    let ended = inner.wait_for_end(id, patience).await;
    phases.leave();
    let late = || PhaseError { phase, at: String::new(), after: patience };
    if ended { Ok(()) } else { Err(Failure::new(phase, late())) }
}

#[cfg(test)]
mod tests {
    use monitor_client::api::Refusal;

    use super::*;

    #[test]
    fn only_what_says_that_the_container_is_no_more_is_forgiven() {
        let refused = |class| {
            let refusal = Refusal { class, phase: String::new(), message: "no".to_owned() };
            Err(Failure::new("kill", MonitorError::Refused(refusal)))
        };
        assert!(forgive(Ok(())).is_ok());
        assert!(forgive(Err(Failure::new("kill", MonitorError::Gone))).is_ok());
        assert!(forgive(refused(Class::NotFound)).is_ok());
        assert!(forgive(refused(Class::FailedPrecondition)).is_ok());
        assert!(forgive(refused(Class::Internal)).is_err());
    }
}
