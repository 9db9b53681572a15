//! From what a monitor tells to records and events.
//!
//! Always: one task per connection takes its events in order. A monitor that is gone without being asked
//! is looked for again; if it has ended, its containers have ended with it, and how is read from the
//! exit records that it has left.

use std::path::Path;
use std::sync::Arc;

use model::{ContainerId, Event, Exit, ExitReason, SandboxId, State, Timestamp};
use monitor_client::api::ExitRecord;
use monitor_client::{Monitor, MonitorEvent, MonitorEvents};

use crate::clock;
use crate::pods::{Inner, Pods};
use crate::reconnect;
use crate::records::SandboxStage;
use model::with_causes;

/// Takes the events of a pod's monitor from now on.
pub(crate) fn follow(pods: &Pods, sandbox: &SandboxId, monitor: Monitor, events: MonitorEvents) {
    pods.inner.table.set_monitor(sandbox, Some(monitor));
    let (pods, sandbox) = (pods.clone(), sandbox.clone());
    tokio::spawn(async move { follow_on(&pods.inner, &sandbox, Some(events)).await });
}

/// Looks for the monitor of a pod for as long as it lives, then takes its events.
pub(crate) fn find_and_follow(pods: &Pods, sandbox: &SandboxId) {
    let (pods, sandbox) = (pods.clone(), sandbox.clone());
    tokio::spawn(async move { follow_on(&pods.inner, &sandbox, None).await });
}

async fn follow_on(inner: &Arc<Inner>, sandbox: &SandboxId, events: Option<MonitorEvents>) {
    let mut events = events;
    loop {
        if let Some(events) = events.take() {
            take_all(inner, sandbox, events).await;
            inner.table.set_monitor(sandbox, None);
        }
        let Some(found) = reconnect::until_found(inner, sandbox).await else { break };
        tracing::warn!(sandbox = %sandbox, "a monitor was found again");
        let (monitor, more, reports) = *found;
        inner.table.set_monitor(sandbox, Some(monitor));
        reconnect::compare(inner, sandbox, reports);
        events = Some(more);
    }
    lost(inner, sandbox).await;
}

/// Until the connection has ended.
async fn take_all(inner: &Inner, sandbox: &SandboxId, mut events: MonitorEvents) {
    while let Some(event) = events.recv().await {
        match event {
            MonitorEvent::Exited { container, exit } => exited(inner, sandbox, &container, exit),
            MonitorEvent::Gone => return,
        }
    }
}

/// A container has ended, and perhaps was started a moment before without our having heard of it.
pub(crate) fn exited(inner: &Inner, sandbox: &SandboxId, id: &ContainerId, exit: Exit) {
    let record = exit_record(&inner.pod_dir(sandbox), id);
    let Some(container) = inner.table.container(id) else { return };
    let record = record.unwrap_or_else(|| {
        let started_at = Timestamp(0);
        ExitRecord { container: id.clone(), started_at, exit }
    });
    apply(inner, id, &catch_up(&container.state, &Truth::Ended(record)));
}

/// Moves a container on, event by event, and writes it down.
pub(crate) fn apply(inner: &Inner, id: &ContainerId, events: &[Event]) {
    let mut must_save = false;
    for event in events {
        must_save |= inner.table.happened(id, event);
    }
    if must_save && let Err(error) = inner.table.save_container(id) {
        // The monitor's own record of the end stays until the container is removed.
        tracing::error!(error = %with_causes(&error), container = %id, "a container's state is not recorded");
    }
}

/// What is known of a container beside what was remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Truth {
    /// Its monitor has it in this state.
    Reported(State),
    /// Its end was recorded.
    Ended(ExitRecord),
    /// Nobody knows how it ended, only that it has; and why nobody knows.
    Unknown(&'static str),
}

/// What has to happen to a container in `state` for the truth to be told.
pub(crate) fn catch_up(state: &State, truth: &Truth) -> Vec<Event> {
    let ended = |started_at: Timestamp, exit: &Exit| {
        let was_missed = matches!(state, State::Created) && started_at.0 > 0;
        let started = was_missed.then_some(Event::Started(started_at));
        started.into_iter().chain([Event::Exited(exit.clone())]).collect()
    };
    match (state, truth) {
        (State::Exited { .. }, _)
        | (State::Created | State::Running { .. }, Truth::Reported(State::Created)) => Vec::new(),
        (_, Truth::Reported(State::Running { started_at })) => vec![Event::Started(*started_at)],
        (_, Truth::Reported(State::Exited { started_at, exit })) => ended(*started_at, exit),
        (_, Truth::Ended(record)) => ended(record.started_at, &record.exit),
        (_, Truth::Unknown(message)) => vec![Event::Exited(Exit {
            // What the kubelet takes for an end that nobody saw.
            code: 255,
            finished_at: clock::now(),
            reason: ExitReason::ContainerStatusUnknown,
            message: (*message).to_owned(),
        })],
    }
}

/// The record that a monitor wrote of a container's end.
pub(crate) fn exit_record(pod_dir: &Path, id: &ContainerId) -> Option<ExitRecord> {
    let path = pod_dir.join(ExitRecord::DIRECTORY).join(id.as_str());
    match store::read_record::<ExitRecord>(&path) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(error = %with_causes(&error), "an exit record cannot be read");
            None
        }
    }
}

/// A pod's monitor has ended, asked or not.
pub(crate) async fn lost(inner: &Inner, sandbox: &SandboxId) {
    let Some(record) = inner.table.sandbox(sandbox) else { return };
    let was_ready = record.stage == SandboxStage::Ready;
    let containers = inner.table.containers_of(sandbox);
    let directory = inner.pod_dir(sandbox);
    let why = "the pod's monitor ended before it could record how this container ended";
    for container in containers.iter().filter(|c| !c.is_over()) {
        let truth =
            exit_record(&directory, &container.id).map_or(Truth::Unknown(why), Truth::Ended);
        apply(inner, &container.id, &catch_up(&container.state, &truth));
    }
    if was_ready {
        tracing::error!(sandbox = %sandbox, "the monitor of a pod has ended by itself");
        // Killed alone, it has left its containers behind.
        for container in &containers {
            if let Err(cause) = inner.remove_cgroup(&container.cgroup).await {
                tracing::warn!(error = %with_causes(&cause), container = %container.id, "its cgroup stays");
            }
        }
    }
    inner.table.monitor_lost(sandbox);
    if let Err(error) = inner.table.save_sandbox(sandbox) {
        tracing::error!(error = %with_causes(&error), sandbox = %sandbox, "a sandbox's state is not recorded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> Exit {
        let (finished_at, reason) = (Timestamp(9), ExitReason::Error);
        Exit { code, finished_at, reason, message: String::new() }
    }

    fn record(started_at: i64) -> ExitRecord {
        let container = ContainerId::from_random([1; 32]);
        ExitRecord { container, started_at: Timestamp(started_at), exit: exit(4) }
    }

    #[test]
    fn what_was_missed_is_caught_up_with_in_order_and_nothing_happens_twice() {
        let running = State::Running { started_at: Timestamp(5) };
        let exited = State::Exited { started_at: Timestamp(5), exit: exit(4) };
        let (started, ended) = (Event::Started(Timestamp(5)), Event::Exited(exit(4)));
        for (state, truth, expected) in [
            (State::Created, Truth::Reported(State::Created), vec![]),
            (State::Created, Truth::Reported(running.clone()), vec![started.clone()]),
            (State::Created, Truth::Ended(record(5)), vec![started.clone(), ended.clone()]),
            (State::Created, Truth::Reported(exited.clone()), vec![started, ended.clone()]),
            (State::Created, Truth::Ended(record(0)), vec![ended.clone()]),
            (running.clone(), Truth::Ended(record(5)), vec![ended.clone()]),
            (running.clone(), Truth::Reported(exited.clone()), vec![ended]),
            (exited.clone(), Truth::Ended(record(5)), vec![]),
            (exited.clone(), Truth::Unknown("x"), vec![]),
        ] {
            assert_eq!(catch_up(&state, &truth), expected, "{state:?} {truth:?}");
        }
        let unknown = catch_up(&running, &Truth::Unknown("lost"));
        let [Event::Exited(exit)] = unknown.as_slice() else { unreachable!("{unknown:?}") };
        assert_eq!(exit.reason, ExitReason::ContainerStatusUnknown);
        assert_eq!((exit.code, exit.message.as_str()), (255, "lost"));
    }
}
