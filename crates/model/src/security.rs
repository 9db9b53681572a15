//! Who a container's processes are and what they may do (CRI `LinuxContainerSecurityContext`).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Namespaces;

/// The security context of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSecurity {
    /// Changes to the default set of capabilities.
    pub capabilities: CapabilityChanges,
    /// All capabilities, all devices, no masked paths, no profiles.
    pub privileged: bool,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// SELinux label, where the host enforces one.
    pub selinux: Option<SelinuxOptions>,
    /// User and group to run as; what is not said comes from the image.
    pub run_as: RunAs,
    /// Whether the root file system is mounted read-only.
    pub readonly_rootfs: bool,
    /// Further groups.
    pub supplemental_groups: Vec<u32>,
    /// Whether the image's groups for the user count as well.
    pub groups_policy: GroupsPolicy,
    /// Whether execve may grant no privileges (prctl(2), PR_SET_NO_NEW_PRIVS).
    pub no_new_privs: bool,
    /// Paths inside that are hidden.
    pub masked_paths: Vec<PathBuf>,
    /// Paths inside that are read-only.
    pub readonly_paths: Vec<PathBuf>,
    /// System call filter.
    pub seccomp: Profile,
    /// AppArmor profile.
    pub apparmor: Profile,
}

/// Changes to the default set of capabilities; names without `CAP_`, upper case; `ALL` stands for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilityChanges {
    /// Added.
    pub add: Vec<String>,
    /// Taken away; wins over `add` unless that names the capability itself and this says `ALL`.
    pub drop: Vec<String>,
    /// Added to the ambient set as well, so that a process of another user than root keeps them.
    pub add_ambient: Vec<String>,
}

/// An SELinux label's four parts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SelinuxOptions {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// Who to run as, as far as the request says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAs {
    /// The user.
    pub user: Option<RunAsUser>,
    /// The group; only together with a user.
    pub group: Option<u32>,
}

/// A user by number, or by a name that the image's passwd knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunAsUser {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// Whether the groups that the image lists for the user are added (CRI `SupplementalGroupsPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum GroupsPolicy {
    /// Yes.
    #[default]
    Merge,
    /// No: only the groups that the request names.
    Strict,
}

/// Who a process runs as, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All supplementary groups, sorted.
    pub groups: Vec<u32>,
}

/// Which profile of seccomp or AppArmor applies (CRI `SecurityProfile`); a missing profile is unconfined.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Profile {
    /// The runtime's own.
    RuntimeDefault,
    /// None.
    #[default]
    Unconfined,
    /// One of the node's: a file's path for seccomp, a loaded profile's name for AppArmor.
    Localhost(String),
}
