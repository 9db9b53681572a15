//! The end of a container that has ended: its cgroup, its mounts, its record.

use model::{Class, ContainerId, State};
use monitor_api::{Refusal, Reply};

use crate::container::{Launcher, ReplyTo};
use crate::dying::Then;
use crate::monitor::Monitor;
use crate::refusal::refuse;

/// `None` when the answer comes with the end of an external runtime's command.
pub fn remove(
    monitor: &mut Monitor,
    reply: ReplyTo,
    id: &ContainerId,
) -> Result<Option<Reply>, Refusal> {
    let Ok(key) = monitor.find(id) else { return Ok(Some(Reply::Done)) };
    let Some(container) = monitor.containers.get(&key) else { return Ok(Some(Reply::Done)) };
    if !matches!(container.state, State::Exited { .. }) {
        return Err(refuse(Class::FailedPrecondition, format!("container {id} has not ended")));
    }
    let Some(container) = monitor.containers.remove(&key) else { return Ok(Some(Reply::Done)) };
    monitor.logged = crate::monitor::add(monitor.logged, &container.output.log.totals);
    // What still ends in the cgroup is killed and waited for beside the loop.
    monitor.dying.kill(container.cgroup.cgroup(), Then::Remove);
    crate::volumes::unmount(&container.volumes);
    monitor.remove_record(&container.id);
    let (hooks, rdt) = (container.hooks.as_deref(), container.rdt.as_ref());
    monitor.say_goodbye(container.id.clone(), hooks, rdt);
    let later = match &container.launcher {
        Launcher::External(outside) => {
            crate::external::delete(monitor, outside, &container.id, reply)?;
            true
        }
        Launcher::Own(_) => false,
    };
    drop(container);
    sys::return_free_memory();
    Ok((!later).then_some(Reply::Done))
}
