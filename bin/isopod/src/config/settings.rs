//! The configuration as the daemon uses it.
//!
//! Owns: its shape. Always: a [`Config`] has been checked as a whole by `rules`; nothing downstream finds a
//! mistake in it that a look at it alone can find.
//! Callers: `rules` makes it; the daemon is wired by it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use model::{HandlerName, Secret};

use super::containers::ContainerSettings;
use super::front::{LimitSettings, MetricsAddress};
use super::seeing::{StatsSettings, TraceEndpoint};
use super::streaming::StreamingSettings;

/// The checked configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory for images.
    pub root: PathBuf,
    /// Directory for records of pods.
    pub state: PathBuf,
    /// The socket.
    pub socket: SocketSettings,
    /// The one for those who only read.
    pub read_only: Option<SocketSettings>,
    /// What clients may do at once.
    pub limits: LimitSettings,
    /// Where it is written who went into which pod.
    pub audit: Option<PathBuf>,
    /// Where the daemon's own metrics are served.
    pub metrics: Option<MetricsAddress>,
    /// Where traces of operations go.
    pub traces: Option<TraceEndpoint>,
    /// How statistics are taken.
    pub stats: StatsSettings,
    /// The daemon's own log.
    pub log: LogSettings,
    /// The monitor's program, where it is not the usual one.
    pub monitor: Option<PathBuf>,
    /// Who makes cgroups.
    pub cgroup: CgroupChoice,
    /// The cgroup of pods that ask for none.
    pub cgroup_parent: Option<String>,
    /// Images.
    pub images: ImageSettings,
    /// The network.
    pub network: NetworkChoice,
    /// Where network namespaces are pinned.
    pub netns_dir: PathBuf,
    /// How many namespaces are made ahead of time.
    pub ready_namespaces: usize,
    /// Handlers by name; the empty name is there, too.
    pub handlers: BTreeMap<HandlerName, HandlerSettings>,
    /// Size of a pod's /dev/shm.
    pub shm_size: u64,
    /// Kernel parameters of every pod.
    pub sysctls: BTreeMap<String, String>,
    /// Default resource limits: name without `RLIMIT_`, soft, hard.
    pub ulimits: Vec<Ulimit>,
    /// Seccomp profile in place of the built-in one.
    pub seccomp_profile: Option<PathBuf>,
    /// Containers that have ended and are kept, for each pod.
    pub dead_containers: usize,
    /// Bytes a container may log in a second.
    pub log_rate: Option<u64>,
    /// Bytes a container may log in all.
    pub log_total: Option<u64>,
    /// What is set of containers alone.
    pub containers: ContainerSettings,
    /// Streams of exec, attach and port-forward.
    pub streaming: StreamingSettings,
    /// How long phases may take.
    pub deadlines: Deadlines,
}

/// The socket that the CRI is served on.
#[derive(Debug, Clone)]
pub struct SocketSettings {
    /// Where.
    pub path: PathBuf,
    /// Its mode.
    pub mode: u32,
    /// Its group, by name or number.
    pub group: Option<String>,
}

/// How the daemon's own log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object in a line.
    Json,
}

/// The daemon's own log.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// Its form.
    pub format: LogFormat,
    /// The lowest level that is written.
    pub level: String,
    /// When a call is slow.
    pub slow_call: Duration,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Whoever fits this machine.
    Auto,
    /// systemd.
    Systemd,
    /// The daemon.
    Cgroupfs,
}

/// Images.
#[derive(Debug, Clone)]
pub struct ImageSettings {
    /// Directory of `hosts.toml` files.
    pub registries: Option<PathBuf>,
    /// Layers at once, over all pulls.
    pub parallel_layers: usize,
    /// When a connection is given up.
    pub stall: Duration,
    /// The least bytes per second over that time.
    pub min_rate: u64,
    /// Directories with images.
    pub preloaded: Vec<PathBuf>,
    /// Registries of names without one.
    pub unqualified: Vec<String>,
    /// What may be pulled.
    pub policy: Option<PathBuf>,
    /// Docker's `config.json` files.
    pub auth_files: Vec<PathBuf>,
    /// How long blobs that broke off stay.
    pub keep_partial: Duration,
    /// Whether compressed blobs stay.
    pub keep_blobs: bool,
    /// The longest time of a pull.
    pub deadline: Option<Duration>,
    /// How long unused layers stay.
    pub keep_unused: Duration,
    /// The most of one layer.
    pub max_layer: u64,
    /// Images that stay.
    pub pinned: Vec<String>,
    /// By host.
    pub credentials: BTreeMap<String, Credential>,
}

/// What a registry host wants to see.
#[derive(Debug, Clone)]
pub enum Credential {
    /// User and password.
    Password {
        /// User.
        user: String,
        /// Password.
        password: Secret<String>,
    },
    /// User, and a file with the password.
    PasswordFile {
        /// User.
        user: String,
        /// The file.
        file: PathBuf,
    },
    /// An identity token.
    IdentityToken(Secret<String>),
    /// A registry token.
    RegistryToken(Secret<String>),
}

/// Which kind of network.
#[derive(Debug, Clone)]
pub enum NetworkChoice {
    /// Plugins.
    Cni(CniSettings),
    /// The built-in bridge.
    Bridge {
        /// Its name.
        name: String,
        /// IPv4 range.
        ipv4: Option<Ipv4Net>,
        /// IPv6 range.
        ipv6: Option<Ipv6Net>,
        /// MTU.
        mtu: Option<u32>,
    },
    /// Loopback only.
    None,
}

/// CNI.
#[derive(Debug, Clone)]
pub struct CniSettings {
    /// Configuration files.
    pub config_dir: PathBuf,
    /// Plugins.
    pub plugin_dirs: Vec<PathBuf>,
    /// Networks of a pod; 0 for all.
    pub max_networks: usize,
    /// Template of a configuration file.
    pub template: Option<PathBuf>,
    /// The longest time of one plugin.
    pub plugin_timeout: Duration,
    /// Plugins at once.
    pub plugins_at_once: usize,
}

/// A runtime handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerSettings {
    /// What launches its containers.
    pub kind: HandlerKind,
    /// CNI configuration of its own.
    pub cni_config_dir: Option<PathBuf>,
    /// Whether a privileged container gets only the devices that it asks for.
    pub privileged_without_host_devices: bool,
    /// Annotations that its runtime gets to see.
    pub annotations: Vec<String>,
}

/// What launches the containers of a handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerKind {
    /// The built-in launcher.
    Own,
    /// An OCI runtime.
    Oci {
        /// Its program.
        program: PathBuf,
        /// Its options.
        options: Vec<String>,
    },
}

/// A resource limit (getrlimit(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ulimit {
    /// Name as the OCI runtime specification has it, `RLIMIT_NOFILE`.
    pub kind: String,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// How long phases may take.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// Networks.
    pub network: Duration,
    /// The monitor.
    pub monitor: Duration,
    /// Paths of the host.
    pub host_path: Duration,
    /// Root file systems.
    pub rootfs: Duration,
    /// Setting a container up.
    pub create: Duration,
    /// Starting it.
    pub start: Duration,
    /// Killing.
    pub kill: Duration,
    /// Taking up one pod.
    pub recover: Duration,
}
