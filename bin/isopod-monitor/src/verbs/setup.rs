//! The pod's namespaces. Descriptors: the listening socket, and the network namespace if the pod has one.

use model::Class;
use monitor_api::{Refusal, Reply, Setup};

use crate::monitor::Monitor;
use crate::pod::Pod;
use crate::poller::Key;
use crate::refusal::{failed, refuse};

pub fn setup(monitor: &mut Monitor, connection: Key, setup: Setup) -> Result<Reply, Refusal> {
    if let Some(pod) = &monitor.pod {
        return Err(refuse(Class::FailedPrecondition, format!("this monitor has the pod {} already", pod.sandbox)));
    }
    let wanted = if setup.own_network { 2 } else { 1 };
    let mut fds = monitor.take_fds(connection, wanted)?;
    let netns = if setup.own_network { fds.pop() } else { None };
    let listener = fds.pop().ok_or_else(|| refuse(Class::InvalidArgument, "no listening socket came with it"))?;
    let (pod, spans) = Pod::set_up(&monitor.proof, setup, netns.as_ref())?;
    monitor.listen(listener).map_err(failed("listen for daemons"))?;
    monitor.pod = Some(pod);
    sys::return_free_memory();
    Ok(Reply::Ready { spans })
}
