//! How the client is set up.

use std::path::PathBuf;
use std::time::Duration;

use crate::credentials::NodeCredentials;

/// What a [`crate::Registry`] is made from.
#[derive(Debug, Clone, Default)]
pub struct RegistryConfig {
    /// Directories with a `<host>/hosts.toml` each, as containerd's `config_path`; the first that
    /// knows a host decides. None of them needs to exist.
    pub hosts_dirs: Vec<PathBuf>,
    /// This node's own credentials; a request's own ones go before these.
    pub credentials: NodeCredentials,
    /// Files in the form of Docker's `config.json`, credential helpers included; read anew all the
    /// time. What is in `credentials` goes before what is in them.
    pub auth_files: Vec<PathBuf>,
    /// Times, numbers and rates.
    pub limits: Limits,
}

/// Bounds on what one request may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// For a connection, TLS included, where `dial_timeout` in `hosts.toml` says nothing else.
    pub connect: Duration,
    /// From the request to the head of the answer.
    pub answer: Duration,
    /// The window in which a transfer's rate is watched. Only time spent waiting for the network
    /// counts: a slow reader is not a slow registry.
    pub stall: Duration,
    /// The least bytes per second over one window; 0 means that one byte is enough.
    pub min_rate: u64,
    /// Rounds over all hosts without progress before a request fails.
    pub tries: u32,
    /// The first wait between rounds; it doubles each time, with jitter.
    pub backoff: Duration,
    /// The longest wait between rounds, also where a registry asks for a longer one.
    pub max_backoff: Duration,
    /// Downloads of blobs from one host at once; more wait.
    pub downloads_per_host: usize,
    /// Parts of one large blob that are fetched at once, where the host can do ranges; 1 for one
    /// part after the other.
    pub ranges_per_blob: usize,
    /// The size of such a part in bytes. Blobs of less than four parts are fetched in one piece.
    pub range_size: u64,
    /// Bytes per second of a connection that is fast enough alone: parts are for slower ones, where
    /// distance or the host's own limit holds each connection back.
    pub fast_enough: u64,
    /// Such parts in memory at once, of all blobs together; a blob past it has one part after the other, and
    /// none of them in memory.
    pub ranges_ahead: usize,
    /// Other requests to one host at once; more wait.
    pub requests_per_host: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            min_rate: 128,
            tries: 6,
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(20),
            downloads_per_host: 12,
            ranges_per_blob: 3,
            range_size: 4 << 20,
            fast_enough: 100_000_000,
            ranges_ahead: 8,
            requests_per_host: 16,
        }
    }
}
