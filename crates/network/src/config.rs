//! What the node's configuration says about networks.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};
use model::HandlerName;

/// How sandboxes get their network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// Which kind of network.
    pub mode: Mode,
    /// Where network namespaces are pinned.
    pub netns_dir: PathBuf,
    /// Where records live; lost on reboot, as namespaces are.
    pub state_dir: PathBuf,
    /// How many network namespaces are made ahead of time; 0 here, and what the configuration says on a node.
    pub ready_netns: usize,
}

impl NetworkConfig {
    /// The usual places, with `mode` for the rest.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            netns_dir: "/run/netns".into(),
            state_dir: "/run/isopod/network".into(),
            ready_netns: 0,
        }
    }
}

/// The kind of network that sandboxes join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Loopback only.
    None,
    /// A bridge of our own, made without any plugin.
    Bridge(BridgeConfig),
    /// Plugins, as their configuration files say.
    Cni(CniConfig),
}

/// The built-in network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The bridge's name, at most 15 characters; the nftables table is named after it.
    pub name: String,
    /// IPv4 addresses of pods; the first address is the bridge's.
    pub subnet_v4: Option<Ipv4Net>,
    /// IPv6 addresses of pods; the first address is the bridge's.
    pub subnet_v6: Option<Ipv6Net>,
    /// The MTU; that of the default route's interface where `None`.
    pub mtu: Option<u32>,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        let v6 = Ipv6Addr::new(0xfd15, 0x0bad, 0x9a7e, 0, 0, 0, 0, 0);
        Self {
            name: "isopod0".into(),
            subnet_v4: Ipv4Net::new(Ipv4Addr::new(10, 88, 0, 0), 16).ok(),
            subnet_v6: Ipv6Net::new(v6, 64).ok(),
            mtu: None,
        }
    }
}

/// Networks by CNI plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniConfig {
    /// Where configuration files are.
    pub conf_dir: PathBuf,
    /// Where plugins are looked for, in this order.
    pub bin_dirs: Vec<PathBuf>,
    /// How many networks a pod joins: the first ones in the directory by file name. 0 is all.
    pub max_networks: usize,
    /// Configuration directories of handlers that do not use `conf_dir`.
    pub handler_conf_dirs: BTreeMap<HandlerName, PathBuf>,
    /// A file whose `{{.PodCIDR}}` and the like are replaced, as the result goes to `conf_dir`.
    pub template: Option<PathBuf>,
    /// How long one plugin may run.
    pub plugin_timeout: Duration,
    /// How many plugins may run at once.
    pub plugins_at_once: usize,
}

impl Default for CniConfig {
    fn default() -> Self {
        Self {
            conf_dir: "/etc/cni/net.d".into(),
            bin_dirs: vec!["/opt/cni/bin".into(), "/usr/lib/cni".into()],
            max_networks: 1,
            handler_conf_dirs: BTreeMap::new(),
            template: None,
            plugin_timeout: Duration::from_secs(60),
            plugins_at_once: 32,
        }
    }
}
