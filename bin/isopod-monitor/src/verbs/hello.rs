//! Who is there, and what it holds.

use model::Class;
use monitor_api::{OLDEST_PROTOCOL, PROTOCOL, Refusal, Reply, Welcome};

use crate::monitor::Monitor;
use crate::refusal::refuse;

pub fn hello(monitor: &Monitor, protocol: u32) -> Result<Reply, Refusal> {
    if protocol < OLDEST_PROTOCOL {
        let message = format!(
            "protocol {protocol} is older than {OLDEST_PROTOCOL}, the oldest that this monitor speaks"
        );
        return Err(refuse(Class::Unimplemented, message));
    }
    Ok(Reply::Welcome(Welcome {
        protocol: protocol.min(PROTOCOL),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: rustix::process::getpid().as_raw_nonzero().get(),
        sandbox: monitor.pod.as_ref().map(|pod| pod.sandbox.clone()),
        containers: monitor.containers.values().map(crate::container::Container::report).collect(),
        log_totals: Some(monitor.log_totals()),
    }))
}
