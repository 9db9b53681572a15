//! The end of a container that has ended: its cgroup, its mounts, its record.

use model::{Class, ContainerId, State};
use monitor_api::{Refusal, Reply};

use crate::container::Launcher;
use crate::monitor::Monitor;
use crate::refusal::refuse;

pub fn remove(monitor: &mut Monitor, id: &ContainerId) -> Result<Reply, Refusal> {
    let Ok(key) = monitor.find(id) else { return Ok(Reply::Done) };
    let Some(container) = monitor.containers.get(&key) else { return Ok(Reply::Done) };
    if !matches!(container.state, State::Exited { .. }) {
        return Err(refuse(Class::FailedPrecondition, format!("container {id} has not ended")));
    }
    container.cgroup.kill_all();
    container.cgroup.remove();
    if let Launcher::External(outside) = &container.launcher {
        outside.delete(&container.id);
    }
    if let Some(container) = monitor.containers.remove(&key)
        && let (Some(pod), Ok(key)) = (&monitor.pod, store::Key::parse(container.id.as_str()))
        && let Err(error) = pod.exits.remove(&key)
    {
        // The daemon removes the pod's directory with all that is left in it.
        eprintln!("isopod-monitor: {error}");
    }
    sys::return_free_memory();
    Ok(Reply::Done)
}
