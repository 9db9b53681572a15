//! Processes that were added to containers.

use std::os::fd::OwnedFd;

use launcher::Control;
use sys::HandOver;

use crate::cgroup::ExecSeat;
use crate::container::{Process, ReplyTo};
use crate::poller::Key;

/// What an exec is at.
#[derive(Debug)]
pub enum ExecStage {
    /// Its process enters the container.
    Entering { reply: ReplyTo, control: Control, terminal: Option<OwnedFd> },
    /// An external runtime's command makes it.
    EnteringOutside,
    /// It runs.
    Running,
}

/// A process that was added to a container. It lives no longer than the connection that asked for it.
#[derive(Debug)]
pub struct Exec {
    /// The number that its connection knows it by; `None` when its end is of no interest any more.
    pub number: Option<u64>,
    pub connection: Key,
    /// The container that it is in.
    pub container: Key,
    pub stage: ExecStage,
    pub process: Option<Process>,
    /// Whom its process will hand its place to.
    pub hand_over: Option<HandOver>,
    pub seat: ExecSeat,
    /// Whether its process has come to its place and nobody there was told to be killed: only then can another one be
    /// born there.
    pub leaves_clean: bool,
}

impl Exec {
    /// If its process has handed its place over, its process is the heir from now on.
    pub fn promote(&mut self) {
        if let Some(heir) = self.hand_over.as_ref().and_then(Process::heir) {
            self.process = Some(heir);
            self.hand_over = None;
        }
    }
}
