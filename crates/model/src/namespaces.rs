//! Which namespaces a sandbox or a container has to itself, shares or is without (CRI `NamespaceOption`).

use serde::{Deserialize, Serialize};

use crate::ContainerId;

/// The namespaces of a sandbox, or of a container in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Namespaces {
    /// Network.
    pub network: NetworkMode,
    /// Process ids.
    pub pid: PidMode,
    /// System V IPC and POSIX message queues.
    pub ipc: IpcMode,
    /// Users and groups.
    #[serde(default)]
    pub user: UserNamespace,
}

/// Whose network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum NetworkMode {
    /// One of the pod's own.
    #[default]
    Pod,
    /// The host's.
    Node,
}

/// Whose process ids.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PidMode {
    /// One namespace shared by the pod's containers.
    Pod,
    /// One of the container's own.
    #[default]
    Container,
    /// The host's.
    Node,
    /// That of another container of the pod, for debugging it.
    Target(ContainerId),
}

/// Whose IPC objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum IpcMode {
    /// The pod's.
    #[default]
    Pod,
    /// The container's own.
    Container,
    /// The host's.
    Node,
}

/// Whose user ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UserNamespace {
    /// The host's.
    #[default]
    Node,
    /// One of the pod's own, with one range each for users and groups.
    Pod {
        /// Users.
        uids: IdMapping,
        /// Groups.
        gids: IdMapping,
    },
}

/// A range of ids inside that stands for a range outside (user_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapping {
    /// First id inside.
    pub container_id: u32,
    /// First id outside.
    pub host_id: u32,
    /// How many.
    pub length: u32,
}
