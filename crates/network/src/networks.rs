//! The networks of this node, for everybody outside this crate.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use model::SandboxId;
use tokio::sync::Notify;

use crate::attachment::{Attached, Attachment};
use crate::bridge::Bridge;
use crate::check::Checked;
use crate::cni::{self, Cni, PluginCall, PluginWatcher};
use crate::config::{CniConfig, Mode, NetworkConfig};
use crate::error::NetworkError;
use crate::locks::SandboxLocks;
use crate::netlink::{Socket, list_links};
use crate::netns::{self, Netns, inside};
use crate::record::Records;
use crate::status::{InterfaceStats, NetworkStatus, Reason};
use crate::upkeep::{self, Tried};

/// How long after a namespace was taken others are made: by then the pod that took it has mostly come up.
const REFILL_AFTER: Duration = Duration::from_millis(100);

/// What a collection found and gave back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Sandboxes whose leftovers are gone now.
    pub freed: Vec<SandboxId>,
    /// Sandboxes whose leftovers are still there, and why; it is tried again with back-off.
    pub left: Vec<(SandboxId, String)>,
    /// Links, host ports and leases that no record spoke of, and that are gone now.
    pub swept: Vec<String>,
    /// Plugins that could not collect, and why; they are asked again in ten minutes.
    pub failed: Vec<String>,
}

/// The networks of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

/// How sandboxes get their network.
#[derive(Debug)]
pub(crate) enum Backend {
    None,
    Bridge(Bridge),
    Cni(Arc<Cni>),
}

#[derive(Debug)]
pub(crate) struct Inner {
    netns_dir: PathBuf,
    ready_netns: usize,
    pub(crate) backend: Backend,
    /// For records that were made when the mode was another.
    other_plugins: Mutex<Option<Arc<Cni>>>,
    pub(crate) records: Records,
    pub(crate) locks: SandboxLocks,
    pub(crate) status: RwLock<NetworkStatus>,
    /// Sandboxes that a task tries to free; as many as have leftovers.
    pub(crate) retrying: Mutex<HashMap<SandboxId, Tried>>,
    /// When sandboxes came to their namespaces, for those that have one since this start.
    pub(crate) born: Mutex<HashMap<SandboxId, Instant>>,
    /// Held for reading while plugins add, for writing while they collect: a plugin that collects takes what
    /// is about to be added for something that nobody has.
    pub(crate) adding: tokio::sync::RwLock<()>,
    /// Held while host ports are compared with those of others.
    pub(crate) claiming: tokio::sync::Mutex<()>,
    /// Namespaces that nobody has yet; at most `ready_netns`.
    ready: Mutex<VecDeque<OwnedFd>>,
    /// Whether somebody waits to make more of them.
    is_refilling: AtomicBool,
    /// Told when the bridge should be looked at before its time.
    pub(crate) changed: Arc<Notify>,
}

/// Runs work that blocks where it may.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: &'static str,
    work: impl FnOnce() -> Result<T, NetworkError> + Send + 'static,
) -> Result<T, NetworkError> {
    fault::check!("network.", operation, ".before").map_err(|source| NetworkError::Kernel {
        operation,
        object: String::new(),
        source,
    })?;
    let done = tokio::task::spawn_blocking(work).await;
    fault::point!("network.", operation, ".after");
    done.unwrap_or(Err(NetworkError::Lost { operation }))
}

/// Runs work to its end, whatever becomes of the caller.
async fn detached<T: Send + 'static>(
    operation: &'static str,
    work: impl Future<Output = Result<T, NetworkError>> + Send + 'static,
) -> Result<T, NetworkError> {
    let done = tokio::spawn(work).await;
    done.unwrap_or(Err(NetworkError::Lost { operation }))
}

impl Inner {
    /// Where the namespace of this sandbox is pinned.
    pub(crate) fn pin_of(&self, sandbox: &SandboxId) -> PathBuf {
        self.netns_dir.join(format!("isopod-{}", sandbox.short()))
    }

    /// The plugins, for a record that needs them, whatever the mode is.
    pub(crate) fn plugins(&self) -> Result<Arc<Cni>, NetworkError> {
        if let Backend::Cni(cni) = &self.backend {
            return Ok(Arc::clone(cni));
        }
        let mut other = self.other_plugins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cni) = &*other {
            return Ok(Arc::clone(cni));
        }
        let cni = Arc::new(Cni::new(CniConfig::default())?);
        *other = Some(Arc::clone(&cni));
        Ok(cni)
    }

    /// Pins a namespace for this sandbox: `given`, or a new one.
    fn new_netns(
        &self,
        sandbox: &SandboxId,
        given: Option<OwnedFd>,
    ) -> Result<Netns, NetworkError> {
        let path = self.pin_of(sandbox);
        self.born
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(sandbox.clone(), Instant::now());
        if self.records.get(sandbox)?.is_none() {
            self.records.put(&mut self.records.new_record(sandbox, path.clone()))?;
        }
        let failed =
            |operation, source| NetworkError::Netns { operation, path: path.clone(), source };
        let made = (|| {
            let ready = || self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let namespace = match given {
                Some(namespace) => {
                    netns::set_loopback_up(&namespace).map_err(|e| failed("set up", e))?;
                    namespace
                }
                None => match ready() {
                    Some(namespace) => namespace,
                    None => netns::create().map_err(|e| failed("make", e))?,
                },
            };
            netns::pin(namespace.as_fd(), &path)
        })();
        if let Err(error) = made {
            // The record is of nothing: no network was joined, no pin was made.
            self.records.remove(sandbox)?;
            self.born.lock().unwrap_or_else(PoisonError::into_inner).remove(sandbox);
            return Err(error);
        }
        Ok(Netns::at(path))
    }

    /// Makes namespaces ahead of time, one at a time.
    fn refill(&self) {
        loop {
            let full = {
                let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
                ready.len() >= self.ready_netns
            };
            if full {
                return;
            }
            match netns::create() {
                Ok(namespace) => {
                    self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(namespace);
                }
                Err(error) => {
                    tracing::warn!(%error, "no network namespace can be made ahead of time");
                    return;
                }
            }
        }
    }
}

impl Networks {
    /// Takes up the records of an earlier start and begins to watch the configuration. To be called
    /// inside a tokio runtime. A network that is not usable yet is no error: [`Networks::status`] tells.
    ///
    /// # Errors
    /// A configuration that cannot work, or records that cannot be opened.
    pub fn new(config: NetworkConfig) -> Result<Self, NetworkError> {
        let (records, all) = Records::open(&config.state_dir)?;
        let mut status =
            NetworkStatus { ready: true, reason: Reason::Ready, message: "loopback only".into() };
        let backend = match config.mode {
            Mode::None => Backend::None,
            Mode::Bridge(bridge) => {
                let message = format!("bridge {} is being set up", bridge.name);
                status = NetworkStatus { ready: false, reason: Reason::BridgeFailed, message };
                Backend::Bridge(Bridge::new(bridge, &all)?)
            }
            Mode::Cni(cni) => Backend::Cni(Arc::new(Cni::new(cni)?)),
        };
        let inner = Arc::new(Inner {
            netns_dir: config.netns_dir,
            ready_netns: config.ready_netns,
            backend,
            other_plugins: Mutex::default(),
            records,
            locks: SandboxLocks::default(),
            status: RwLock::new(status),
            retrying: Mutex::default(),
            born: Mutex::default(),
            adding: tokio::sync::RwLock::default(),
            claiming: tokio::sync::Mutex::default(),
            ready: Mutex::default(),
            is_refilling: AtomicBool::default(),
            changed: Arc::default(),
        });
        match &inner.backend {
            Backend::None => {}
            Backend::Bridge(_) => drop(tokio::spawn(upkeep::keep_bridge(Arc::downgrade(&inner)))),
            Backend::Cni(cni) => drop(tokio::spawn(cni::watch(Arc::downgrade(cni)))),
        }
        for record in all.into_iter().filter(|record| record.abandoned) {
            inner.retry_later(record.sandbox, None);
        }
        drop(tokio::spawn(upkeep::keep_clean(Arc::downgrade(&inner))));
        let networks = Self { inner };
        networks.refill();
        Ok(networks)
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Has namespaces made ahead of time, a moment later: what is begun now needs the same locks of the kernel.
    fn refill(&self) {
        if self.inner.ready_netns == 0 || self.inner.is_refilling.swap(true, Ordering::SeqCst) {
            return;
        }
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(REFILL_AFTER).await;
            inner.is_refilling.store(false, Ordering::SeqCst);
            tokio::task::spawn_blocking(move || inner.refill());
        });
    }

    /// Whether sandboxes can get a network now. Never waits.
    #[must_use]
    pub fn status(&self) -> NetworkStatus {
        match &self.inner.backend {
            Backend::Cni(cni) => cni.status(),
            Backend::None | Backend::Bridge(_) => {
                self.inner.status.read().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    /// CNI plugins that run now, the oldest first. Never waits.
    #[must_use]
    pub fn plugins(&self) -> Vec<PluginCall> {
        match &self.inner.backend {
            Backend::Cni(cni) => cni.calls().list(),
            Backend::None | Backend::Bridge(_) => Vec::new(),
        }
    }

    /// From now on `watcher` hears of every CNI plugin that ends. There is one at most.
    pub fn watch_plugins(&self, watcher: Arc<dyn PluginWatcher>) {
        match &self.inner.backend {
            Backend::Cni(cni) => cni.calls().watch(watcher),
            Backend::None | Backend::Bridge(_) => {}
        }
    }

    /// The pod address ranges that the kubelet tells (`UpdateRuntimeConfig`): they fill the template of the
    /// CNI configuration, plugins with the capability `ipRanges` are told of them, and a bridge without
    /// subnets of its own takes them.
    ///
    /// # Errors
    /// When the configuration made from them cannot be written.
    pub async fn set_pod_cidrs(&self, cidrs: Vec<IpNet>) -> Result<(), NetworkError> {
        let inner = Arc::clone(&self.inner);
        blocking("taking the pod address ranges", move || {
            match &inner.backend {
                Backend::None => {}
                Backend::Cni(cni) => cni.set_pod_cidrs(cidrs)?,
                Backend::Bridge(bridge) => {
                    if !bridge.adopt(&cidrs) {
                        tracing::warn!(
                            ?cidrs,
                            "the bridge has other subnets than the pod address ranges"
                        );
                    }
                    inner.changed.notify_one();
                }
            }
            Ok(())
        })
        .await
    }

    /// A new network namespace for this sandbox, pinned under a stable name, its loopback up.
    ///
    /// # Errors
    /// [`NetworkError::Netns`]; nothing is left of it then.
    pub async fn new_netns(&self, sandbox: &SandboxId) -> Result<Netns, NetworkError> {
        self.pinned(sandbox, None).await
    }

    /// The same for a namespace that is there already: that of a pod with a user namespace is made in it, so
    /// that it belongs to the pod's users.
    ///
    /// # Errors
    /// [`NetworkError::Netns`]; it is not pinned then.
    pub async fn pin_netns(
        &self,
        sandbox: &SandboxId,
        namespace: OwnedFd,
    ) -> Result<Netns, NetworkError> {
        self.pinned(sandbox, Some(namespace)).await
    }

    async fn pinned(
        &self,
        sandbox: &SandboxId,
        given: Option<OwnedFd>,
    ) -> Result<Netns, NetworkError> {
        let (this, sandbox) = (self.clone(), sandbox.clone());
        detached("making a network namespace", async move {
            let _lock = this.inner.locks.lock(&sandbox).await;
            let inner = Arc::clone(&this.inner);
            let made =
                blocking("making a network namespace", move || inner.new_netns(&sandbox, given))
                    .await;
            this.refill();
            made
        })
        .await
    }

    /// Where this sandbox's namespace is, or would be, pinned.
    #[must_use]
    pub fn netns(&self, sandbox: &SandboxId) -> Netns {
        Netns::at(self.inner.pin_of(sandbox))
    }

    /// Removes the namespace of this sandbox. It is no error if there is none. What the sandbox has not
    /// given back by `detach` is given back later.
    ///
    /// # Errors
    /// [`NetworkError::Netns`].
    pub async fn remove_netns(&self, sandbox: &SandboxId) -> Result<(), NetworkError> {
        let (inner, sandbox) = (Arc::clone(&self.inner), sandbox.clone());
        detached("removing a network namespace", async move { inner.remove_netns(sandbox).await })
            .await
    }

    /// Lets a sandbox join its networks: all of them, or nothing is left. What an earlier attempt left is
    /// given back first.
    ///
    /// # Errors
    /// What a network says. What could not be undone is recorded and tried again.
    pub async fn attach(&self, attachment: &Attachment) -> Result<Attached, NetworkError> {
        let (inner, attachment) = (Arc::clone(&self.inner), attachment.clone());
        detached("joining networks", async move { inner.attach(attachment).await }).await
    }

    /// Lets a sandbox leave its networks, repeatable; a namespace that is gone is no error. `result` is what
    /// [`Attached::result`] was, for the case that our own record is lost.
    ///
    /// # Errors
    /// What a network says; the record stays, and it is tried again with back-off.
    pub async fn detach(
        &self,
        attachment: &Attachment,
        result: Option<&serde_json::Value>,
    ) -> Result<(), NetworkError> {
        let (inner, attachment, result) =
            (Arc::clone(&self.inner), attachment.clone(), result.cloned());
        detached("leaving networks", async move { inner.detach(attachment, result).await }).await
    }

    /// Whether a sandbox's networks are still as `attach` left them (CNI CHECK): one entry for each, after
    /// those for what concerns all of them. `result` is what [`Attached::result`] was, for the case that our
    /// own record is lost, which is told then.
    ///
    /// # Errors
    /// When its record cannot be read. What is no longer there is in the answer.
    pub async fn check(
        &self,
        attachment: &Attachment,
        result: Option<&serde_json::Value>,
    ) -> Result<Vec<Checked>, NetworkError> {
        let (inner, attachment, result) =
            (Arc::clone(&self.inner), attachment.clone(), result.cloned());
        detached("checking networks", async move { inner.check(attachment, result).await }).await
    }

    /// Gives back everything that is recorded for sandboxes other than these: addresses, links, rules,
    /// namespaces; then what the networks themselves know of, and no record does. To be called at the start;
    /// the second part is repeated every ten minutes. Sandboxes that came in the last minutes are left alone, because the list may be
    /// older than they are.
    ///
    /// # Errors
    /// When the records cannot be read. A sandbox that cannot be freed is in the answer.
    pub async fn gc(&self, valid: &[SandboxId]) -> Result<Collected, NetworkError> {
        let (inner, valid) = (Arc::clone(&self.inner), valid.to_vec());
        detached("collecting networks", async move { inner.collect(&valid).await }).await
    }

    /// What the interfaces inside this namespace have carried, without loopback.
    ///
    /// # Errors
    /// [`NetworkError::Netns`] when it is gone.
    pub async fn interface_stats(
        &self,
        netns: &Netns,
    ) -> Result<Vec<InterfaceStats>, NetworkError> {
        let path = netns.path().to_owned();
        blocking("reading interface statistics", move || {
            let read = inside(&path, || list_links(&mut Socket::route()?)).and_then(|links| links);
            let links =
                read.map_err(|source| NetworkError::Netns { operation: "enter", path, source })?;
            Ok(links.into_iter().filter(|link| !link.loopback).map(|link| link.stats).collect())
        })
        .await
    }
}
