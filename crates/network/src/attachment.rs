//! What is asked for when a sandbox joins its networks, and what comes of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use model::{Dns, HandlerName, PortMapping, SandboxConfig, SandboxId};
use serde::{Deserialize, Serialize};

/// A sandbox that is to join the networks, or to leave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// Its pinned network namespace.
    pub netns: PathBuf,
    /// The pod's name.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// The runtime handler; one may have networks of its own.
    pub handler: HandlerName,
    /// Ports of the host that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Given to plugins that ask for it.
    pub dns: Option<Dns>,
    /// The pod's annotations; of these the bandwidth limits are read.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup that contains the pod, given to plugins that ask for it.
    pub cgroup_parent: Option<String>,
}

impl Attachment {
    /// What `config` asks for, for the sandbox `sandbox` whose namespace is pinned at `netns`.
    #[must_use]
    pub fn new(sandbox: &SandboxId, config: &SandboxConfig, netns: PathBuf) -> Self {
        Self {
            sandbox: sandbox.clone(),
            netns,
            name: config.metadata.name.clone(),
            namespace: config.metadata.namespace.clone(),
            uid: config.metadata.uid.clone(),
            handler: config.handler.clone(),
            port_mappings: config.port_mappings.clone(),
            dns: config.dns.clone(),
            annotations: config.annotations.clone(),
            cgroup_parent: config.cgroup_parent.clone(),
        }
    }
}

/// An interface of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name inside.
    pub name: String,
    /// The hardware address, empty where a plugin tells none.
    pub mac: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
}

/// What a sandbox has after it joined its networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    /// Addresses of the first network, the primary one first; never empty unless there is no network at all.
    pub ips: Vec<IpAddr>,
    /// Interfaces inside, without loopback.
    pub interfaces: Vec<Interface>,
    /// The results as the networks gave them, for `detach` and for people.
    pub result: serde_json::Value,
}
