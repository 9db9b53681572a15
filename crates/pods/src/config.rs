//! What the node's configuration says about pods.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use cgroups::Driver;
use model::HandlerName;
use runtime_spec::Rlimit;

/// Everything that is configured about pods. Durations are upper bounds.
#[derive(Debug, Clone)]
pub struct PodsConfig {
    /// Directory for records and for the pods' own directories, on a tmpfs: nothing in it means anything
    /// after a reboot. Made if it is missing.
    pub state_dir: PathBuf,
    /// Who makes cgroups, and so how `cgroup_parent` is written.
    pub cgroup_driver: Driver,
    /// The cgroup of pods whose request names none: a path or a slice, as the driver wants it.
    pub cgroup_parent: String,
    /// Runtime handlers by name; the one with the empty name is the default.
    pub handlers: BTreeMap<HandlerName, Handler>,
    /// Size of a pod's /dev/shm in bytes.
    pub shm_size: u64,
    /// Kernel parameters that every pod with namespaces of its own gets, by dotted name; a pod's own win.
    pub sysctls: BTreeMap<String, String>,
    /// A seccomp profile file (docker's format) in place of the built-in default.
    pub seccomp_profile: Option<PathBuf>,
    /// Limits of processes (getrlimit(2)) that every container gets.
    pub rlimits: Vec<Rlimit>,
    /// How many tasks a container may have; `None` for no limit of its own.
    pub pids_limit: Option<i64>,
    /// Capabilities of a container whose request does not change them, with `CAP_`.
    pub capabilities: Vec<String>,
    /// Name of the AppArmor profile that is the runtime's default, where one is loaded.
    pub apparmor_profile: Option<String>,
    /// Whether containers get SELinux labels where the host has SELinux.
    pub selinux_labels: bool,
    /// Directories of CDI specs, a later one before an earlier one; none turns CDI off.
    pub cdi_dirs: Vec<PathBuf>,
    /// Classes of containers.
    pub classes: Classes,
    /// Containers that have ended and that one pod may keep. Past it no more are created in it until some are
    /// removed: which ones, the kubelet decides.
    pub dead_containers: usize,
    /// Events that a subscriber may be behind before it is cut off; rounded up to a power of two.
    pub events_ahead: usize,
    /// How statistics are taken.
    pub stats: StatsConfig,
    /// How much a container may log.
    pub log_limits: LogLimits,
    /// How much a container may write into its root file system.
    pub writable: WritableLimits,
    /// How long each phase may take.
    pub deadlines: Deadlines,
}

impl PodsConfig {
    /// The defaults, with everything below `state_dir`.
    #[must_use]
    pub fn new(state_dir: PathBuf, cgroup_driver: Driver) -> Self {
        let cgroup_parent = match cgroup_driver {
            Driver::Cgroupfs => "/isopod",
            Driver::Systemd => "isopod.slice",
        };
        Self {
            state_dir,
            cgroup_driver,
            cgroup_parent: cgroup_parent.to_owned(),
            handlers: BTreeMap::from([(HandlerName::default(), Handler::default())]),
            shm_size: 64 << 20,
            sysctls: BTreeMap::new(),
            seccomp_profile: None,
            rlimits: specgen::default_rlimits(),
            pids_limit: None,
            capabilities: specgen::default_capabilities(),
            apparmor_profile: Some(crate::apparmor::GENERATED.to_owned()),
            selinux_labels: false,
            cdi_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
            classes: Classes::default(),
            dead_containers: 256,
            events_ahead: crate::events::EVENTS_AHEAD,
            stats: StatsConfig::default(),
            log_limits: LogLimits::default(),
            writable: WritableLimits::default(),
            deadlines: Deadlines::default(),
        }
    }
}

/// How statistics are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatsConfig {
    /// The oldest sample that is given as an answer; zero for none but new ones.
    pub max_age: Duration,
    /// The time that the rate of CPU time is taken over.
    pub cpu_window: Duration,
}

impl Default for StatsConfig {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(1), cpu_window: Duration::from_secs(10) }
    }
}

/// How much a container may log; what is beyond is dropped line by line and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogLimits {
    /// Bytes in a second.
    pub bytes_per_second: Option<u64>,
    /// Bytes in all, over every rotation.
    pub total_bytes: Option<u64>,
}

/// How much a container may write into its root file system and its image's volumes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WritableLimits {
    /// Without an annotation.
    pub size: Option<u64>,
    /// The most that an annotation may ask for; where it is `None`, that is `size`.
    pub max: Option<u64>,
}

/// Classes that annotations choose from, and what a container has without one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Classes {
    /// Classes of caches and memory bandwidth (resctrl), by name.
    pub rdt: BTreeMap<String, RdtClass>,
    /// The one of those for containers without an annotation.
    pub rdt_default: Option<String>,
    /// Classes of block I/O, by name.
    pub block_io: BTreeMap<String, BlockIoClass>,
    /// The one of those for containers without an annotation.
    pub block_io_default: Option<String>,
    /// CPUs of execs.
    pub exec_cpus: Option<ExecCpus>,
}

/// A class of caches and memory bandwidth: a group of resctrl with its name. Without schemata the group must
/// be there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RdtClass {
    /// Cache, such as `L3:0=ff`; empty for what the group has.
    pub l3: String,
    /// Memory bandwidth, such as `MB:0=50`; empty for what the group has.
    pub bandwidth: String,
}

/// A class of block I/O.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockIoClass {
    /// Relative weight, 10 to 1000.
    pub weight: Option<u16>,
    /// Devices with the bytes that may be read in a second.
    pub read_bps: Vec<(PathBuf, u64)>,
    /// With the bytes that may be written.
    pub write_bps: Vec<(PathBuf, u64)>,
    /// With the reads that may be made.
    pub read_iops: Vec<(PathBuf, u64)>,
    /// With the writes that may be made.
    pub write_iops: Vec<(PathBuf, u64)>,
}

/// Which CPUs an exec's process is kept to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecCpus {
    /// The first of the container's own cpuset; all where it has none.
    First,
    /// These, in the list format of cpuset(7).
    List(String),
}

impl ExecCpus {
    /// `first` or a list; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "first" {
            return Some(Self::First);
        }
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n < 8192);
        let range = |part: &str| match part.split_once('-') {
            Some((first, last)) => {
                number(first).zip(number(last)).is_some_and(|(first, last)| first <= last)
            }
            None => number(part).is_some(),
        };
        text.split(',').all(range).then(|| Self::List(text.to_owned()))
    }
}

/// A runtime handler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handler {
    /// Who launches its containers.
    pub launch: Launch,
    /// Whether it can make mounts read-only with all below them.
    pub recursive_read_only: bool,
    /// Whether it can give mounts ids of their own, and so containers a user namespace.
    pub user_namespaces: bool,
    /// Whether a privileged container gets only the devices that it asks for.
    pub privileged_without_host_devices: bool,
    /// Annotations of pods and containers that its runtime gets to see: names, with `*` at the end for
    /// anything.
    pub annotations: Vec<String>,
}

impl Default for Handler {
    fn default() -> Self {
        Self {
            launch: Launch::Own,
            recursive_read_only: true,
            user_namespaces: true,
            privileged_without_host_devices: false,
            annotations: Vec::new(),
        }
    }
}

/// Who launches the containers of a handler.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Launch {
    /// The launcher in the monitor.
    #[default]
    Own,
    /// An OCI runtime by its command line.
    External {
        /// The program, absolute.
        program: PathBuf,
        /// Options before the command.
        options: Vec<String>,
        /// Directory for the runtime's own state.
        root: PathBuf,
    },
}

/// How long the phases of operations may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// A network plugin chain, and making or removing a network namespace.
    pub network: Duration,
    /// Making, limiting, emptying or removing a cgroup.
    pub cgroup: Duration,
    /// A monitor's start and its setting up of the pod.
    pub monitor: Duration,
    /// Looking at a path of the host: a file system may hang.
    pub host_path: Duration,
    /// Preparing a root file system or a volume, and reading files of an image.
    pub rootfs: Duration,
    /// Creating a container in the monitor; its mounts are made in this time.
    pub create: Duration,
    /// Starting a container.
    pub start: Duration,
    /// From SIGKILL to the end of what was killed.
    pub kill: Duration,
    /// Any other answer of a monitor.
    pub answer: Duration,
    /// Taking up one pod after a restart of the daemon.
    pub recover: Duration,
    /// Waiting for the output of an exec whose process has ended.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            network: seconds(90),
            cgroup: seconds(10),
            monitor: seconds(20),
            host_path: seconds(20),
            rootfs: seconds(60),
            create: seconds(90),
            start: seconds(60),
            kill: seconds(30),
            answer: seconds(20),
            recover: seconds(30),
            drain: seconds(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_of_execs_are_the_first_or_a_list() {
        assert_eq!(ExecCpus::parse("first"), Some(ExecCpus::First));
        for good in ["0", "0-3,5"] {
            assert_eq!(ExecCpus::parse(good), Some(ExecCpus::List(good.to_owned())));
        }
        for bad in ["", "last", "3-1", "0,", "-1", "99999"] {
            assert_eq!(ExecCpus::parse(bad), None, "{bad:?}");
        }
    }
}
