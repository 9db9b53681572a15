//! Finding the monitor of a pod again, after a restart of the daemon or when its connection broke.
//!
//! Always: a monitor that lives is looked for until it answers; one that does not for [`PATIENCE`] is killed.
//! Only one whose process has certainly ended is taken for gone, so that neither a slow machine nor one
//! without free descriptors costs a pod its life.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use model::{ContainerId, SandboxId, with_causes};
use monitor_client::api::{ContainerReport, ExitRecord};
use monitor_client::{Identity, Monitor, MonitorEvents};
use tokio::time::Instant;

use crate::container::remove::leavings;
use crate::error::Cause;
use crate::monitors::{Truth, apply, catch_up, exit_record};
use crate::pods::Inner;
use crate::records::{ContainerStage, SandboxStage};
use crate::steps::bounded;
use crate::undo::Undo;

/// How long a monitor that lives and does not answer is left alone.
const PATIENCE: Duration = Duration::from_secs(300);
/// The first pause between two attempts; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A monitor that was found, and what it has.
pub(crate) type Found = (Monitor, MonitorEvents, Vec<ContainerReport>);

/// What one attempt gave.
pub(crate) enum Attempt {
    /// It answers.
    Found(Box<Found>),
    /// It lives and does not answer; why not.
    Silent(Cause),
    /// It has ended.
    Ended,
}

/// Tries once to reach the monitor of a pod.
pub(crate) async fn attempt(inner: &Inner, sandbox: &SandboxId, identity: Identity) -> Attempt {
    let directory = inner.pod_dir(sandbox);
    let connect = monitor_client::connect(&directory, identity);
    match bounded("find monitor", inner.config.deadlines.answer, connect).await {
        Ok((monitor, events, welcome)) => {
            Attempt::Found(Box::new((monitor, events, welcome.containers)))
        }
        Err(_) if identity.has_ended() => Attempt::Ended,
        Err(cause) => Attempt::Silent(cause),
    }
}

/// Looks for the monitor of a pod until it answers; `None` once its process has ended, or it has none. That of
/// a pod which is not to run any more is left to whoever ends it, and only its end is waited for.
pub(crate) async fn until_found(inner: &Inner, sandbox: &SandboxId) -> Option<Box<Found>> {
    let give_up = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        let record = inner.table.sandbox(sandbox)?;
        let identity = record.monitor?;
        if record.stage == SandboxStage::Ready {
            match attempt(inner, sandbox, identity).await {
                Attempt::Found(found) => return Some(found),
                Attempt::Ended => return None,
                Attempt::Silent(cause) => silent(sandbox, identity, &cause, give_up),
            }
        } else if identity.has_ended() {
            return None;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A monitor that lives has not answered; past `give_up` it is killed.
fn silent(sandbox: &SandboxId, identity: Identity, cause: &Cause, give_up: Instant) {
    let error = with_causes(cause);
    if Instant::now() < give_up {
        tracing::warn!(error, sandbox = %sandbox, "a monitor lives and does not answer");
        return;
    }
    tracing::error!(error, sandbox = %sandbox, "a monitor that does not answer is killed");
    if let Err(error) = identity.kill() {
        tracing::error!(%error, sandbox = %sandbox, "and cannot be");
    }
}

/// What the monitor has against what the records say. What has happened to containers is known when this
/// returns; what is left of unfinished ones is undone meanwhile, because that takes its time.
pub(crate) fn compare(inner: &Arc<Inner>, sandbox: &SandboxId, reports: Vec<ContainerReport>) {
    let mut reports: HashMap<ContainerId, ContainerReport> =
        reports.into_iter().map(|r| (r.container.clone(), r)).collect();
    let directory = inner.pod_dir(sandbox);
    let mut leftovers: Vec<(String, Vec<Undo>)> = Vec::new();
    for container in inner.table.containers_of(sandbox) {
        let report = reports.remove(&container.id);
        match container.stage {
            // Those of this daemon have somebody who finishes them.
            ContainerStage::Making | ContainerStage::Removing => {
                if inner.inherited.contains(&container.id) {
                    let undos = leavings(inner, &container).into_iter().map(|(_, undo)| undo);
                    leftovers.push((container.id.to_string(), undos.collect()));
                }
            }
            ContainerStage::Made => {
                let pid = report.as_ref().and_then(|r| r.pid);
                let truth = truth(report, || exit_record(&directory, &container.id));
                if pid.is_some() {
                    inner.table.change_container(&container.id, |r| r.pid = pid);
                }
                apply(inner, &container.id, &catch_up(&container.state, &truth));
            }
        }
    }
    for container in reports.into_keys() {
        tracing::warn!(container = %container, "a monitor has a container that no record knows");
        let object = container.to_string();
        let undo = Undo::RemoveFromMonitor { sandbox: sandbox.clone(), container };
        leftovers.push((object, vec![undo]));
    }
    let inner = Arc::clone(inner);
    tokio::spawn(async move {
        for (object, undos) in leftovers {
            inner.owed.undo(&object, undos, inner.as_ref()).await;
        }
    });
}

fn truth(
    report: Option<ContainerReport>,
    exit_record: impl FnOnce() -> Option<ExitRecord>,
) -> Truth {
    let why = "the pod's monitor does not know this container any more";
    match report {
        Some(report) => Truth::Reported(report.state),
        None => exit_record().map_or(Truth::Unknown(why), Truth::Ended),
    }
}

#[cfg(test)]
mod tests {
    use model::{State, Timestamp};

    use super::*;

    #[test]
    fn what_the_monitor_says_counts_then_its_record_and_else_nobody_knows() {
        let container = ContainerId::from_random([1; 32]);
        let report = ContainerReport {
            container: container.clone(),
            state: State::Created,
            pid: None,
            log_lines_lost: 0,
            log_lines_dropped: 0,
        };
        let exit = model::Exit {
            code: 1,
            finished_at: Timestamp(1),
            reason: model::ExitReason::Error,
            message: String::new(),
        };
        let record = ExitRecord { container, started_at: Timestamp(1), exit };
        let reported = truth(Some(report), || Some(record.clone()));
        assert_eq!(reported, Truth::Reported(State::Created));
        assert_eq!(truth(None, || Some(record.clone())), Truth::Ended(record));
        assert!(matches!(truth(None, || None), Truth::Unknown(_)));
    }
}
