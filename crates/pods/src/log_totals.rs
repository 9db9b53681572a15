//! What all containers have logged, as their monitors count it.
//!
//! Always: counts never fall. A pod that goes leaves its counts here; what a pod had logged before this
//! daemon was there is not counted again. Monitors are asked no more often than once in [`FRESH`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use model::SandboxId;
use monitor_client::api::LogTotals;

use crate::pods::{Inner, Pods};

/// How long what monitors said counts.
const FRESH: Duration = Duration::from_secs(5);
/// Monitors that are asked at once, and how long one may take.
const AT_ONCE: usize = 16;
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Pod {
    /// What it had logged when it was first heard of.
    base: LogTotals,
    last: LogTotals,
}

#[derive(Debug, Default)]
struct Counts {
    pods: BTreeMap<SandboxId, Pod>,
    gone: LogTotals,
    asked: Option<Instant>,
}

/// The counts of all pods.
#[derive(Debug, Default)]
pub(crate) struct Ledger(Mutex<Counts>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the monitor of `id` said. Of an inherited pod only what comes from now on counts.
    pub(crate) fn note(&self, id: &SandboxId, totals: LogTotals, is_inherited: bool) {
        let mut counts = self.lock();
        let base = if is_inherited { totals } else { LogTotals::default() };
        let pod = counts.pods.entry(id.clone()).or_insert(Pod { base, last: base });
        pod.last = totals;
    }

    /// The pod is gone.
    pub(crate) fn close(&self, id: &SandboxId) {
        let mut counts = self.lock();
        if let Some(pod) = counts.pods.remove(id) {
            counts.gone = plus(counts.gone, since(pod.last, pod.base));
        }
    }

    fn sum(&self) -> LogTotals {
        let counts = self.lock();
        counts.pods.values().fold(counts.gone, |sum, pod| plus(sum, since(pod.last, pod.base)))
    }

    /// Whether it is time to ask; at most one caller is told so.
    fn is_due(&self) -> bool {
        let mut counts = self.lock();
        let is_due = counts.asked.is_none_or(|at| at.elapsed() >= FRESH);
        if is_due {
            counts.asked = Some(Instant::now());
        }
        is_due
    }
}

fn plus(a: LogTotals, b: LogTotals) -> LogTotals {
    both(a, b, u64::saturating_add)
}

fn since(a: LogTotals, b: LogTotals) -> LogTotals {
    both(a, b, u64::saturating_sub)
}

fn both(a: LogTotals, b: LogTotals, join: fn(u64, u64) -> u64) -> LogTotals {
    LogTotals {
        lines: join(a.lines, b.lines),
        bytes: join(a.bytes, b.bytes),
        lost: join(a.lost, b.lost),
        dropped: join(a.dropped, b.dropped),
    }
}

/// Asks the monitor of `id` what it has counted.
pub(crate) async fn ask(inner: &Inner, id: &SandboxId) {
    let Some(monitor) = inner.table.monitor(id) else { return };
    let Some(record) = inner.table.sandbox(id) else { return };
    // A monitor that does not answer is asked again at the next time.
    let Ok(Ok(welcome)) = tokio::time::timeout(PATIENCE, monitor.hello()).await else { return };
    if let Some(totals) = welcome.log_totals {
        inner.logged.note(id, totals, record.created_at < inner.started_at);
    }
}

/// The counts of all pods since this daemon began.
pub(crate) async fn totals(pods: &Pods) -> LogTotals {
    let inner = &pods.inner;
    if inner.logged.is_due() {
        let ids = inner.table.sandbox_ids();
        let asked = futures_util::stream::iter(ids)
            .map(|id| async move { ask(inner, &id).await })
            .buffer_unordered(AT_ONCE);
        asked.collect::<Vec<()>>().await;
    }
    inner.logged.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_never_fall_and_count_what_came_since() {
        let ledger = Ledger::default();
        let (new, old) = (SandboxId::from_random([1; 32]), SandboxId::from_random([2; 32]));
        let lines = |lines| LogTotals { lines, ..LogTotals::default() };
        ledger.note(&new, lines(5), false);
        ledger.note(&old, lines(1000), true);
        assert_eq!(ledger.sum().lines, 5);
        ledger.note(&new, lines(7), false);
        ledger.note(&old, lines(1003), true);
        assert_eq!(ledger.sum().lines, 10);
        ledger.close(&new);
        ledger.close(&new);
        assert_eq!(ledger.sum().lines, 10);
        assert!(ledger.is_due() && !ledger.is_due());
    }
}
