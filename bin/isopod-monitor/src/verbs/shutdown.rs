//! The end of the pod.

use crate::container::Stage;
use crate::dying::Then;
use crate::monitor::{Monitor, kill};

/// Kills what still runs; the loop ends when the last of it has ended.
pub fn shutdown(monitor: &mut Monitor) {
    monitor.stopping = true;
    for container in monitor.containers.values_mut() {
        container.promote();
        if let Some(process) = &container.process {
            kill(&process.pidfd);
        }
        monitor.dying.kill(container.cgroup.cgroup(), Then::Keep);
    }
    let unstarted: Vec<_> = monitor
        .containers
        .iter()
        .filter(|(_, c)| c.process.is_none() && matches!(c.stage, Stage::Waiting { .. }))
        .map(|(key, _)| *key)
        .collect();
    for key in unstarted {
        monitor.exited(key, crate::container::exit_of(137, false));
    }
    if let Some(init) = monitor.pod.as_ref().and_then(|pod| pod.init.as_ref()) {
        kill(&init.pidfd);
    }
}
