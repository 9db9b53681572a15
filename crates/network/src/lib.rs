//! Network namespaces, CNI, the built-in bridge, host ports.
//!
//! Owns: the pinned network namespaces of sandboxes, the records of what was attached to them, the
//! built-in bridge with its addresses and its nftables table, and the calls of CNI plugins.
//! Always: what is about to be made for a sandbox is recorded before it exists, and the record goes
//! only after everything it speaks of is gone; a caller that gives up cancels nothing; no plugin runs
//! without a deadline; links, addresses and rules are made by netlink, no program is called for them.
//! Callers: `pods` (attach, detach, namespaces), the daemon (status, collection, configuration).

mod attachment;
mod bridge;
mod check;
mod claims;
mod cni;
mod config;
mod error;
#[cfg(test)]
mod golden;
mod join;
mod limits;
mod listeners;
mod locks;
mod netlink;
mod netns;
mod networks;
mod overview;
mod ports;
pub mod probe;
mod record;
mod status;
mod upkeep;

pub use attachment::{Attached, Attachment, Interface};
pub use check::{Checked, Verdict};
pub use cni::{PluginCall, PluginWatcher};
pub use config::{BridgeConfig, CniConfig, Mode, NetworkConfig};
pub use error::NetworkError;
pub use netns::{Netns, inside};
pub use networks::{Collected, Networks};
pub use overview::{
    BridgeOverview, CniDirectory, CniNetwork, CniOverview, Leftover, ModeOverview, Overview,
    SubnetOverview,
};
pub use status::{InterfaceStats, NetworkStatus, Reason};
