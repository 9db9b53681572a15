//! All that a spec is made of.

use std::path::{Path, PathBuf};

use model::{
    Access, ContainerConfig, CpuList, DeviceAccess, IdMapping, Propagation, SandboxConfig,
};
use oci_image::ImageConfig;
use runtime_spec::{Rlimit, Seccomp};

use crate::user::Identity;

/// All that a container's spec is made of.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The pod.
    pub sandbox: &'a SandboxConfig,
    /// The container.
    pub container: &'a ContainerConfig,
    /// Its image's configuration.
    pub image: &'a ImageConfig,
    /// Who runs it, of [`crate::resolve_user`].
    pub identity: &'a Identity,
    /// The host.
    pub host: &'a HostFacts,
    /// Files of the pod.
    pub files: &'a PodFiles,
    /// What `linux.cgroupsPath` is to say.
    pub cgroups_path: &'a str,
    /// Where the root file system will be: absolute, or relative to the bundle.
    pub root: &'a Path,
    /// The container's mounts, and its image's volumes, looked up on the host.
    pub mounts: &'a [ResolvedMount],
    /// The container's devices, looked up on the host. A directory's devices are one entry each.
    pub devices: &'a [ResolvedDevice],
    /// The handler.
    pub features: Features,
    /// Filter for an external runtime; the own launcher gets a compiled one beside the spec.
    pub seccomp: Option<&'a Seccomp>,
    /// Limits that every container gets, of the configuration or [`crate::default_rlimits`].
    pub rlimits: &'a [Rlimit],
    /// How many tasks a container may have, of the configuration.
    pub pids_limit: Option<i64>,
    /// Capabilities that a container has when the request does not change them, with `CAP_`; of the
    /// configuration or [`crate::default_capabilities`].
    pub capabilities: &'a [String],
    /// Name of the AppArmor profile that is the runtime's default, where one is loaded.
    pub apparmor_default: Option<&'a str>,
}

/// Who launches the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Launcher {
    /// The monitor itself.
    #[default]
    Own,
    /// An OCI runtime.
    External,
}

/// What a runtime handler can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Who launches.
    pub launcher: Launcher,
    /// Mounts that are read-only with all below them.
    pub recursive_read_only: bool,
    /// Mounts with ids of their own.
    pub idmapped_mounts: bool,
    /// A privileged container gets no devices of the host beyond those that it asks for.
    pub privileged_without_host_devices: bool,
}

/// What the daemon found out about the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFacts {
    /// Host name, for containers in the host's network.
    pub hostname: String,
    /// Capabilities that the kernel knows and the daemon may give, with `CAP_`, by number.
    pub capabilities: Vec<String>,
    /// All device nodes below /dev, for privileged containers. Those of /dev/pts, /dev/shm, /dev/mqueue,
    /// /dev/fd and /dev/console do not belong here.
    pub devices: Vec<HostDevice>,
    /// Whether cgroup v2 alone is in use.
    pub cgroup_unified: bool,
    /// Whether swap can be limited.
    pub swap_limit: bool,
    /// Sizes of huge pages that can be limited, as the kernel writes them (`2MB`).
    pub hugepage_sizes: Vec<String>,
    /// The CPUs that this machine can have; `None` where it does not tell.
    pub cpus: Option<CpuList>,
    /// The same for memory nodes.
    pub memory_nodes: Option<CpuList>,
    /// Whether AppArmor is on.
    pub apparmor: bool,
    /// Whether SELinux is on and the configuration wants labels.
    pub selinux: bool,
}

/// Kinds of device nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// Character device.
    Char,
    /// Block device.
    Block,
}

impl DeviceKind {
    pub(crate) const fn letter(self) -> &'static str {
        match self {
            Self::Char => "c",
            Self::Block => "b",
        }
    }
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDevice {
    /// Path on the host.
    pub path: PathBuf,
    /// Kind.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A device that the container asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedDevice {
    /// Path inside.
    pub container_path: PathBuf,
    /// What the container may do with it.
    pub access: DeviceAccess,
    /// The node.
    pub device: HostDevice,
}

/// A mount that the container asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedMount {
    /// Where, inside.
    pub destination: PathBuf,
    /// What: a path of the host without links, or the place where the monitor mounts an image volume.
    pub source: PathBuf,
    /// Who may write.
    pub access: Access,
    /// Which later mounts are seen on the other side.
    pub propagation: Propagation,
    /// Ids of users on the mount, where they differ.
    pub uid_mappings: Vec<IdMapping>,
    /// Ids of groups on the mount, where they differ.
    pub gid_mappings: Vec<IdMapping>,
    /// Of `noexec`, `nodev` and `nosuid`.
    pub options: Vec<String>,
}

/// Files of the pod that its containers see; `None` where there is none to show.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodFiles {
    /// For /etc/hosts.
    pub hosts: Option<PathBuf>,
    /// For /etc/hostname.
    pub hostname: Option<PathBuf>,
    /// For /etc/resolv.conf.
    pub resolv_conf: Option<PathBuf>,
    /// The pod's /dev/shm; where it is absent, a container has its own.
    pub shm: Option<PathBuf>,
    /// Size of a container's own /dev/shm, in bytes.
    pub shm_size: u64,
}
