//! The end of a container: its processes, its cgroup, its record, then its last hooks.

use std::os::fd::OwnedFd;

use launcher::RuntimeNamespaces;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use sys::SingleThreaded;

use crate::args::Invocation;
use crate::error::OciError;
use crate::hooks;
use crate::record::{Directory, Record};

/// How long a process may take to end after SIGKILL.
const ENDING: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Ends it, removes what there is of it, and has that told. Without `runtime` this process is where the runtime is.
pub(crate) fn remove(
    proof: &SingleThreaded,
    line: &Invocation,
    runtime: Option<&RuntimeNamespaces>,
    directory: &Directory,
    record: &Record,
) -> Result<(), OciError> {
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
    if directory.remove()? {
        hooks::removed(proof, line, runtime, record);
    }
    Ok(())
}

/// The same for one that was to be and cannot, whose process is `process`; what goes wrong is not told, for something
/// else was first.
pub(crate) fn clear(
    proof: &SingleThreaded,
    line: &Invocation,
    runtime: &RuntimeNamespaces,
    process: &OwnedFd,
) {
    let _ = pidfd_send_signal(process, Signal::KILL);
    wait_for(process);
    let found = line.id().and_then(|id| {
        let directory = Directory::of(&line.root, id);
        let record = directory.read(id)?;
        Ok((directory, record))
    });
    if let Ok((directory, record)) = found {
        let _ = remove(proof, line, Some(runtime), &directory, &record);
    }
}

/// Waits for its end, but not for ever.
pub(crate) fn wait_for(process: &OwnedFd) {
    let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&ENDING));
}
