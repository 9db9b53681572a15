//! Plugins that a daemon before this one has left running.

use std::io;
use std::time::{Duration, Instant};

use model::SandboxId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A killed process is gone in no time, unless a device holds it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends what still runs for this sandbox. A plugin and its children carry the sandbox's id in their
/// environment, so there is no moment between start and record in which one could be missed.
pub(crate) fn end(sandbox: &SandboxId) -> io::Result<usize> {
    let mark = format!("CNI_CONTAINERID={sandbox}");
    let mut ended = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let pid =
            entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        // Opened before the look, so that the look and the signal are at the same process.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|b| *b == 0).any(|variable| variable == mark.as_bytes())
            && pidfd_send_signal(&process, Signal::KILL).is_ok()
        {
            tracing::warn!(%sandbox, pid = pid.as_raw_nonzero(), "ended a plugin that an earlier daemon left");
            ended.push(process);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    for process in &ended {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout =
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout))?;
    }
    Ok(ended.len())
}
