//! What is recorded about a sandbox's networks before anything is made.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{PortMapping, SandboxId};
use rustix::process::getpid;
use serde::{Deserialize, Serialize};
use store::{Durability, Key, Record, Store};

use crate::claims::Claims;
use crate::error::NetworkError;

/// A running daemon, told from a later one with the same process id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pid: i32,
    start: u64,
}

impl Instance {
    pub(crate) fn this() -> Self {
        let pid = getpid();
        Self { pid: pid.as_raw_nonzero().get(), start: sys::start_time(pid).unwrap_or(0) }
    }
}

/// Everything of a sandbox that has to be given back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// The sandbox.
    pub(crate) sandbox: SandboxId,
    /// Where its namespace is pinned, or was about to be.
    pub(crate) netns: PathBuf,
    /// The daemon that wrote this; what another one had begun, it can no longer finish.
    pub(crate) daemon: Instance,
    /// The networks that it has joined, or was about to join.
    pub(crate) joined: Vec<Joined>,
    /// Whether the sandbox is gone, and only what could not be given back keeps the record.
    #[serde(default)]
    pub(crate) abandoned: bool,
}

/// A network that a sandbox has joined, or was about to join.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Joined {
    /// The built-in network.
    Bridge(Lease),
    /// A network of plugins.
    Cni(Cached),
    /// Host ports of ours for a network whose plugins make none.
    Ports(Ports),
}

/// What a sandbox has of the built-in network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The bridge.
    pub(crate) bridge: String,
    /// The addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The link on the host's side.
    pub(crate) link: String,
    /// The host ports.
    pub(crate) ports: Vec<PortMapping>,
    /// Whether what the sandbox sends is limited, which takes a link of its own.
    pub(crate) limited: bool,
}

/// Host ports, and where they lead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ports {
    /// The addresses.
    pub(crate) ips: Vec<IpAddr>,
    /// The host ports.
    pub(crate) ports: Vec<PortMapping>,
}

/// A network of plugins, with what its DEL needs. The fields have the names that libcni's cache gives them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cached {
    /// Always `cniCacheV1`.
    pub(crate) kind: String,
    /// The network.
    pub(crate) network_name: String,
    /// The interface inside.
    pub(crate) if_name: String,
    /// The configuration list at the time of ADD; DEL must be told the same.
    pub(crate) config: serde_json::Value,
    /// CNI_ARGS.
    pub(crate) cni_args: Vec<(String, String)>,
    /// What plugins may ask for by capability.
    pub(crate) capability_args: serde_json::Map<String, serde_json::Value>,
    /// The result of ADD; `None` until it has succeeded.
    pub(crate) result: Option<serde_json::Value>,
    /// The result of the plugins that have succeeded so far, while others have not: some find what they made
    /// only by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partial: Option<serde_json::Value>,
}

impl Cached {
    /// The kind that libcni writes.
    pub(crate) const KIND: &str = "cniCacheV1";
}

impl Record for SandboxRecord {
    const KIND: &'static str = "network";
    const VERSION: u32 = 1;
}

/// The records of all sandboxes.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    store: Arc<Store>,
    this: Instance,
    claims: Arc<Mutex<Claims>>,
}

fn key(sandbox: &SandboxId) -> Result<Key, NetworkError> {
    Key::parse(sandbox.as_str()).map_err(|bad| NetworkError::Config { reason: bad.to_string() })
}

impl Records {
    /// Opens the records in `state_dir`, and reads them.
    pub(crate) fn open(state_dir: &Path) -> Result<(Self, Vec<SandboxRecord>), NetworkError> {
        let store = Store::open(&state_dir.join("sandboxes"), Durability::Boot)?;
        let records =
            Self { store: Arc::new(store), this: Instance::this(), claims: Arc::default() };
        let all = records.all()?;
        all.iter().for_each(|record| records.claims().note(record));
        Ok((records, all))
    }

    /// Who has which host ports.
    pub(crate) fn claims(&self) -> MutexGuard<'_, Claims> {
        // What is under the lock is whole between any two statements.
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A record of nothing yet.
    pub(crate) fn new_record(&self, sandbox: &SandboxId, netns: PathBuf) -> SandboxRecord {
        SandboxRecord {
            sandbox: sandbox.clone(),
            netns,
            daemon: self.this,
            joined: Vec::new(),
            abandoned: false,
        }
    }

    /// Whether this daemon wrote the record.
    pub(crate) fn is_ours(&self, record: &SandboxRecord) -> bool {
        record.daemon == self.this
    }

    /// Writes the record; this daemon answers for it from now on.
    pub(crate) fn put(&self, record: &mut SandboxRecord) -> Result<(), NetworkError> {
        record.daemon = self.this;
        self.store.put(&key(&record.sandbox)?, record)?;
        self.claims().note(record);
        Ok(())
    }

    /// The record of this sandbox.
    pub(crate) fn get(&self, sandbox: &SandboxId) -> Result<Option<SandboxRecord>, NetworkError> {
        Ok(self.store.get(&key(sandbox)?)?)
    }

    /// Removes the record of this sandbox.
    pub(crate) fn remove(&self, sandbox: &SandboxId) -> Result<(), NetworkError> {
        self.store.remove(&key(sandbox)?)?;
        self.claims().forget(sandbox);
        Ok(())
    }

    /// All records. Bad ones are set aside and said so in the log.
    pub(crate) fn all(&self) -> Result<Vec<SandboxRecord>, NetworkError> {
        let loaded = self.store.load_all::<SandboxRecord>()?;
        for bad in loaded.quarantined {
            tracing::error!(record = bad.name, moved_to = %bad.moved_to.display(), reason = %bad.reason, "a network record is bad");
        }
        Ok(loaded.records.into_iter().map(|(_, record)| record).collect())
    }
}
