//! `delete`: nothing of a container is left.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::{Directory, Record, Status};

/// How long a process may take to end after SIGKILL.
const ENDING: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

pub(super) fn delete(line: &Invocation) -> Result<u8, OciError> {
    let force = line.has("force");
    let (directory, record) = match super::find(line) {
        // One that was never whole has a directory and no record.
        Err(OciError::NoSuchContainer(_)) if force => {
            Directory::of(&line.root, line.id()?).remove()?;
            return Ok(0);
        }
        found => found?,
    };
    match record.status(&directory) {
        status @ (Status::Running | Status::Paused) if !force => Err(OciError::WrongState {
            what: format!("delete the container {}", record.id),
            problem: format!("it is {}, not stopped", status.as_str()),
        }),
        // A created one has run nothing yet.
        Status::Running | Status::Paused | Status::Created | Status::Stopped => {
            remove(&directory, &record).map(|()| 0)
        }
    }
}

/// Ends it and removes what there is of it.
pub(super) fn remove(directory: &Directory, record: &Record) -> Result<(), OciError> {
    let (process, cgroup) = (record.process(), record.cgroup()?);
    if let Some(process) = &process {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
    if let Some(cgroup) = &cgroup {
        // Also those that stand still, and would not end before they are let go.
        cgroup.kill_all()?;
    }
    if let Some(process) = &process {
        wait_for(process);
    }
    if let Some(cgroup) = cgroup.filter(|_| !record.keeps_cgroup) {
        cgroup.remove()?;
    }
    directory.remove()
}

/// The same for one that was to be and cannot; what goes wrong is not told, for something else was first.
pub(super) fn clear(line: &Invocation, process: &OwnedFd) {
    let _ = pidfd_send_signal(process, Signal::KILL);
    wait_for(process);
    if let Ok((directory, record)) = super::find(line) {
        let _ = remove(&directory, &record);
    }
}

fn wait_for(process: &OwnedFd) {
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&ENDING));
}
