//! Processes that were added to containers.

use model::ContainerId;

use crate::cgroup::ExecSeat;
use crate::container::{Process, ReplyTo};
use crate::poller::Key;

/// What an exec is at.
#[derive(Debug)]
pub enum ExecStage {
    /// Its process enters the container.
    Entering { reply: ReplyTo, control: launcher::Control },
    /// An external runtime's command makes it.
    EnteringOutside { reply: ReplyTo, command: Process },
    /// It runs.
    Running,
}

/// A process that was added to a container. It lives no longer than the connection that asked for it.
#[derive(Debug)]
pub struct Exec {
    /// The number that its connection knows it by.
    pub number: u64,
    pub connection: Key,
    pub container: ContainerId,
    pub stage: ExecStage,
    pub process: Option<Process>,
    pub seat: ExecSeat,
}
