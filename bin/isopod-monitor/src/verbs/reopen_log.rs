//! After a rotation: the log goes on in the file that has its name now.

use model::{Class, ContainerId, State};
use monitor_api::{Refusal, Reply};

use crate::monitor::Monitor;
use crate::refusal::{failed, refuse};

pub fn reopen_log(monitor: &mut Monitor, id: &ContainerId) -> Result<Reply, Refusal> {
    let key = monitor.find(id)?;
    let Some(container) = monitor.containers.get_mut(&key) else { return Ok(Reply::Done) };
    if !matches!(container.state, State::Running { .. }) {
        return Err(refuse(Class::FailedPrecondition, format!("container {id} does not run")));
    }
    container.output.log.reopen().map_err(failed("open the log again"))?;
    Ok(Reply::Done)
}
