//! How much was done since the daemon began, for its metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use image_store::{Collected, LayerInfo};

use crate::Images;

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Layers that were unpacked.
    pub unpacked_layers: u64,
    /// Bytes that they take.
    pub unpacked_bytes: u64,
    /// Rounds of collection.
    pub collections: u64,
    /// Layers that were collected.
    pub collected_layers: u64,
    /// Time spent in it.
    pub collecting: Duration,
    /// Trees that could not be deleted at the last round.
    pub undeletable: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Done {
    layers: AtomicU64,
    bytes: AtomicU64,
    collections: AtomicU64,
    collected: AtomicU64,
    collecting_us: AtomicU64,
    undeletable: AtomicU64,
}

impl Done {
    /// A layer was unpacked.
    pub(crate) fn unpacked(&self, layer: &LayerInfo) {
        self.layers.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(layer.usage.bytes, Ordering::Relaxed);
    }

    /// A round of collection was done.
    pub(crate) fn collected(&self, sum: &Collected, took: Duration) {
        let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.collections.fetch_add(1, Ordering::Relaxed);
        self.collected.fetch_add(count(sum.layers), Ordering::Relaxed);
        self.collecting_us.fetch_add(us, Ordering::Relaxed);
        self.undeletable.store(count(sum.undeletable), Ordering::Relaxed);
    }
}

impl Images {
    /// How much was done since the daemon began.
    #[must_use]
    pub fn work(&self) -> Work {
        let done = &self.inner.done;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Work {
            unpacked_layers: get(&done.layers),
            unpacked_bytes: get(&done.bytes),
            collections: get(&done.collections),
            collected_layers: get(&done.collected),
            collecting: Duration::from_micros(get(&done.collecting_us)),
            undeletable: get(&done.undeletable),
        }
    }
}
