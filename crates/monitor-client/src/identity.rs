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
    ///
    /// # Errors
    /// Why it cannot be told; then it may run.
    pub fn is_alive(self) -> io::Result<bool> {
        Ok(is_still(self)? && !is_zombie(self.pid)?)
    }

    /// Whether it is certain that the process does not run any more.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self.is_alive(), Ok(false))
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
        if !is_still(self)? {
            return Ok(());
        }
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Err(e) if e != Errno::SRCH => Err(e.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// Whether the process that has the id now is the same.
fn is_still(identity: Identity) -> io::Result<bool> {
    match identity_of(identity.pid) {
        Ok(found) => Ok(found == identity),
        Err(error) if is_nobody(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether `error` says that there is no such process; any other says nothing about it.
fn is_nobody(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::SRCH].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|errno| gone.contains(&errno))
}

fn is_zombie(pid: i32) -> io::Result<bool> {
    let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if is_nobody(&error) => return Ok(true),
        Err(error) => return Err(error),
    };
    // The name in parentheses may contain anything, so look behind the last one.
    let state = stat.rfind(')').and_then(|end| stat[end + 1..].trim_start().chars().next());
    Ok(matches!(state, Some('Z' | 'X')))
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
        assert!(identity.is_alive().unwrap());
        assert!(other.has_ended());
        other.kill().unwrap();
        assert!(!identity.has_ended());
        identity.kill().unwrap();
        child.wait().unwrap();
        assert!(identity.has_ended());
        identity.kill().unwrap();
    }

    #[test]
    fn only_an_error_that_says_so_means_that_there_is_no_process() {
        for (errno, expected) in [
            (Errno::NOENT, true),
            (Errno::SRCH, true),
            (Errno::MFILE, false),
            (Errno::ACCESS, false),
        ] {
            assert_eq!(is_nobody(&errno.into()), expected, "{errno}");
        }
        assert!(!is_nobody(&io::ErrorKind::InvalidData.into()));
    }
}
