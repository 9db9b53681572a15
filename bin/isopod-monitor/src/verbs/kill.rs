//! Signals.

use model::{Class, ContainerId, State};
use monitor_api::{KillScope, Refusal, Reply};
use rustix::io::Errno;
use rustix::process::{Signal, pidfd_send_signal};

use crate::monitor::Monitor;
use crate::refusal::{failed, refuse};

pub fn kill(monitor: &mut Monitor, id: &ContainerId, signal: i32, scope: KillScope) -> Result<Reply, Refusal> {
    let key = monitor.find(id)?;
    let Some(container) = monitor.containers.get(&key) else { return Ok(Reply::Done) };
    if matches!(container.state, State::Exited { .. }) {
        return Ok(Reply::Done);
    }
    let invalid = || refuse(Class::InvalidArgument, format!("{signal} is not a signal"));
    let signal = model::Signal::from_number(signal).map_err(|_| invalid())?;
    match scope {
        KillScope::All => {
            container.cgroup.kill_all();
            if let Some(process) = &container.process {
                crate::monitor::kill(&process.pidfd);
            }
        }
        KillScope::First => {
            let Some(process) = &container.process else {
                return Err(refuse(Class::FailedPrecondition, "it has no process yet"));
            };
            let number = Signal::from_named_raw(signal.number());
            let sent = match number {
                Some(named) => pidfd_send_signal(&process.pidfd, named).map_err(std::io::Error::from),
                None => sys::send_signal(&process.pidfd, signal.number()),
            };
            match sent {
                Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                other => other.map_err(failed(format!("send {signal}")))?,
            }
        }
    }
    // A container that was never started and has no process ends here.
    let never_ran = container.process.is_none() && scope == KillScope::All;
    if never_ran {
        monitor.exited(key, crate::container::exit_of(137, false));
    }
    Ok(Reply::Done)
}
