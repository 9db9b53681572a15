//! A container's states and what moves it between them.
//!
//! Owns: the state machine. Always pure: the same state and event give the same answer.
//! Callers: `pods`, which carries the effects out.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Where a container is in its life (CRI `ContainerState`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Set up, its process not started.
    Created,
    /// Its process runs.
    Running {
        /// When the process was started.
        started_at: Timestamp,
    },
    /// Its process has ended, or could not be started.
    Exited {
        /// When the process was started; 0 if it never was.
        started_at: Timestamp,
        /// How it ended.
        exit: Exit,
    },
}

/// How a container's process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit code; 128 + n for signal n, as shells count.
    pub code: i32,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Why, in the kubelet's word.
    pub reason: ExitReason,
    /// For people; empty if there is nothing to add.
    #[serde(default)]
    pub message: String,
}

/// The reason word that the kubelet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Any other exit code.
    Error,
    /// A process of the container was killed at its own memory limit.
    OOMKilled,
    /// The process could not be started.
    StartError,
    /// The exit code was lost, and with it the truth; the message says how.
    ContainerStatusUnknown,
}

impl ExitReason {
    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OOMKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::ContainerStatusUnknown => "ContainerStatusUnknown",
        }
    }
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Its process was started.
    Started(Timestamp),
    /// Its process ended, or its start failed.
    Exited(Exit),
}

/// What has to be done once the new state holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Write the record.
    Save,
    /// Tell the subscribers that it started.
    PublishStarted,
    /// Tell the subscribers that it stopped.
    PublishStopped,
}

/// The state after `event`, and the effects that follow from the change; `None` for an event that
/// comes late or again and changes nothing.
#[must_use]
pub fn step(state: &State, event: &Event) -> Option<(State, &'static [Effect])> {
    use Effect::{PublishStarted, PublishStopped, Save};
    match (state, event) {
        (State::Created, Event::Started(at)) => {
            Some((State::Running { started_at: *at }, &[Save, PublishStarted]))
        }
        (State::Created, Event::Exited(exit)) => Some((
            State::Exited { started_at: Timestamp(0), exit: exit.clone() },
            &[Save, PublishStopped],
        )),
        (State::Running { started_at }, Event::Exited(exit)) => Some((
            State::Exited { started_at: *started_at, exit: exit.clone() },
            &[Save, PublishStopped],
        )),
        (State::Running { .. }, Event::Started(_))
        | (State::Exited { .. }, Event::Started(_) | Event::Exited(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exit(code: i32) -> Exit {
        Exit { code, finished_at: Timestamp(9), reason: ExitReason::Error, message: String::new() }
    }

    #[test]
    fn a_container_goes_from_created_to_running_to_exited() {
        let (running, effects) = step(&State::Created, &Event::Started(Timestamp(5))).unwrap();
        assert_eq!(running, State::Running { started_at: Timestamp(5) });
        assert_eq!(effects, [Effect::Save, Effect::PublishStarted]);
        let (exited, effects) = step(&running, &Event::Exited(exit(3))).unwrap();
        assert_eq!(exited, State::Exited { started_at: Timestamp(5), exit: exit(3) });
        assert_eq!(effects, [Effect::Save, Effect::PublishStopped]);
    }

    #[test]
    fn a_failed_start_leads_from_created_to_exited() {
        let (exited, _) = step(&State::Created, &Event::Exited(exit(128))).unwrap();
        assert_eq!(exited, State::Exited { started_at: Timestamp(0), exit: exit(128) });
    }

    proptest! {
        #[test]
        fn the_first_exit_wins_whatever_comes_later(codes in prop::collection::vec((any::<bool>(), 0..256_i32), 0..20)) {
            let mut state = State::Created;
            let mut first = None;
            for (is_exit, code) in codes {
                let event = if is_exit { Event::Exited(exit(code)) } else { Event::Started(Timestamp(1)) };
                if is_exit && first.is_none() {
                    first = Some(code);
                }
                if let Some((next, _)) = step(&state, &event) {
                    state = next;
                }
            }
            match (first, state) {
                (Some(code), State::Exited { exit, .. }) => prop_assert_eq!(exit.code, code),
                (None, State::Exited { .. }) => prop_assert!(false, "exited without an exit"),
                (Some(_), State::Created | State::Running { .. }) => prop_assert!(false, "an exit was lost"),
                (None, State::Created | State::Running { .. }) => {}
            }
        }
    }
}
