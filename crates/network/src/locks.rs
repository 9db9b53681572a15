//! One operation at a time for each sandbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::SandboxId;
use tokio::sync::OwnedMutexGuard;

type Entries = Arc<Mutex<HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>>>;

/// A lock for each sandbox that somebody holds or waits for.
#[derive(Debug, Clone, Default)]
pub(crate) struct SandboxLocks {
    entries: Entries,
}

/// The right to change a sandbox's networks.
#[derive(Debug)]
pub(crate) struct SandboxLock {
    entries: Entries,
    sandbox: SandboxId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl SandboxLocks {
    /// Waits for the right; first come, first served.
    pub(crate) async fn lock(&self, sandbox: &SandboxId) -> SandboxLock {
        let entry = {
            let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(entries.entry(sandbox.clone()).or_default())
        };
        let guard = Some(entry.lock_owned().await);
        SandboxLock { entries: Arc::clone(&self.entries), sandbox: sandbox.clone(), guard }
    }
}

impl Drop for SandboxLock {
    fn drop(&mut self) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        self.guard = None;
        // Whoever waits has a copy, and copies are made only under the lock that is held here.
        if entries.get(&self.sandbox).is_some_and(|entry| Arc::strong_count(entry) == 1) {
            entries.remove(&self.sandbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_that_nobody_wants_is_forgotten() {
        let locks = SandboxLocks::default();
        let id = SandboxId::from_random([1; 32]);
        let first = locks.lock(&id).await;
        let other = locks.clone();
        let waiting =
            tokio::spawn(async move { drop(other.lock(&SandboxId::from_random([1; 32])).await) });
        drop(locks.lock(&SandboxId::from_random([2; 32])).await);
        assert_eq!(locks.entries.lock().unwrap().len(), 1);
        drop(first);
        waiting.await.unwrap();
        assert!(locks.entries.lock().unwrap().is_empty());
    }
}
