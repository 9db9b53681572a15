//! What is done without being asked: retries, collection, the status of the built-in network.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use model::{SandboxId, with_causes};

use crate::cni::Cni;
use crate::error::NetworkError;
use crate::netns::unpin;
use crate::networks::{Backend, Collected, Inner, blocking};
use crate::record::{Joined, SandboxRecord};
use crate::status::{NetworkStatus, Reason};

/// The wait before the first retry, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest wait between retries.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A sandbox that came since is not collected: whoever lists those in use may not have known it yet.
const YOUNG: Duration = Duration::from_secs(10 * 60);
/// How long a collection waits for a moment in which no plugin adds.
const QUIET_WITHIN: Duration = Duration::from_secs(30);
const QUIET_POLL: Duration = Duration::from_millis(200);
/// How often leftovers without a record are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often the bridge is looked after.
const BRIDGE_READY: Duration = Duration::from_secs(30);
/// How often, while it cannot be set up.
const BRIDGE_FAILED: Duration = Duration::from_secs(1);

/// What came of the tries to free a sandbox.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tried {
    /// How many there were, all in vain.
    pub(crate) tries: u32,
    /// What the last one said.
    pub(crate) why: String,
}

impl Tried {
    fn failed(&mut self, error: &NetworkError) {
        self.tries = self.tries.saturating_add(1);
        self.why = with_causes(error);
    }
}

impl Inner {
    /// Tries with back-off until the sandbox has left its networks. One task for each sandbox. `failed` is
    /// what the last try said.
    pub(crate) fn retry_later(self: &Arc<Self>, sandbox: SandboxId, failed: Option<&NetworkError>) {
        let mut retrying = self.retrying.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = !retrying.contains_key(&sandbox);
        let tried = retrying.entry(sandbox.clone()).or_default();
        if let Some(error) = failed {
            tried.failed(error);
        }
        if is_new {
            tokio::spawn(retry(Arc::downgrade(self), sandbox));
        }
    }

    /// Leaves what the record of this sandbox names. True when there is nothing left to do.
    async fn try_again(self: &Arc<Self>, sandbox: &SandboxId) -> Result<(), NetworkError> {
        let _lock = self.locks.lock(sandbox).await;
        let Some(mut record) = self.read(sandbox).await? else { return Ok(()) };
        self.leave(&mut record).await?;
        if record.abandoned { self.forget(record).await } else { Ok(()) }
    }

    async fn read(&self, sandbox: &SandboxId) -> Result<Option<SandboxRecord>, NetworkError> {
        let (records, sandbox) = (self.records.clone(), sandbox.clone());
        blocking("reading a network record", move || records.get(&sandbox)).await
    }

    /// Removes the namespace, then the record of a sandbox that has left its networks.
    async fn forget(&self, record: SandboxRecord) -> Result<(), NetworkError> {
        self.born.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.sandbox);
        let records = self.records.clone();
        blocking("removing a network namespace", move || {
            unpin(&record.netns)?;
            records.remove(&record.sandbox)
        })
        .await
    }

    /// Removes the namespace of a sandbox. What it has not given back keeps its record, and is tried again.
    pub(crate) async fn remove_netns(
        self: &Arc<Self>,
        sandbox: SandboxId,
    ) -> Result<(), NetworkError> {
        let _lock = self.locks.lock(&sandbox).await;
        let path = self.pin_of(&sandbox);
        let Some(mut record) = self.read(&sandbox).await? else {
            return blocking("removing a network namespace", move || unpin(&path)).await;
        };
        if record.joined.is_empty() {
            return self.forget(record).await;
        }
        record.abandoned = true;
        self.put(&record).await?;
        self.retry_later(sandbox, None);
        blocking("removing a network namespace", move || unpin(&path)).await
    }

    /// Gives back everything of sandboxes other than these.
    pub(crate) async fn collect(
        self: &Arc<Self>,
        valid: &[SandboxId],
    ) -> Result<Collected, NetworkError> {
        let valid: HashSet<&SandboxId> = valid.iter().collect();
        let records = self.records.clone();
        let all = blocking("reading network records", move || records.all()).await?;
        let mut collected = Collected::default();
        for record in all {
            let young = self.is_young(&record.sandbox);
            if valid.contains(&record.sandbox) || young {
                continue;
            }
            let sandbox = record.sandbox.clone();
            match self.free(&sandbox).await {
                Ok(()) => collected.freed.push(sandbox),
                Err(error) => {
                    collected.left.push((sandbox.clone(), with_causes(&error)));
                    self.retry_later(sandbox, Some(&error));
                }
            }
        }
        self.sweep(&mut collected).await?;
        Ok(collected)
    }

    /// Gives back what the networks know of, and no record does.
    async fn sweep(self: &Arc<Self>, collected: &mut Collected) -> Result<(), NetworkError> {
        match &self.backend {
            Backend::None => {}
            Backend::Bridge(_) => {
                let this = Arc::clone(self);
                // Records are read again: what began meanwhile is no leftover.
                let swept = blocking("sweeping the bridge", move || {
                    let Backend::Bridge(bridge) = &this.backend else { return Ok(Vec::new()) };
                    bridge
                        .sweep(|| Ok(this.records.all()?.into_iter().map(|r| r.sandbox).collect()))
                })
                .await?;
                collected.swept.extend(swept);
            }
            Backend::Cni(cni) => self.collect_plugins(cni, collected).await?,
        }
        Ok(())
    }

    /// Plugins collect while none of them adds. Where that moment does not come, because one hangs, there is
    /// another collection later.
    async fn collect_plugins(
        &self,
        cni: &Cni,
        collected: &mut Collected,
    ) -> Result<(), NetworkError> {
        let start = Instant::now();
        let _nobody_adds = loop {
            // Waiting in line would let everybody behind wait for the one that hangs.
            if let Ok(guard) = self.adding.try_write() {
                break guard;
            }
            if start.elapsed() > QUIET_WITHIN {
                let why = "plugins did not collect, because others were adding all the time";
                tracing::warn!("{why}");
                collected.failed.push(why.to_owned());
                return Ok(());
            }
            tokio::time::sleep(QUIET_POLL).await;
        };
        let records = self.records.clone();
        let all = blocking("reading network records", move || records.all()).await?;
        let attachments: Vec<_> = all.iter().flat_map(attachments).collect();
        let (freed, failed) = cni.collect(&attachments).await;
        collected.swept.extend(freed.into_iter().map(|l| format!("lease of {}", l.container)));
        for error in failed {
            tracing::warn!(%error, "a plugin could not collect");
            collected.failed.push(with_causes(&error));
        }
        Ok(())
    }

    fn is_young(&self, sandbox: &SandboxId) -> bool {
        let born = self.born.lock().unwrap_or_else(PoisonError::into_inner);
        born.get(sandbox).is_some_and(|born| born.elapsed() < YOUNG)
    }

    async fn free(self: &Arc<Self>, sandbox: &SandboxId) -> Result<(), NetworkError> {
        let _lock = self.locks.lock(sandbox).await;
        let Some(mut record) = self.read(sandbox).await? else { return Ok(()) };
        record.abandoned = true;
        self.leave(&mut record).await?;
        self.forget(record).await
    }

    fn set_status(&self, status: NetworkStatus) {
        let mut now = self.status.write().unwrap_or_else(PoisonError::into_inner);
        status.tell_after(&now);
        *now = status;
    }
}

/// What a plugin is told that is in use: container, network, interface.
fn attachments(record: &SandboxRecord) -> impl Iterator<Item = (String, String, String)> + '_ {
    record.joined.iter().filter_map(|joined| match joined {
        Joined::Cni(cached) => Some((
            record.sandbox.as_str().to_owned(),
            cached.network_name.clone(),
            cached.if_name.clone(),
        )),
        Joined::Bridge(_) | Joined::Ports(_) => None,
    })
}

async fn retry(inner: Weak<Inner>, sandbox: SandboxId) {
    let mut wait = FIRST_RETRY;
    loop {
        tokio::time::sleep(wait).await;
        let Some(inner) = inner.upgrade() else { return };
        match inner.try_again(&sandbox).await {
            Ok(()) => {
                inner.retrying.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox);
                return;
            }
            Err(error) => {
                let mut retrying = inner.retrying.lock().unwrap_or_else(PoisonError::into_inner);
                retrying.entry(sandbox.clone()).or_default().failed(&error);
                drop(retrying);
                tracing::warn!(%sandbox, %error, "a sandbox still has something of its networks");
            }
        }
        wait = (wait * 2).min(LAST_RETRY);
    }
}

/// Sweeps from time to time, until the networks are gone. Records tell what is in use, so nobody has to be
/// asked.
pub(crate) async fn keep_clean(inner: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let Some(inner) = inner.upgrade() else { return };
        let mut collected = Collected::default();
        if let Err(error) = inner.sweep(&mut collected).await {
            tracing::warn!(%error, "what networks keep could not be looked through");
        }
        if !collected.swept.is_empty() {
            tracing::warn!(swept = ?collected.swept, "leftovers that no record spoke of");
        }
    }
}

/// Keeps the bridge as it should be, and the status true, until the networks are gone.
pub(crate) async fn keep_bridge(inner: Weak<Inner>) {
    loop {
        let Some(inner) = inner.upgrade() else { return };
        let this = Arc::clone(&inner);
        let ensured = blocking("setting up the bridge", move || {
            let Backend::Bridge(bridge) = &this.backend else { return Ok(String::new()) };
            if bridge.subnets().is_empty() {
                let message = format!(
                    "bridge {}: no subnet is configured, and the kubelet has told none yet",
                    bridge.name()
                );
                return Err(NetworkError::NotReady { message });
            }
            bridge.ensure(|| this.records.all())?;
            let subnets: Vec<_> = bridge.subnets().iter().map(ToString::to_string).collect();
            Ok(format!("bridge {}: {}", bridge.name(), subnets.join(", ")))
        })
        .await;
        let (status, pause) = match ensured {
            Ok(message) => {
                (NetworkStatus { ready: true, reason: Reason::Ready, message }, BRIDGE_READY)
            }
            Err(error) => {
                let message = with_causes(&error);
                (
                    NetworkStatus { ready: false, reason: Reason::BridgeFailed, message },
                    BRIDGE_FAILED,
                )
            }
        };
        inner.set_status(status);
        let changed = Arc::clone(&inner.changed);
        drop(inner);
        tokio::select! {
            () = changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
