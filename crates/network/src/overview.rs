//! What the networks of this node are and have, for people.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use ipnet::IpNet;
use model::{HandlerName, SandboxId};

use crate::cni::PluginCall;
use crate::error::NetworkError;
use crate::networks::{Backend, Networks, blocking};
use crate::status::NetworkStatus;

/// What the networks of this node are and have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Whether sandboxes can get a network now.
    pub status: NetworkStatus,
    /// Where networks come from.
    pub mode: ModeOverview,
    /// Sandboxes that have a record, but for those whose record only keeps leftovers.
    pub sandboxes: usize,
    /// Sandboxes whose leftovers are tried again and again.
    pub leftovers: Vec<Leftover>,
    /// Plugins that run now, the oldest first.
    pub running: Vec<PluginCall>,
}

/// Where networks come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeOverview {
    /// Nowhere: there is loopback only.
    None,
    /// The built-in bridge.
    Bridge(BridgeOverview),
    /// CNI plugins.
    Cni(CniOverview),
}

/// The built-in bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeOverview {
    /// Its name.
    pub name: String,
    /// Its subnets; none before the kubelet has told them, where the configuration does not.
    pub subnets: Vec<SubnetOverview>,
}

/// A subnet of the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetOverview {
    /// Its addresses.
    pub subnet: IpNet,
    /// The bridge's own address.
    pub gateway: IpAddr,
    /// Addresses that sandboxes have.
    pub used: u64,
    /// Addresses that none has; at most `u64::MAX` is said.
    pub free: u64,
}

/// Networks by plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniOverview {
    /// The directories with configuration, the default one first.
    pub directories: Vec<CniDirectory>,
    /// Where plugins are looked for, in this order.
    pub plugin_dirs: Vec<PathBuf>,
}

/// A directory with configuration, as it was at the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// The handlers that have it for their own; none for the default directory.
    pub handlers: Vec<HandlerName>,
    /// The networks that a sandbox joins, in this order.
    pub networks: Vec<CniNetwork>,
    /// Why there are none.
    pub problem: Option<String>,
}

/// A network of plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniNetwork {
    /// Its name.
    pub name: String,
    /// The file that describes it.
    pub file: PathBuf,
    /// The version of its configuration.
    pub version: String,
    /// Its plugins, in order.
    pub plugins: Vec<String>,
    /// Those of them that are in none of the directories.
    pub missing: Vec<String>,
}

/// A sandbox that is gone and still has something of its networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Which.
    pub sandbox: SandboxId,
    /// How often it was tried in vain.
    pub tries: u32,
    /// Why it failed at last; empty before the first try of this daemon.
    pub why: String,
}

impl Networks {
    /// What the networks are and have.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub async fn overview(&self) -> Result<Overview, NetworkError> {
        let (status, running) = (self.status(), self.plugins());
        let inner = Arc::clone(self.inner());
        blocking("reading network records", move || {
            let records = inner.records.all()?;
            let has_record: BTreeSet<&SandboxId> = records.iter().map(|r| &r.sandbox).collect();
            let retrying = inner.retrying.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let mut leftovers: Vec<Leftover> = retrying
                .into_iter()
                // What a collection has freed meanwhile is taken from the list at the next try.
                .filter(|(sandbox, _)| has_record.contains(sandbox))
                .map(|(sandbox, tried)| Leftover { sandbox, tries: tried.tries, why: tried.why })
                .collect();
            leftovers.sort_by(|a, b| a.sandbox.cmp(&b.sandbox));
            let mode = match &inner.backend {
                Backend::None => ModeOverview::None,
                Backend::Bridge(bridge) => ModeOverview::Bridge(bridge.shown()),
                Backend::Cni(cni) => ModeOverview::Cni(cni.shown()),
            };
            let sandboxes = records.iter().filter(|record| !record.abandoned).count();
            Ok(Overview { status, mode, sandboxes, leftovers, running })
        })
        .await
    }
}
