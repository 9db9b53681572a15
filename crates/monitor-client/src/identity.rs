//! A monitor's process, told from others by its id and the time of its start.

use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::connection::{Monitor, MonitorEvents};
use crate::error::MonitorError;
use crate::start::{Identity, connect_to, identity_of};

impl Identity {
    /// Whether the process runs still. One that has ended and was not waited for does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        identity_of(self.pid).ok() == Some(self) && !is_zombie(self.pid)
    }

    /// Sends SIGKILL to the process, and to no other that has its id now. Succeeds for one that has ended.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn kill(self) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        // The descriptor stands for whoever has the id now; only then is looked who that is.
        if identity_of(self.pid).ok() != Some(self) {
            return Ok(());
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Err(e) if e != Errno::SRCH => Err(e.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain anything, so look behind the last one.
    let state = stat.rfind(')').and_then(|end| stat[end + 1..].trim_start().chars().next());
    matches!(state, Some('Z' | 'X'))
}

/// Connects to whichever monitor serves the pod in `directory`: for a pod whose monitor was started and not
/// written down in time. The directory is the daemon's own, so nobody else can listen there.
///
/// # Errors
/// [`MonitorError::Unreachable`] when nobody listens.
pub async fn find(directory: &Path) -> Result<(Monitor, MonitorEvents, Identity), MonitorError> {
    let (monitor, events) = connect_to(directory)?;
    let pid = monitor.hello().await?.pid;
    let what = "find out when the monitor was started";
    let identity = identity_of(pid).map_err(|source| MonitorError::Start { what, source })?;
    Ok((monitor, events, identity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_process_itself_is_killed() {
        let mut child = std::process::Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child).as_raw_nonzero().get();
        let identity = identity_of(pid).unwrap();
        let other = Identity { start_time: identity.start_time + 1, ..identity };
        assert!(identity.is_alive());
        assert!(!other.is_alive());
        other.kill().unwrap();
        assert!(identity.is_alive());
        identity.kill().unwrap();
        child.wait().unwrap();
        assert!(!identity.is_alive());
        identity.kill().unwrap();
    }
}
