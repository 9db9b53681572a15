//! Whether sandboxes can get a network now, and what their interfaces have carried.

use std::fmt;

/// Why the network is ready or is not, one word as the CRI's conditions want it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is ready.
    Ready,
    /// The configuration directory has no network configuration.
    NoConfiguration,
    /// A configuration file cannot be used.
    InvalidConfiguration,
    /// A plugin of the configuration is not installed.
    PluginMissing,
    /// A plugin's STATUS says that it cannot serve now.
    PluginNotReady,
    /// The built-in network cannot be set up.
    BridgeFailed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "NetworkReady",
            Self::NoConfiguration => "NoNetworkConfiguration",
            Self::InvalidConfiguration => "InvalidNetworkConfiguration",
            Self::PluginMissing => "NetworkPluginMissing",
            Self::PluginNotReady => "NetworkPluginNotReady",
            Self::BridgeFailed => "BridgeFailed",
        })
    }
}

/// Whether sandboxes can get a network now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkStatus {
    /// Whether they can.
    pub ready: bool,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, for people: which networks there are, or what is missing.
    pub message: String,
}

impl NetworkStatus {
    /// Says that it is so now, where it was otherwise before.
    pub(crate) fn tell_after(&self, before: &Self) {
        if self == before {
            return;
        }
        let Self { ready, reason, message } = self;
        if *ready {
            tracing::info!(ready, %reason, message, "network status");
        } else {
            tracing::warn!(ready, %reason, message, "network status");
        }
    }
}

/// What an interface has carried (`struct rtnl_link_stats64`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceStats {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors in receiving.
    pub rx_errors: u64,
    /// Received packets that were dropped.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors in sending.
    pub tx_errors: u64,
    /// Packets to send that were dropped.
    pub tx_dropped: u64,
}
