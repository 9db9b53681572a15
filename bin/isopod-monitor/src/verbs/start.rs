//! From created to running.

use model::{Class, ContainerId, State};
use monitor_api::Refusal;

use crate::container::{Launcher, ReplyTo, Stage, now};
use crate::monitor::Monitor;
use crate::refusal::refuse;

/// Begins to start a container; the answer comes when its process has become its program, or could not.
pub fn start(monitor: &mut Monitor, reply: ReplyTo, id: &ContainerId) -> Result<(), Refusal> {
    let key = monitor.find(id)?;
    let Some(container) = monitor.containers.get_mut(&key) else {
        return Err(refuse(Class::Internal, format!("container {id} is gone")));
    };
    let control = match &mut container.stage {
        Stage::Waiting { control } => control.take(),
        Stage::SettingUp { .. } => {
            return Err(refuse(Class::FailedPrecondition, "it is still being set up"));
        }
        Stage::Starting { .. } | Stage::StartingOutside => {
            return Err(refuse(Class::FailedPrecondition, "it is being started already"));
        }
        Stage::Running => return Err(refuse(Class::FailedPrecondition, "it runs already")),
        Stage::Ended => return Err(refuse(Class::FailedPrecondition, "it has ended")),
    };
    if let State::Exited { .. } = container.state {
        return Err(refuse(Class::FailedPrecondition, "it has ended"));
    }
    let at = now();
    match (&container.launcher, control) {
        (Launcher::Own(_), Some(control)) => {
            // If the process is gone its end is on the way, and is the answer.
            let _ = control.start();
            container.stage = Stage::Starting { reply, control, at };
            Ok(())
        }
        (Launcher::Own(_), None) => Err(refuse(Class::Internal, "its process cannot be reached")),
        (Launcher::External(_), _) => crate::external::start(monitor, key, reply, at),
    }
}
