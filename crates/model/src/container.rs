//! A container as it was asked for (CRI `ContainerConfig`).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ContainerSecurity, IdMapping, ImageSpec, Resources, Secret, Signal};

/// What identifies a container inside its sandbox: with the sandbox's id the key of its creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContainerMetadata {
    /// The container's name in the pod.
    pub name: String,
    /// How many containers of this name the sandbox had before.
    pub attempt: u32,
}

/// A container as it was asked for, checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// Who it is.
    pub metadata: ContainerMetadata,
    /// The image.
    pub image: ImageSpec,
    /// Replaces the image's entry point; with it the image's command is dropped.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    /// Working directory; the image's where `None`.
    pub working_dir: Option<PathBuf>,
    /// Set over the image's environment, in order.
    pub envs: Vec<EnvVar>,
    /// Mounts in order.
    pub mounts: Vec<Mount>,
    /// Device nodes of the host.
    pub devices: Vec<Device>,
    /// Fully qualified CDI device names.
    pub cdi_devices: Vec<String>,
    /// Returned unchanged.
    pub labels: BTreeMap<String, String>,
    /// Returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// Log file below the sandbox's log directory; no log where `None`.
    pub log_path: Option<PathBuf>,
    /// What its standard streams are.
    pub stdio: Stdio,
    /// The signal that asks it to end; the image's, else SIGTERM, where `None`.
    pub stop_signal: Option<Signal>,
    /// Limits.
    pub resources: Resources,
    /// Who it is to the kernel, and what it may do.
    pub security: ContainerSecurity,
}

/// What a container's standard streams are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stdio {
    /// One terminal for all three.
    pub tty: bool,
    /// Standard input stays open for attach; otherwise it is empty.
    pub stdin: bool,
    /// The first attach that ends closes standard input.
    pub stdin_once: bool,
}

/// One variable of the environment. The value is a secret to every log and error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// Name; without `=` and NUL.
    pub name: String,
    /// Value; without NUL.
    pub value: Secret<String>,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, inside.
    pub container_path: PathBuf,
    /// What.
    pub source: MountSource,
    /// Who may write.
    pub access: Access,
    /// Which later mounts are seen on the other side.
    pub propagation: Propagation,
    /// Whether to give the source the container's SELinux label.
    pub selinux_relabel: bool,
    /// Ids of users on the mount, where they differ from the file system's.
    pub uid_mappings: Vec<IdMapping>,
    /// Ids of groups on the mount, where they differ.
    pub gid_mappings: Vec<IdMapping>,
    /// Of `noexec`, `nodev` and `nosuid`.
    pub options: Vec<String>,
}

/// Where a mount's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A path of the host.
    HostPath(PathBuf),
    /// An image, read-only.
    Image {
        /// Which.
        image: ImageSpec,
        /// The part of it to mount; empty for all.
        sub_path: PathBuf,
    },
}

/// Who may write to a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Access {
    /// The container.
    #[default]
    ReadWrite,
    /// Nobody here; mounts below it keep their own setting.
    ReadOnly,
    /// Nobody here and below.
    RecursiveReadOnly,
}

/// Mount propagation (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Propagation {
    /// None in either direction.
    #[default]
    Private,
    /// What the host mounts later is seen inside (`rslave`).
    HostToContainer,
    /// Both ways (`rshared`).
    Bidirectional,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path inside.
    pub container_path: PathBuf,
    /// Path on the host.
    pub host_path: PathBuf,
    /// What the container may do with it.
    pub access: DeviceAccess,
}

/// Allowed operations on a device, of `r`, `w` and `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Read.
    pub read: bool,
    /// Write.
    pub write: bool,
    /// Make such a node.
    pub mknod: bool,
}

impl DeviceAccess {
    /// `rwm` and its subsets; `None` for anything else. The empty text is `rwm`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !text.bytes().all(|b| matches!(b, b'r' | b'w' | b'm')) {
            return None;
        }
        let all = text.is_empty();
        Some(Self {
            read: all || text.contains('r'),
            write: all || text.contains('w'),
            mknod: all || text.contains('m'),
        })
    }
}

impl std::fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (on, letter) in [(self.read, "r"), (self.write, "w"), (self.mknod, "m")] {
            if on {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_access_is_any_of_r_w_m_and_all_where_nothing_is_said() {
        for (given, printed) in [("", "rwm"), ("r", "r"), ("wr", "rw"), ("rwm", "rwm")] {
            assert_eq!(DeviceAccess::parse(given).unwrap().to_string(), printed);
        }
        assert_eq!(DeviceAccess::parse("rx"), None);
    }
}
