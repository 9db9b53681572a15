//! From the configuration to everything that answers requests.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use image_store::{ImageStore, Pattern};
use images::{Images, PullLimits, Sources};
use model::HandlerName;
use network::{BridgeConfig, CniConfig, Mode, NetworkConfig, Networks};
use operations::Operations;
use pods::{Deadlines, Handler, Launch, LogLimits, Pods, PodsConfig, Rlimit, StatsConfig};
use registry::{Credentials, NodeCredentials, Registry, RegistryConfig};

use super::oci_features::OciFeatures;
use super::{kernel, monitor};
use crate::config::{
    CgroupChoice, Config, Credential, HandlerKind, HandlerSettings, ImageSettings, NetworkChoice,
    Ulimit, with_project_quotas,
};

/// Everything that answers requests.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The daemon's table of operations.
    pub operations: Operations,
    /// Image data.
    pub store: ImageStore,
    /// Images.
    pub images: Images,
    /// Networks.
    pub networks: Networks,
    /// Sandboxes and containers.
    pub pods: Pods,
    /// Who makes cgroups.
    pub driver: cgroups::Driver,
}

/// Opens everything. Blocks on disk, never on a pod; to be called inside a tokio runtime.
pub fn open(config: &Config) -> Result<Parts, Box<dyn Error>> {
    let operations = Operations::new();
    let store = ImageStore::open(&config.root, store_options(config))?;
    let writable = config.containers.writable;
    if writable.size.or(writable.max).is_some()
        && let Err(problem) = with_project_quotas(&config.root)
    {
        tracing::warn!(%problem, "writable layers are not limited");
    }
    let registry = Registry::new(registry_config(&config.images)?);
    let limits = PullLimits {
        layers_at_once: config.images.parallel_layers,
        deadline: config.images.deadline,
        ..PullLimits::default()
    };
    let sources = Sources {
        preloaded: config.images.preloaded.clone(),
        policy: config.images.policy.clone(),
    };
    let images = Images::new(store.clone(), registry, operations.clone(), limits, sources);
    let networks = Networks::new(network_config(config))?;
    let driver = match config.cgroup {
        CgroupChoice::Auto => cgroups::Driver::detect(),
        CgroupChoice::Systemd => cgroups::Driver::Systemd,
        CgroupChoice::Cgroupfs => cgroups::Driver::Cgroupfs,
    };
    let services = pods::Services {
        operations: operations.clone(),
        images: store.clone(),
        networks: networks.clone(),
        monitor: Arc::new(monitor::program(config.monitor.as_deref())?),
    };
    let pods = Pods::open(pods_config(config, driver), services)?;
    Ok(Parts { operations, store, images, networks, pods, driver })
}

fn store_options(config: &Config) -> image_store::Options {
    let images = &config.images;
    let mut options = image_store::Options {
        pinned: images.pinned.iter().map(|text| Pattern::new(text)).collect(),
        unqualified: images.unqualified.clone(),
        keep_unused: images.keep_unused,
        keep_partial: images.keep_partial,
        keep_blobs: images.keep_blobs,
        projects: config.containers.projects.clone(),
        ..image_store::Options::default()
    };
    options.limits.bytes = images.max_layer;
    options
}

fn registry_config(images: &ImageSettings) -> Result<RegistryConfig, Box<dyn Error>> {
    let mut config = RegistryConfig {
        hosts_dirs: images.registries.iter().cloned().collect(),
        credentials: node_credentials(&images.credentials)?,
        auth_files: images.auth_files.clone(),
        ..RegistryConfig::default()
    };
    config.limits.stall = images.stall;
    config.limits.min_rate = images.min_rate;
    Ok(config)
}

fn node_credentials(all: &BTreeMap<String, Credential>) -> Result<NodeCredentials, Box<dyn Error>> {
    let mut credentials = NodeCredentials::new();
    for (host, credential) in all {
        let given = match credential {
            Credential::Password { user, password } => {
                Credentials::Basic { user: user.clone(), password: password.clone() }
            }
            Credential::PasswordFile { user, file } => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    format!("cannot read the password for {host} in {}: {error}", file.display())
                })?;
                let password = model::Secret::new(text.trim_end_matches(['\r', '\n']).to_owned());
                Credentials::Basic { user: user.clone(), password }
            }
            Credential::IdentityToken(token) => Credentials::IdentityToken(token.clone()),
            Credential::RegistryToken(token) => Credentials::RegistryToken(token.clone()),
        };
        credentials.add(host, given);
    }
    Ok(credentials)
}

fn network_config(config: &Config) -> NetworkConfig {
    let mode = match &config.network {
        NetworkChoice::None => Mode::None,
        NetworkChoice::Bridge { name, ipv4, ipv6, mtu } => Mode::Bridge(BridgeConfig {
            name: name.clone(),
            subnet_v4: *ipv4,
            subnet_v6: *ipv6,
            mtu: *mtu,
        }),
        NetworkChoice::Cni(cni) => Mode::Cni(CniConfig {
            conf_dir: cni.config_dir.clone(),
            bin_dirs: cni.plugin_dirs.clone(),
            max_networks: cni.max_networks,
            handler_conf_dirs: config
                .handlers
                .iter()
                .filter_map(|(name, handler)| Some((name.clone(), handler.cni_config_dir.clone()?)))
                .collect(),
            template: cni.template.clone(),
            plugin_timeout: cni.plugin_timeout,
            plugins_at_once: cni.plugins_at_once,
        }),
    };
    NetworkConfig {
        netns_dir: config.netns_dir.clone(),
        state_dir: config.state.join("network"),
        ready_netns: config.ready_namespaces,
        ..NetworkConfig::new(mode)
    }
}

fn pods_config(config: &Config, driver: cgroups::Driver) -> PodsConfig {
    let mut pods = PodsConfig::new(config.state.clone(), driver);
    if let Some(parent) = &config.cgroup_parent {
        pods.cgroup_parent.clone_from(parent);
    }
    let state = &config.state;
    let kernel = kernel::Features::of_this_machine();
    pods.handlers = config
        .handlers
        .iter()
        .map(|(name, settings)| (name.clone(), handler(name, settings, kernel, state)))
        .collect();
    pods.shm_size = config.shm_size;
    pods.dead_containers = config.dead_containers;
    pods.events_ahead = config.limits.events_ahead;
    let stats = config.stats;
    pods.stats = StatsConfig { max_age: stats.max_age, cpu_window: stats.cpu_window };
    pods.sysctls.clone_from(&config.sysctls);
    pods.seccomp_profile.clone_from(&config.seccomp_profile);
    let containers = &config.containers;
    pods.cdi_dirs.clone_from(&containers.cdi_dirs);
    pods.classes.clone_from(&containers.classes);
    pods.pids_limit = containers.pids_limit;
    pods.apparmor_profile.clone_from(&containers.apparmor_profile);
    pods.selinux_labels = containers.selinux_labels;
    pods.writable = containers.writable;
    pods.log_limits =
        LogLimits { bytes_per_second: config.log_rate, total_bytes: config.log_total };
    for limit in &config.ulimits {
        // A configured limit replaces the built-in one of its kind.
        pods.rlimits.retain(|known| known.kind != limit.kind);
        let Ulimit { kind, soft, hard } = limit.clone();
        pods.rlimits.push(Rlimit { kind, soft, hard });
    }
    pods.deadlines = Deadlines {
        network: config.deadlines.network,
        monitor: config.deadlines.monitor,
        host_path: config.deadlines.host_path,
        rootfs: config.deadlines.rootfs,
        create: config.deadlines.create,
        start: config.deadlines.start,
        kill: config.deadlines.kill,
        recover: config.deadlines.recover,
        ..pods.deadlines
    };
    pods
}

/// Each external runtime keeps its own state apart, so that two of them never meet.
fn handler(
    name: &HandlerName,
    settings: &HandlerSettings,
    kernel: kernel::Features,
    state: &Path,
) -> Handler {
    let launch = match &settings.kind {
        HandlerKind::Own => Launch::Own,
        HandlerKind::Oci { program, options } => Launch::External {
            program: program.clone(),
            options: options.clone(),
            root: state.join("runtimes").join(name.to_string()),
        },
    };
    let recursive_read_only = match &launch {
        Launch::Own => true,
        Launch::External { program, options, .. } => {
            OciFeatures::ask(program, options).recursive_read_only
        }
    };
    let is_own = launch == Launch::Own;
    Handler {
        launch,
        recursive_read_only: recursive_read_only && kernel.recursive_read_only,
        // A pod's users are shared by its containers; only the built-in launcher enters what is there.
        user_namespaces: is_own && kernel.user_namespaces,
        privileged_without_host_devices: settings.privileged_without_host_devices,
        annotations: settings.annotations.clone(),
    }
}
