//! How much was found that belongs to no pod.
//!
//! Always: what is found is also cleared away, or owed; the counts only tell that it was there.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was found since the daemon began.
#[derive(Debug, Default)]
pub(crate) struct Leaks {
    pub(crate) pods: AtomicU64,
    pub(crate) containers: AtomicU64,
    pub(crate) root_file_systems: AtomicU64,
    pub(crate) networks: AtomicU64,
}

impl Leaks {
    /// So many more.
    pub(crate) fn found(count: &AtomicU64, more: usize) {
        count.fetch_add(u64::try_from(more).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Each kind with its count.
    pub(crate) fn list(&self) -> [(&'static str, u64); 4] {
        [
            ("pod", &self.pods),
            ("container", &self.containers),
            ("root file system", &self.root_file_systems),
            ("network", &self.networks),
        ]
        .map(|(kind, count)| (kind, count.load(Ordering::Relaxed)))
    }
}
