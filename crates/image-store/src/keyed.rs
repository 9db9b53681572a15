//! One at a time per key, with no lock held while the one works.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Keys that somebody works on.
#[derive(Debug)]
pub(crate) struct Keyed<K> {
    busy: Mutex<HashSet<K>>,
    freed: Condvar,
}

impl<K> Default for Keyed<K> {
    fn default() -> Self {
        Self { busy: Mutex::default(), freed: Condvar::new() }
    }
}

impl<K: Clone + Eq + Hash> Keyed<K> {
    /// Waits until nobody works on `key`, and keeps others from it as long as the answer lives.
    pub fn take(&self, key: &K) -> Taken<'_, K> {
        let mut busy = self.lock();
        while !busy.insert(key.clone()) {
            busy = self.freed.wait(busy).unwrap_or_else(PoisonError::into_inner);
        }
        Taken { keyed: self, key: key.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<K>> {
        // The set is whole between any two statements.
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key that is taken.
#[derive(Debug)]
pub(crate) struct Taken<'a, K: Clone + Eq + Hash> {
    keyed: &'a Keyed<K>,
    key: K,
}

impl<K: Clone + Eq + Hash> Drop for Taken<'_, K> {
    fn drop(&mut self) {
        self.keyed.lock().remove(&self.key);
        self.keyed.freed.notify_all();
    }
}
