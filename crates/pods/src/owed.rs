//! What could not be undone, tried again until it is.
//!
//! Owns: the list of what is owed, in memory and on tmpfs. Always: an entry leaves only when all of it is
//! undone; pauses between attempts grow up to [`LONGEST_PAUSE`]; at [`OWED_MAX`] entries no more pods
//! are made, so that the list is bounded by what brings new entries to it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use store::{Key, Store, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::undo::{Hands, Undo, carry_all_out};

/// Entries at which no more pods are made.
pub(crate) const OWED_MAX: usize = 1000;
/// Entries that are tried at once.
const AT_ONCE: usize = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What is owed for one object.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Debt {
    /// The object, for people.
    pub(crate) object: String,
    /// What is to be undone, in this order.
    pub(crate) undos: Vec<Undo>,
}

impl store::Record for Debt {
    const KIND: &'static str = "owed";
    const VERSION: u32 = 1;
}

#[derive(Debug)]
struct Entry {
    debt: Debt,
    attempts: u32,
    due: Instant,
    /// Being tried now.
    is_out: bool,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    entries: BTreeMap<u64, Entry>,
}

/// Everything that is owed.
#[derive(Debug)]
pub(crate) struct Owed {
    store: Store,
    inner: Mutex<Inner>,
    added: Notify,
}

/// How long to wait after this many failed attempts.
fn pause(attempts: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempts.min(31)).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

#[expect(clippy::expect_used, reason = "a number is a key")]
fn key(number: u64) -> Key {
    Key::parse(&number.to_string()).expect("a number is a key")
}

impl Owed {
    /// The list, with what an earlier daemon owed; those entries are due at once.
    pub(crate) fn open(store: Store) -> Result<(Self, Vec<String>), StoreError> {
        let loaded = store.load_all::<Debt>()?;
        let mut inner = Inner::default();
        let now = Instant::now();
        for (key, debt) in loaded.records {
            let Ok(number) = key.as_str().parse::<u64>() else { continue };
            inner.last = inner.last.max(number);
            inner.entries.insert(number, Entry { debt, attempts: 0, due: now, is_out: false });
        }
        let bad = loaded.quarantined.into_iter();
        let bad = bad.map(|q| format!("owed {}: {}", q.name, q.reason)).collect();
        Ok((Self { store, inner: Mutex::new(inner), added: Notify::new() }, bad))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is under the lock is whole between any two statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what could not be undone for `object`; nothing if all was, or is owed already.
    pub(crate) fn add(&self, object: &str, undos: Vec<Undo>) {
        if self.enter(object, undos, false).is_some() {
            self.added.notify_one();
        }
    }

    /// Undoes what there is of `object` now. It is owed before anything is undone, so that neither an end of
    /// the daemon nor a caller that gives up in the middle leaves any of it behind.
    pub(crate) async fn undo(&self, object: &str, undos: Vec<Undo>, hands: &impl Hands) {
        let Some((number, debt)) = self.enter(object, undos, true) else { return };
        let _out = Out { owed: self, number };
        let left = carry_all_out(hands, debt.undos).await;
        self.tried(number, left);
        self.added.notify_one();
    }

    /// A new entry of those undos that no entry of the same object has.
    fn enter(&self, object: &str, mut undos: Vec<Undo>, is_out: bool) -> Option<(u64, Debt)> {
        let (number, debt) = {
            let mut inner = self.lock();
            let known: Vec<&Debt> =
                inner.entries.values().map(|e| &e.debt).filter(|d| d.object == object).collect();
            undos.retain(|undo| !known.iter().any(|debt| debt.undos.contains(undo)));
            if undos.is_empty() {
                return None;
            }
            let debt = Debt { object: object.to_owned(), undos };
            inner.last += 1;
            let number = inner.last;
            let due = Instant::now() + pause(0);
            let attempts = if is_out { 0 } else { 1 };
            inner.entries.insert(number, Entry { debt: debt.clone(), attempts, due, is_out });
            (number, debt)
        };
        if let Err(error) = self.store.put(&key(number), &debt) {
            // It is in memory still, and tried again as long as this daemon lives.
            tracing::error!(error = %model::with_causes(&error), object, "what is owed is not recorded");
        }
        Some((number, debt))
    }

    /// Whether there is too much of it for more pods to be made.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().entries.len() >= OWED_MAX
    }

    /// For people.
    pub(crate) fn describe(&self) -> Vec<String> {
        let inner = self.lock();
        let line = |e: &Entry| {
            let steps: Vec<String> = e.debt.undos.iter().map(ToString::to_string).collect();
            format!("{}: {} ({} attempts)", e.debt.object, steps.join(", "), e.attempts)
        };
        inner.entries.values().map(line).collect()
    }

    /// Waits until something is due.
    pub(crate) async fn due(&self) {
        loop {
            let next = self.lock().entries.values().filter(|e| !e.is_out).map(|e| e.due).min();
            match next {
                Some(due) if due <= Instant::now() => return,
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.added.notified() => {}
                    }
                }
                None => self.added.notified().await,
            }
        }
    }

    /// Tries everything that is due, once.
    pub(crate) async fn work(&self, hands: &impl Hands) {
        let now = Instant::now();
        let due: Vec<(u64, Debt)> = {
            let mut inner = self.lock();
            let due = inner.entries.iter_mut().filter(|(_, e)| !e.is_out && e.due <= now);
            due.map(|(number, entry)| {
                entry.is_out = true;
                (*number, entry.debt.clone())
            })
            .collect()
        };
        // One that hangs until its deadline does not hold up the others.
        let all = futures_util::stream::iter(due);
        all.for_each_concurrent(AT_ONCE, |(number, debt)| async move {
            let left = carry_all_out(hands, debt.undos).await;
            self.tried(number, left);
        })
        .await;
    }

    fn tried(&self, number: u64, left: Vec<Undo>) {
        let debt = {
            let mut inner = self.lock();
            let Some(entry) = inner.entries.get_mut(&number) else { return };
            if left.is_empty() {
                inner.entries.remove(&number);
                None
            } else {
                entry.due = Instant::now() + pause(entry.attempts);
                entry.attempts = entry.attempts.saturating_add(1);
                entry.is_out = false;
                entry.debt.undos = left;
                Some(entry.debt.clone())
            }
        };
        let written = match &debt {
            Some(debt) => self.store.put(&key(number), debt),
            None => self.store.remove(&key(number)),
        };
        if let Err(error) = written {
            // Undone again after a restart, which harms nothing.
            tracing::warn!(error = %model::with_causes(&error), "the record of what is owed");
        }
    }
}

/// An entry that is being tried; when whoever tries it gives up, it is due again.
struct Out<'a> {
    owed: &'a Owed,
    number: u64,
}

impl Drop for Out<'_> {
    fn drop(&mut self) {
        let is_given_up = self
            .owed
            .lock()
            .entries
            .get_mut(&self.number)
            .is_some_and(|entry| std::mem::replace(&mut entry.is_out, false));
        if is_given_up {
            self.owed.added.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use store::Durability;

    use super::*;
    use crate::undo::tests::Noting;

    fn opened(dir: &Path) -> Owed {
        Owed::open(Store::open(&dir.join("owed"), Durability::Boot).unwrap()).unwrap().0
    }

    fn make_due(owed: &Owed) {
        owed.lock().entries.values_mut().for_each(|e| e.due = Instant::now());
    }

    #[tokio::test]
    async fn what_is_owed_is_tried_until_it_is_undone_also_by_the_next_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|p| Undo::RemoveDirectory(p.into()));
        let hands = Noting::default();
        hands.failing.lock().unwrap().push(second.clone());
        let owed = opened(dir.path());
        owed.add("pod", Vec::new());
        assert!(owed.describe().is_empty());
        owed.add("pod", vec![first.clone(), second.clone()]);
        make_due(&owed);
        owed.due().await;
        owed.work(&hands).await;
        assert_eq!(*hands.done.lock().unwrap(), [first, second.clone()]);
        assert!(owed.describe()[0].contains("2 attempts"), "{:?}", owed.describe());

        let owed = opened(dir.path());
        owed.due().await;
        hands.failing.lock().unwrap().clear();
        owed.work(&hands).await;
        assert_eq!(hands.done.lock().unwrap().last(), Some(&second), "only what was left");
        assert!(owed.describe().is_empty());
        assert!(opened(dir.path()).describe().is_empty());
    }

    #[tokio::test]
    async fn what_is_owed_already_is_not_owed_twice() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|p| Undo::RemoveDirectory(p.into()));
        let owed = opened(dir.path());
        owed.add("pod", vec![one.clone()]);
        owed.add("pod", vec![one.clone()]);
        assert_eq!(owed.describe().len(), 1);
        owed.add("pod", vec![one.clone(), two.clone()]);
        let all = owed.describe();
        assert_eq!(all.len(), 2);
        assert!(!all[1].contains("one"), "{all:?}");
        owed.add("other", vec![one]);
        assert_eq!(owed.describe().len(), 3, "of another object it is another debt");
    }

    /// Hands that never finish.
    struct Hanging;

    impl Hands for Hanging {
        async fn carry_out(&self, _: &Undo) -> Result<(), crate::error::Cause> {
            std::future::pending().await
        }
    }

    #[tokio::test]
    async fn what_is_given_up_in_the_middle_is_owed_and_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let undo = Undo::RemoveDirectory("a".into());
        let owed = opened(dir.path());
        let hung = owed.undo("pod", vec![undo.clone()], &Hanging);
        assert!(tokio::time::timeout(Duration::from_millis(20), hung).await.is_err());
        assert_eq!(opened(dir.path()).describe().len(), 1, "the next daemon knows of it");
        make_due(&owed);
        owed.due().await;
        let hands = Noting::default();
        owed.work(&hands).await;
        assert_eq!(*hands.done.lock().unwrap(), std::slice::from_ref(&undo));
        assert!(owed.describe().is_empty());
        owed.undo("pod", vec![undo], &hands).await;
        assert!(owed.describe().is_empty() && opened(dir.path()).describe().is_empty());
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let all: Vec<u64> = (0..40).map(|n| pause(n).as_secs()).collect();
        assert_eq!(all[..4], [1, 2, 4, 8]);
        assert!(all.is_sorted());
        assert_eq!(all.last(), Some(&LONGEST_PAUSE.as_secs()));
    }
}
