//! The pod's namespaces. Descriptors: the listening socket, and the network namespace if there is one already.

use std::os::fd::OwnedFd;

use model::Class;
use monitor_api::{Refusal, Reply, Setup};

use crate::monitor::Monitor;
use crate::pod::{Pod, SetUp};
use crate::refusal::{failed, refuse};

pub fn setup(
    monitor: &mut Monitor,
    setup: Setup,
    fds: Vec<OwnedFd>,
) -> Result<(Reply, Vec<OwnedFd>), Refusal> {
    if let Some(pod) = &monitor.pod {
        return Err(refuse(
            Class::FailedPrecondition,
            format!("this monitor has the pod {} already", pod.sandbox),
        ));
    }
    let mut fds = fds.into_iter();
    let listener = fds
        .next()
        .ok_or_else(|| refuse(Class::InvalidArgument, "no listening socket came with it"))?;
    let netns = fds.next();
    if netns.is_some() && !setup.own_network {
        return Err(refuse(
            Class::InvalidArgument,
            "a network namespace came for a pod that has none of its own",
        ));
    }
    let SetUp { pod, spans, netns } = Pod::set_up(&monitor.proof, setup, netns.as_ref())?;
    monitor.listen(listener).map_err(failed("listen for daemons"))?;
    monitor.pod = Some(pod);
    sys::return_free_memory();
    Ok((Reply::Ready { spans }, netns.into_iter().collect()))
}
