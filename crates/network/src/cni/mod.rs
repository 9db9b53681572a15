//! Networks by CNI plugins (specification 0.1.0 to 1.1.0).
//!
//! Owns: the loaded configuration, the calls of plugins, their order and their number.
//! Always: a plugin has a deadline and is killed with its children past it; no more than the configured
//! number run at once, first come first served; DEL is told what ADD was told, whatever the directory
//! says meanwhile. Callers: `networks`, which records before it calls.

mod args;
mod calls;
mod chain;
mod collect;
mod conf;
mod depth;
mod dir;
mod exec;
pub(crate) mod probe;
mod result;
mod shown;
mod stray;
mod version;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;
use model::{HandlerName, SandboxId};
use tokio::sync::{Notify, Semaphore};

use crate::attachment::Attachment;
use crate::config::CniConfig;
use crate::error::NetworkError;
use crate::record::Cached;
use crate::status::{NetworkStatus, Reason};
use conf::Network;
use dir::Unusable;
use version::Version;

pub use calls::{PluginCall, PluginWatcher};
pub(crate) use chain::CheckAnswer;
pub(crate) use result::{Outcome, read as read_result};
pub(crate) use stray::end as end_strays;
pub(crate) use watch::watch;

/// The file that a configuration template becomes.
const RENDERED: &str = "10-isopod.conflist";

/// Networks by CNI plugins.
#[derive(Debug)]
pub(crate) struct Cni {
    config: CniConfig,
    loaded: RwLock<Loaded>,
    /// Plugins that may still be started.
    slots: Semaphore,
    /// Plugins that run.
    calls: calls::Calls,
    /// Told when the configuration should be read again before its time.
    reload: Arc<Notify>,
}

/// What was found at the last look.
#[derive(Debug)]
struct Loaded {
    status: NetworkStatus,
    dirs: BTreeMap<PathBuf, Result<Arc<Vec<Network>>, Unusable>>,
    pod_cidrs: Vec<IpNet>,
}

impl Loaded {
    /// What is so now; a change is said, whoever has found it.
    fn set_status(&mut self, status: NetworkStatus) {
        status.tell_after(&self.status);
        self.status = status;
    }
}

impl Cni {
    /// The networks of `config`, read once.
    pub(crate) fn new(config: CniConfig) -> Result<Self, NetworkError> {
        let bad = |reason: &str| Err(NetworkError::Config { reason: reason.to_owned() });
        if config.plugins_at_once == 0 || config.plugin_timeout.is_zero() {
            return bad("the number of plugins at once and their time must not be 0");
        }
        if config.bin_dirs.is_empty() {
            return bad("there is no directory for CNI plugins");
        }
        let slots = Semaphore::new(config.plugins_at_once);
        let status = NetworkStatus {
            ready: false,
            reason: Reason::PluginNotReady,
            message: "the CNI plugins have not been asked yet".into(),
        };
        let loaded = Loaded { status, dirs: BTreeMap::new(), pod_cidrs: Vec::new() };
        let cni = Self {
            config,
            loaded: RwLock::new(loaded),
            slots,
            calls: calls::Calls::default(),
            reload: Arc::default(),
        };
        let status = cni.read_dirs();
        let asks = |n: &Arc<Vec<Network>>| n.iter().any(|network| network.version >= Version::V1_1);
        if status.ready && !cni.networks(&cni.config.conf_dir).is_ok_and(|n| asks(&n)) {
            cni.loaded(|loaded| loaded.set_status(status));
        }
        Ok(cni)
    }

    /// Plugins that run, and their ends.
    pub(crate) fn calls(&self) -> &calls::Calls {
        &self.calls
    }

    fn loaded<T>(&self, look: impl FnOnce(&mut Loaded) -> T) -> T {
        look(&mut self.loaded.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn dir_of(&self, handler: &HandlerName) -> &Path {
        self.config.handler_conf_dirs.get(handler).unwrap_or(&self.config.conf_dir)
    }

    /// All directories with configuration, the default one first.
    fn dirs(&self) -> Vec<PathBuf> {
        let mut all = vec![self.config.conf_dir.clone()];
        all.extend(self.config.handler_conf_dirs.values().cloned());
        all
    }

    /// Reads the directories. Only files are looked at, no plugin is called: if those say that the network
    /// is not ready, it is not; if they say that it is, the plugins have the last word.
    fn read_dirs(&self) -> NetworkStatus {
        let dirs: BTreeMap<_, _> = self
            .dirs()
            .into_iter()
            .map(|dir| {
                let networks = dir::load(&dir, self.config.max_networks).map(Arc::new);
                (dir, networks)
            })
            .collect();
        let status = match dirs.get(&self.config.conf_dir) {
            Some(Ok(networks)) => dir::missing(networks, &self.config.bin_dirs)
                .map_or_else(|| ready(networks), not_ready),
            Some(Err(unusable)) => not_ready(unusable.clone()),
            None => not_ready(Unusable { reason: Reason::NoConfiguration, message: String::new() }),
        };
        self.loaded(|loaded| {
            loaded.dirs = dirs;
            if !status.ready {
                loaded.set_status(status.clone());
            }
        });
        status
    }

    /// Whether sandboxes can get a network now.
    pub(crate) fn status(&self) -> NetworkStatus {
        self.loaded(|loaded| loaded.status.clone())
    }

    fn networks(&self, dir: &Path) -> Result<Arc<Vec<Network>>, Unusable> {
        self.loaded(|loaded| loaded.dirs.get(dir).cloned()).unwrap_or_else(|| {
            Err(Unusable {
                reason: Reason::NoConfiguration,
                message: format!("{} is not read", dir.display()),
            })
        })
    }

    /// The networks that the sandbox is to join, as they are to be recorded before `add`.
    pub(crate) fn plan(&self, attachment: &Attachment) -> Result<Vec<Cached>, NetworkError> {
        let networks = self
            .networks(self.dir_of(&attachment.handler))
            .map_err(|unusable| NetworkError::NotReady { message: unusable.message })?;
        let cidrs = self.loaded(|loaded| loaded.pod_cidrs.clone());
        let capability_args = args::capability_args(attachment, &cidrs)?;
        let cni_args = args::cni_args(attachment)?;
        let plan = networks.iter().enumerate().map(|(number, network)| Cached {
            kind: Cached::KIND.to_owned(),
            network_name: network.name.clone(),
            if_name: format!("eth{number}"),
            config: network.to_value(),
            cni_args: cni_args.clone(),
            capability_args: capability_args.clone(),
            result: None,
            partial: None,
        });
        Ok(plan.collect())
    }

    /// The pod address ranges that the kubelet tells. A template becomes the configuration.
    pub(crate) fn set_pod_cidrs(&self, cidrs: Vec<IpNet>) -> Result<(), NetworkError> {
        if let Some(template) = &self.config.template {
            let bad = |path: &Path, reason: String| NetworkError::ConfFile {
                path: path.to_owned(),
                line: None,
                reason,
            };
            let text =
                std::fs::read_to_string(template).map_err(|e| bad(template, e.to_string()))?;
            let filled = args::fill_template(&text, &cidrs)?;
            conf::parse(template, filled.as_bytes())?;
            let path = self.config.conf_dir.join(RENDERED);
            let new = self.config.conf_dir.join(format!(".{RENDERED}.new"));
            std::fs::create_dir_all(&self.config.conf_dir)
                .and_then(|()| std::fs::write(&new, filled))
                .and_then(|()| std::fs::rename(&new, &path))
                .map_err(|e| bad(&path, e.to_string()))?;
        }
        self.loaded(|loaded| loaded.pod_cidrs = cidrs);
        self.reload.notify_one();
        Ok(())
    }

    /// Whether the plugins of the recorded network make host ports.
    pub(crate) fn maps_ports(cached: &Cached) -> bool {
        Network::from_value(cached.config.clone()).is_ok_and(|network| network.maps_ports())
    }
}

fn ready(networks: &[Network]) -> NetworkStatus {
    let names: Vec<&str> = networks.iter().map(|network| network.name.as_str()).collect();
    let own =
        if networks.iter().any(Network::maps_ports) { "" } else { "; host ports by nftables" };
    NetworkStatus {
        ready: true,
        reason: Reason::Ready,
        message: format!("CNI: {}{own}", names.join(", ")),
    }
}

fn not_ready(unusable: Unusable) -> NetworkStatus {
    NetworkStatus { ready: false, reason: unusable.reason, message: unusable.message }
}

/// Who a call of the plugins is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The sandbox's id, or that of a container of another time.
    pub(crate) container: &'a str,
    /// Its namespace; `None` if that is gone.
    pub(crate) netns: Option<&'a Path>,
}

impl<'a> Subject<'a> {
    /// This sandbox, whose namespace is, or was, pinned here.
    pub(crate) fn of(sandbox: &'a SandboxId, netns: &'a Path) -> Self {
        Self { container: sandbox.as_str(), netns: crate::netns::is_pinned(netns).then_some(netns) }
    }
}
