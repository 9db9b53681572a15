//! What is to run, as the runtime takes it: from options or from a manifest. No I/O.

use std::path::{Path, PathBuf};

use cri_api::v1::{
    ContainerConfig, ContainerMetadata, LinuxContainerConfig, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, SecurityProfile, security_profile::ProfileType,
};

use crate::cli::find::{POD_NAME, POD_NAMESPACE};

/// Label of the pod's unique id.
const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label of a container's name.
const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Longest host name, in bytes (gethostname(2)).
const HOST_NAME_MAX: usize = 63;

/// Hidden from containers that are not privileged: what the kubelet hides.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Not to be written by containers that are not privileged.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A pod with its containers.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The pod.
    pub sandbox: PodSandboxConfig,
    /// The runtime handler; empty for the default.
    pub handler: String,
    /// Containers that run one after the other, each to its end, before the others.
    pub init: Vec<Planned>,
    /// The containers.
    pub containers: Vec<Planned>,
    /// Host directories that must be there before containers start.
    pub directories: Vec<PathBuf>,
    /// Seconds that containers get to end when they are stopped.
    pub grace: u32,
}

/// A container of a plan.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// As the runtime takes it; the image by the name that was given.
    pub config: ContainerConfig,
    /// When to fetch the image.
    pub pull: PullWhen,
    /// Whether it is refused where it would run as user 0.
    pub user: UserRule,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PullWhen {
    /// When it is not on the node
    #[default]
    Missing,
    /// Each time
    Always,
    /// Never: it must be on the node
    Never,
}

/// Who a container may run as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum UserRule {
    /// Anybody.
    #[default]
    Any,
    /// Nobody but root: `runAsNonRoot`.
    NotRoot,
}

/// Who a pod is, and where its files are.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its unique id; also the name of its directory.
    pub uid: String,
}

impl Identity {
    /// A pod's configuration with the kubelet's labels and separate namespaces; logs go below
    /// `directory`, which is the pod's own.
    pub fn sandbox(&self, directory: &Path) -> PodSandboxConfig {
        let mut hostname = self.name.clone();
        hostname.truncate(HOST_NAME_MAX);
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: self.name.clone(),
                uid: self.uid.clone(),
                namespace: self.namespace.clone(),
                attempt: 0,
            }),
            hostname: hostname.trim_end_matches(['-', '.']).to_owned(),
            log_directory: logs(directory).to_string_lossy().into_owned(),
            labels: self.labels(),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(default_profile()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// A container's configuration, with the kubelet's labels and its defaults for security.
    pub fn container(&self, name: &str, image: &str) -> ContainerConfig {
        let mut labels = self.labels();
        labels.insert(CONTAINER_NAME.to_owned(), name.to_owned());
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(cri_api::v1::ImageSpec {
                image: image.to_owned(),
                user_specified_image: image.to_owned(),
                ..Default::default()
            }),
            log_path: format!("{name}/0.log"),
            labels,
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces()),
                    seccomp: Some(default_profile()),
                    masked_paths: MASKED.map(str::to_owned).to_vec(),
                    readonly_paths: READ_ONLY.map(str::to_owned).to_vec(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn labels(&self) -> std::collections::BTreeMap<String, String> {
        [(POD_NAME, &self.name), (POD_NAMESPACE, &self.namespace), (POD_UID, &self.uid)]
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect()
    }
}

/// Where the logs of a pod are, below its directory.
pub fn logs(directory: &Path) -> PathBuf {
    directory.join("logs")
}

/// Where the volumes of a pod are, below its directory.
pub fn volumes(directory: &Path) -> PathBuf {
    directory.join("volumes")
}

/// Makes a container privileged: nothing hidden, no filter.
pub fn privilege(context: &mut LinuxContainerSecurityContext) {
    context.privileged = true;
    context.masked_paths.clear();
    context.readonly_paths.clear();
    context.seccomp = Some(profile(ProfileType::Unconfined, ""));
}

/// A profile of a kind.
pub fn profile(kind: ProfileType, path: &str) -> SecurityProfile {
    SecurityProfile { profile_type: kind.into(), localhost_ref: path.to_owned() }
}

/// The network and IPC of the pod, processes of the container's own.
fn namespaces() -> NamespaceOption {
    NamespaceOption {
        network: NamespaceMode::Pod.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

fn default_profile() -> SecurityProfile {
    profile(ProfileType::RuntimeDefault, "")
}
