//! What all containers have logged, as their monitors count it.
//!
//! Always: counts never fall. A pod that goes leaves its counts here, once: an answer of its monitor that comes
//! after that counts no more; what a pod had logged before this daemon was there is not counted again. Monitors
//! are asked no more often than once in [`FRESH`].

use std::collections::{BTreeMap, BTreeSet};
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
    /// Those that are counted in `gone`, for as long as they are in the table.
    closed: BTreeSet<SandboxId>,
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

    /// What the monitor of `id` said. Of an inherited pod only what comes from now on counts. `is_there` tells
    /// whether the pod is in the table still; it is asked while nothing else changes here.
    fn note(
        &self,
        id: &SandboxId,
        totals: LogTotals,
        is_inherited: bool,
        is_there: impl FnOnce(&SandboxId) -> bool,
    ) {
        let mut counts = self.lock();
        if counts.closed.contains(id) || !is_there(id) {
            return;
        }
        let base = if is_inherited { totals } else { LogTotals::default() };
        let pod = counts.pods.entry(id.clone()).or_insert(Pod { base, last: base });
        pod.last = totals;
    }

    /// Nothing of the pod runs any more. `is_there` tells which pods are in the table still.
    pub(crate) fn close(&self, id: &SandboxId, is_there: impl Fn(&SandboxId) -> bool) {
        let mut counts = self.lock();
        if let Some(pod) = counts.pods.remove(id) {
            counts.gone = plus(counts.gone, since(pod.last, pod.base));
        }
        counts.closed.retain(&is_there);
        counts.closed.insert(id.clone());
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
        let is_inherited = record.created_at < inner.started_at;
        inner.logged.note(id, totals, is_inherited, |id| inner.table.sandbox(id).is_some());
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
        let note = |id, count, is_inherited| ledger.note(id, lines(count), is_inherited, |_| true);
        note(&new, 5, false);
        note(&old, 1000, true);
        assert_eq!(ledger.sum().lines, 5);
        note(&new, 7, false);
        note(&old, 1003, true);
        assert_eq!(ledger.sum().lines, 10);
        ledger.close(&new, |_| true);
        ledger.close(&new, |_| true);
        assert_eq!(ledger.sum().lines, 10);
        assert!(ledger.is_due() && !ledger.is_due());
    }

    #[test]
    fn an_answer_that_comes_after_its_pod_has_gone_counts_no_more() {
        let ledger = Ledger::default();
        let [one, two] = [1, 2].map(|byte| SandboxId::from_random([byte; 32]));
        let lines = |lines| LogTotals { lines, ..LogTotals::default() };
        ledger.note(&one, lines(7), false, |_| true);
        ledger.close(&one, |_| true);
        ledger.note(&one, lines(7), false, |_| true);
        assert_eq!(ledger.sum().lines, 7, "stopped");
        // It is forgotten with the pod, and an answer is not taken for one that is no longer there.
        ledger.close(&two, |id| *id != one);
        assert!(!ledger.lock().closed.contains(&one));
        ledger.note(&one, lines(7), false, |id| *id != one);
        assert_eq!(ledger.sum().lines, 7, "removed");
    }
}
