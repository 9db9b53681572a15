//! `kill`: a signal for a container's first process, or for all.

use std::os::fd::AsFd as _;

use model::Signal;
use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open};

use crate::args::Invocation;
use crate::error::OciError;
use crate::record::Status;

pub(super) fn kill(line: &Invocation) -> Result<u8, OciError> {
    let (directory, record) = super::find(line)?;
    if record.status(&directory) == Status::Creating {
        return Err(OciError::WrongState {
            what: format!("signal the container {}", record.id),
            problem: "container not running: it is creating".to_owned(),
        });
    }
    let word = line.words.get(1).map_or("TERM", String::as_str);
    let signal = Signal::parse(word).map_err(|bad| OciError::Usage(bad.to_string()))?;
    if line.has("all") {
        return all(&record, signal);
    }
    let not_running = || OciError::WrongState {
        what: format!("signal the container {}", record.id),
        problem: "container not running".to_owned(),
    };
    let process = record.process().ok_or_else(not_running)?;
    match sys::send_signal(process.as_fd(), signal.number()) {
        Ok(()) => {
            if signal == Signal::KILL
                && let Some(cgroup) = record.cgroup()?
            {
                cgroup.let_killed_go();
            }
            Ok(0)
        }
        Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Err(not_running()),
        Err(e) => Err(OciError::io(format!("send {signal} to the container {}", record.id))(e)),
    }
}

/// All processes of its cgroup. That nobody is there is no error: an end that came first is as good.
fn all(record: &crate::record::Record, signal: Signal) -> Result<u8, OciError> {
    let Some(cgroup) = record.cgroup()? else { return Ok(0) };
    if signal == Signal::KILL {
        cgroup.kill_all()?;
        return Ok(0);
    }
    for pid in cgroup.procs()? {
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // A number that is still listed now has not changed hands since its descriptor was opened.
        if cgroup.procs()?.contains(&pid) {
            let _ = sys::send_signal(process.as_fd(), signal.number());
        }
    }
    Ok(0)
}
