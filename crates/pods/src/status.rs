//! What is told of sandboxes and containers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use model::{
    ContainerConfig, ContainerId, Digest, Mount, Resources, SandboxConfig, SandboxId, SandboxState,
    Signal, Span, State, Timestamp, User,
};

/// A status's item of a list, as whoever lists has encoded it. Always: a status that is told of never changes; what
/// has changed has a new one, with nothing kept.
#[derive(Debug, Default)]
pub struct Kept(OnceLock<Bytes>);

impl Kept {
    /// The item; `make` makes it for the first one who asks. All who ask make the same.
    pub fn get_or(&self, make: impl FnOnce() -> Bytes) -> Bytes {
        self.0.get_or_init(make).clone()
    }
}

impl Clone for Kept {
    /// A copy of a status may be changed: nothing is kept with it.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// A sandbox as it is now.
#[derive(Debug, Clone)]
pub struct SandboxStatus {
    /// Which.
    pub id: SandboxId,
    /// As it was asked for.
    pub config: Arc<SandboxConfig>,
    /// Whether it is ready.
    pub state: SandboxState,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Who asked for it, for people; empty where an earlier version has made it.
    pub asked_by: String,
    /// Its addresses, the primary one first; none on the host's network.
    pub ips: Vec<IpAddr>,
    /// Its monitor's process, while that lives.
    pub monitor_pid: Option<i32>,
    /// Its pinned network namespace; `None` on the host's network.
    pub netns: Option<PathBuf>,
    /// The pod's cgroup, as a path in each hierarchy.
    pub cgroup: Option<String>,
    /// Where the time of its creation went.
    pub spans: Vec<Span>,
    /// Its item of a list.
    pub listed: Kept,
}

/// A container as it is now.
#[derive(Debug, Clone)]
pub struct ContainerStatus {
    /// Which.
    pub id: ContainerId,
    /// Its sandbox.
    pub sandbox: SandboxId,
    /// As it was asked for.
    pub config: Arc<ContainerConfig>,
    /// The image's id.
    pub image_id: Digest,
    /// The image as name@digest where it has such a name, else its id.
    pub image_ref: String,
    /// Where it is in its life.
    pub state: State,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Who asked for it, for people; empty where an earlier version has made it.
    pub asked_by: String,
    /// Who its first process runs as.
    pub user: User,
    /// Its mounts, with the digest of what is mounted for images.
    pub mounts: Vec<MountStatus>,
    /// Its log file, absolute.
    pub log_path: Option<PathBuf>,
    /// Its first process as the host sees it, while that lives.
    pub pid: Option<i32>,
    /// Its limits, updates included.
    pub resources: Resources,
    /// The signal that asks it to end.
    pub stop_signal: Signal,
    /// Its cgroup, as a path in each hierarchy.
    pub cgroup: String,
    /// Where the time of its creation went.
    pub spans: Vec<Span>,
    /// What could not be done for it and was not essential.
    pub warnings: Vec<String>,
    /// Its item of a list.
    pub listed: Kept,
}

/// Log lines that a container wrote and that are not in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct LogLines {
    /// Could not be written.
    pub lost: u64,
    /// Were over the container's limits.
    pub dropped: u64,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MountStatus {
    /// As it was asked for.
    pub mount: Mount,
    /// The id of the image, where the source is one.
    pub image_id: Option<Digest>,
}

/// Which sandboxes to list; what is empty says nothing, the rest combines with "and".
#[derive(Debug, Clone, Default)]
pub struct SandboxFilter {
    /// This one.
    pub id: Option<SandboxId>,
    /// In this state.
    pub state: Option<SandboxState>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// Which containers to list; what is empty says nothing, the rest combines with "and".
#[derive(Debug, Clone, Default)]
pub struct ContainerFilter {
    /// This one.
    pub id: Option<ContainerId>,
    /// Those of this sandbox.
    pub sandbox: Option<SandboxId>,
    /// In this state.
    pub state: Option<ContainerStateKind>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
}

/// A container's state without its details, for filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStateKind {
    /// Set up, not started.
    Created,
    /// Started, not ended.
    Running,
    /// Ended.
    Exited,
}

impl ContainerStateKind {
    /// The kind of `state`.
    #[must_use]
    pub const fn of(state: &State) -> Self {
        match state {
            State::Created => Self::Created,
            State::Running { .. } => Self::Running,
            State::Exited { .. } => Self::Exited,
        }
    }
}

/// What an exec gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecResult {
    /// Standard output, cut at [`crate::EXEC_OUTPUT_MAX`].
    pub stdout: Vec<u8>,
    /// Standard error, cut at the same length.
    pub stderr: Vec<u8>,
    /// 128 + n for signal n.
    pub exit_code: i32,
    /// Whether either was cut.
    pub was_cut: bool,
}

/// What a container or a pod uses now.
#[derive(Debug, Clone)]
pub struct Usage {
    /// When it was read.
    pub at: Timestamp,
    /// From its cgroup; `None` once that is gone.
    pub cgroup: Option<cgroups::Stats>,
    /// Its writable layer, now or as it was last measured; `None` for pods.
    pub writable: Option<image_store::Measured>,
    /// Nanoseconds of CPU time for each second of late; `None` where too little is known.
    pub cpu_rate: Option<u64>,
    /// What metrics have beside that; empty where not all is read.
    pub more: More,
}

/// What is read for metrics alone.
#[derive(Debug, Clone, Default)]
pub struct More {
    /// The names of the block devices in the cgroup's statistics, in their order.
    pub devices: Vec<String>,
    /// Its processes; `None` once the cgroup is gone.
    pub processes: Option<Processes>,
    /// The file system of the writable layer; `None` for pods, and where it does not answer.
    pub space: Option<FileSystem>,
}

/// The processes of a container or a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Processes {
    /// How many there are.
    pub count: u64,
    /// What they have open; `None` for pods, and where it is too much to be counted.
    pub descriptors: Option<Descriptors>,
    /// How many descriptors the first process may have; the largest number for no limit. `None` for pods, and
    /// once that process is gone.
    pub max_open_files: Option<u64>,
}

/// Descriptors that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptors {
    /// All of them.
    pub all: u64,
    /// Those of sockets.
    pub sockets: u64,
}

/// A file system as a container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSystem {
    /// The device's file, else what it was mounted from.
    pub device: String,
    /// What it has in all, or what the container may have of it.
    pub capacity: image_store::Usage,
    /// What is free.
    pub available: image_store::Usage,
}
