//! Plugins that a daemon before this one has left running.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use model::SandboxId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A plugin that is about to end is not cut in the middle of a file that it writes.
const GRACE: Duration = Duration::from_secs(2);
/// A killed process is gone in no time, unless a device holds it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends what still runs for this sandbox. A plugin and its children carry the sandbox's id in their
/// environment, so there is no moment between start and record in which one could be missed.
pub(crate) fn end(sandbox: &SandboxId) -> io::Result<()> {
    let mark = format!("CNI_CONTAINERID={sandbox}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid =
            entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        // Opened before the look, so that the look and the signal are at the same process.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|b| *b == 0).any(|variable| variable == mark.as_bytes()) {
            tracing::warn!(%sandbox, pid = pid.as_raw_nonzero(), "a plugin of an earlier daemon still runs");
            found.push(process);
        }
    }
    let left = outlive(found, GRACE)?;
    for process in &left {
        match pidfd_send_signal(process, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if outlive(left, PATIENCE)?.is_empty() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::TimedOut, "a killed plugin does not end"))
    }
}

/// Those of the processes that still run after this time.
fn outlive(processes: Vec<OwnedFd>, time: Duration) -> io::Result<Vec<OwnedFd>> {
    let deadline = Instant::now() + time;
    let mut left = Vec::new();
    for process in processes {
        let rest = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: rest.as_secs().cast_signed(), tv_nsec: rest.subsec_nanos().into() };
        let mut one = [PollFd::new(&process, PollFlags::IN)];
        if retry_on_intr(|| poll(&mut one, Some(&timeout)))? == 0 {
            left.push(process);
        }
    }
    Ok(left)
}
