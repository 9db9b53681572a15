//! How far pulls are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use model::{Digest, Timestamp};

/// What a layer of a pull is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// Waits for a permit, or for another pull that fetches it.
    Waiting,
    /// Its bytes come and are unpacked.
    Fetching,
    /// Was here before.
    Present,
    /// Is here now.
    Done,
}

/// A layer of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerProgress {
    /// The blob.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// How many of them came.
    pub received: u64,
    /// What it is at.
    pub state: LayerState,
}

/// A pull that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// What is pulled.
    pub reference: String,
    /// What it is at: `resolve`, `manifest`, `config`, `layers`, `commit`.
    pub phase: &'static str,
    /// When it began.
    pub started_at: Timestamp,
    /// Its layers, the lowest first; empty before the manifest is known.
    pub layers: Vec<LayerProgress>,
}

/// A layer's counters, shared with the thread that unpacks it.
#[derive(Debug)]
pub(crate) struct LayerCell {
    pub digest: Digest,
    pub size: u64,
    pub received: AtomicU64,
    state: AtomicU8,
    /// Of all layers together.
    pulled: Arc<AtomicU64>,
}

impl LayerCell {
    pub fn set(&self, state: LayerState) {
        let code = match state {
            LayerState::Waiting => 0,
            LayerState::Fetching => 1,
            LayerState::Present => 2,
            LayerState::Done => 3,
        };
        let before = self.state.swap(code, Ordering::Relaxed);
        if before != code && state == LayerState::Done {
            self.pulled.fetch_add(self.received.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn snapshot(&self) -> LayerProgress {
        let state = match self.state.load(Ordering::Relaxed) {
            0 => LayerState::Waiting,
            1 => LayerState::Fetching,
            2 => LayerState::Present,
            _ => LayerState::Done,
        };
        let received = match state {
            LayerState::Waiting | LayerState::Fetching => self.received.load(Ordering::Relaxed),
            LayerState::Present | LayerState::Done => self.size,
        };
        LayerProgress { digest: self.digest.clone(), size: self.size, received, state }
    }
}

#[derive(Debug)]
struct Pull {
    reference: String,
    phase: &'static str,
    started_at: Timestamp,
    layers: Vec<Arc<LayerCell>>,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    pulls: HashMap<u64, Pull>,
    /// Pulls that bring the same layer at once show the same counters.
    cells: HashMap<Digest, Weak<LayerCell>>,
    /// Bytes of layers that came since the daemon began.
    pulled: Arc<AtomicU64>,
}

/// The pulls that run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table(Arc<Mutex<State>>);

impl Table {
    /// A row that is there until the answer is dropped.
    pub fn begin(&self, reference: &str) -> Row {
        let mut state = self.lock();
        state.last += 1;
        let id = state.last;
        let pull = Pull {
            reference: reference.to_owned(),
            phase: "resolve",
            started_at: crate::pull::now(),
            layers: Vec::new(),
        };
        state.pulls.insert(id, pull);
        Row { table: self.clone(), id }
    }

    /// The counters of the layer `chain_id`: new ones, or those of a pull that brings it already.
    pub fn cell(&self, chain_id: &Digest, digest: &Digest, size: u64) -> Arc<LayerCell> {
        let mut state = self.lock();
        if let Some(cell) = state.cells.get(chain_id).and_then(Weak::upgrade) {
            return cell;
        }
        state.cells.retain(|_, cell| cell.strong_count() > 0);
        let cell = Arc::new(LayerCell {
            digest: digest.clone(),
            size,
            received: AtomicU64::new(0),
            state: AtomicU8::new(0),
            pulled: Arc::clone(&state.pulled),
        });
        state.cells.insert(chain_id.clone(), Arc::downgrade(&cell));
        cell
    }

    /// Every pull that runs, the oldest first.
    pub fn list(&self) -> Vec<PullProgress> {
        let state = self.lock();
        let mut ids: Vec<_> = state.pulls.keys().copied().collect();
        ids.sort_unstable();
        ids.iter()
            .filter_map(|id| state.pulls.get(id))
            .map(|pull| PullProgress {
                reference: pull.reference.clone(),
                phase: pull.phase,
                started_at: pull.started_at,
                layers: pull.layers.iter().map(|l| l.snapshot()).collect(),
            })
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The table is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    table: Table,
    id: u64,
}

impl Row {
    /// What the pull is at.
    pub fn at(&self) -> &'static str {
        self.table.lock().pulls.get(&self.id).map_or("", |pull| pull.phase)
    }

    pub fn phase(&self, phase: &'static str) {
        if let Some(pull) = self.table.lock().pulls.get_mut(&self.id) {
            pull.phase = phase;
        }
    }

    pub fn layers(&self, layers: Vec<Arc<LayerCell>>) {
        if let Some(pull) = self.table.lock().pulls.get_mut(&self.id) {
            pull.layers = layers;
        }
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        self.table.lock().pulls.remove(&self.id);
    }
}

impl crate::Images {
    /// How far the pulls are that run now.
    #[must_use]
    pub fn progress(&self) -> Vec<PullProgress> {
        self.inner.progress.list()
    }

    /// Bytes of layers that came from registries since the daemon began.
    #[must_use]
    pub fn pulled_bytes(&self) -> u64 {
        self.inner.progress.lock().pulled.load(Ordering::Relaxed)
    }
}
