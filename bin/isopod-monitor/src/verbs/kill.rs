//! Signals.

use std::os::fd::AsFd as _;

use model::{Class, ContainerId, State};
use monitor_api::{KillScope, Refusal, Reply};
use rustix::io::Errno;

use crate::container::Stage;
use crate::dying::Then;
use crate::monitor::{Monitor, has_ended};
use crate::refusal::{failed, refuse};

pub fn kill(
    monitor: &mut Monitor,
    id: &ContainerId,
    signal: i32,
    scope: KillScope,
) -> Result<Reply, Refusal> {
    let key = monitor.find(id)?;
    let Some(container) = monitor.containers.get_mut(&key) else { return Ok(Reply::Done) };
    container.promote();
    if matches!(container.state, State::Exited { .. }) {
        return Ok(Reply::Done);
    }
    let invalid = || refuse(Class::InvalidArgument, format!("{signal} is not a signal"));
    let signal = model::Signal::from_number(signal).map_err(|_| invalid())?;
    // Whoever has ended already has not ended because it was told to.
    if container.process.as_ref().is_some_and(|process| !has_ended(&process.pidfd)) {
        container.cgroup.begin_end();
    }
    match scope {
        KillScope::All => {
            if let Some(process) = &container.process {
                crate::monitor::kill(&process.pidfd);
            }
            monitor.dying.kill(container.cgroup.cgroup(), Then::Keep);
        }
        KillScope::First => {
            let Some(process) = &container.process else {
                return Err(refuse(Class::FailedPrecondition, "it has no process yet"));
            };
            match sys::send_signal(process.pidfd.as_fd(), signal.number()) {
                Err(e) if e.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {}
                other => other.map_err(failed(format!("send {signal}")))?,
            }
        }
    }
    // A container that was never started and has no process ends here.
    let never_ran = matches!(container.stage, Stage::Waiting { .. })
        && container.process.is_none()
        && scope == KillScope::All;
    if never_ran {
        monitor.exited(key, crate::container::exit_of(137, false));
    }
    Ok(Reply::Done)
}
