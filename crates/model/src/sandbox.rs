//! A pod sandbox as it was asked for (CRI `PodSandboxConfig`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{GroupsPolicy, HandlerName, Namespaces, Profile, Resources, RunAs, SelinuxOptions};

/// What identifies a sandbox to its caller: the key of its creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SandboxMetadata {
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The pod's namespace.
    pub namespace: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
}

impl std::fmt::Display for SandboxMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A sandbox as it was asked for, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// Who it is.
    pub metadata: SandboxMetadata,
    /// The handler that runs its containers.
    pub handler: HandlerName,
    /// Host name inside; empty for the host's.
    pub hostname: String,
    /// Directory on the host for its containers' logs.
    pub log_directory: Option<PathBuf>,
    /// Contents of resolv.conf; the host's where `None`.
    pub dns: Option<Dns>,
    /// Ports of the host that lead into the pod. Entries without a host port are dropped at the border.
    pub port_mappings: Vec<PortMapping>,
    /// Returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// The cgroup that contains the pod: a path (cgroupfs driver) or a slice (systemd driver).
    pub cgroup_parent: Option<String>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// Whether privileged containers may be in it.
    pub privileged: bool,
    /// SELinux label of the pod.
    pub selinux: Option<SelinuxOptions>,
    /// User of the sandbox's own process, where it has one.
    pub run_as: RunAs,
    /// Whether the sandbox's own root is read-only.
    pub readonly_rootfs: bool,
    /// Groups of the sandbox's own process.
    pub supplemental_groups: Vec<u32>,
    /// How those combine with the image's.
    pub groups_policy: GroupsPolicy,
    /// Seccomp profile of the sandbox's own process.
    pub seccomp: Profile,
    /// AppArmor profile of the sandbox's own process.
    pub apparmor: Profile,
    /// Kernel parameters to set in the pod's namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// What the pod costs beyond its containers.
    pub overhead: Resources,
    /// The sum of its containers' limits.
    pub resources: Resources,
}

/// Contents of resolv.conf(5).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dns {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Port inside.
    pub container_port: u16,
    /// Port outside, never 0.
    pub host_port: u16,
    /// Address outside; all of them where `None`.
    pub host_ip: Option<IpAddr>,
}

/// Transport protocols that host ports know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The name in lower case, as CNI plugins know it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Where a sandbox is in its life (CRI `PodSandboxState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Its namespaces, network and monitor are there.
    Ready,
    /// It was stopped, or has lost one of those.
    NotReady,
}
