//! All sandboxes and containers in memory, and their records behind them.
//!
//! Always: the lock is held for copying and never while anything is waited for or written; an event is
//! told under the lock, so that those of one object keep their order; a record that is written is the
//! newest there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{
    ContainerId, ContainerMetadata, Effect, Event, SandboxId, SandboxMetadata, Span, State,
    Timestamp,
};
use monitor_client::Monitor;
use store::{Key, Store, StoreError};
use tokio::sync::{RwLock, watch};

use crate::clock;
use crate::events::{EventKind, Events, PodEvent, Subject};
use crate::records::{ContainerRecord, ContainerStage, SandboxRecord, SandboxStage};
use crate::status::{ContainerStatus, SandboxStatus};

/// Held by those that change what is in a pod, as a whole by those that end it.
pub(crate) type Gate = Arc<RwLock<()>>;

/// Held by whoever changes the limits of one object, from reading the old ones to having written the new ones.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug)]
struct SandboxEntry {
    record: Arc<SandboxRecord>,
    status: Arc<SandboxStatus>,
    /// The connection; those who wait for its end watch it.
    monitor: watch::Sender<Option<Monitor>>,
    /// False until what an earlier daemon left of it has been looked at.
    settled: watch::Sender<bool>,
    gate: Gate,
    /// Whether it is known that nothing of it runs and that its cgroups are gone: for good, since a pod that was
    /// stopped starts nothing any more.
    quiet: bool,
    /// The record as it was written last; held by whoever writes it.
    saving: Arc<Mutex<Option<Arc<SandboxRecord>>>>,
    updating: Turn,
}

#[derive(Debug)]
struct ContainerEntry {
    record: Arc<ContainerRecord>,
    status: Arc<ContainerStatus>,
    state: watch::Sender<State>,
    saving: Arc<Mutex<()>>,
    updating: Turn,
}

#[derive(Debug, Default)]
struct Inner {
    sandboxes: BTreeMap<SandboxId, SandboxEntry>,
    containers: BTreeMap<ContainerId, ContainerEntry>,
}

/// Where the records are.
#[derive(Debug)]
pub(crate) struct Records {
    pub(crate) sandboxes: Store,
    pub(crate) containers: Store,
}

/// All sandboxes and containers.
#[derive(Debug)]
pub(crate) struct Table {
    inner: Mutex<Inner>,
    events: Events,
    records: Records,
}

/// The store's key for an id, which is hexadecimal digits and always one.
fn key(id: &str) -> Key {
    #[expect(clippy::expect_used, reason = "64 hexadecimal digits are a key")]
    Key::parse(id).expect("an id is a key")
}

impl Table {
    pub(crate) fn new(records: Records, events_ahead: usize) -> Self {
        Self { inner: Mutex::default(), events: Events::new(events_ahead), records }
    }

    pub(crate) fn events(&self) -> &Events {
        &self.events
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What is under the lock is whole between any two statements.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Sandboxes.

    /// Adds a sandbox. One that an earlier daemon has left is not settled yet.
    pub(crate) fn add_sandbox(&self, record: SandboxRecord, settled: bool) {
        let entry = SandboxEntry {
            status: Arc::new(record.status()),
            record: Arc::new(record),
            monitor: watch::Sender::new(None),
            settled: watch::Sender::new(settled),
            gate: Gate::default(),
            quiet: false,
            saving: Arc::default(),
            updating: Turn::default(),
        };
        self.lock().sandboxes.insert(entry.record.id.clone(), entry);
    }

    pub(crate) fn sandbox(&self, id: &SandboxId) -> Option<Arc<SandboxRecord>> {
        self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.record))
    }

    pub(crate) fn sandbox_ids(&self) -> Vec<SandboxId> {
        self.lock().sandboxes.keys().cloned().collect()
    }

    /// Those that an earlier daemon has left and that nobody has taken up yet; not those that were begun
    /// since, which are another operation's.
    pub(crate) fn unsettled_ids(&self) -> Vec<SandboxId> {
        let inner = self.lock();
        let left = inner.sandboxes.iter().filter(|(_, entry)| !*entry.settled.borrow());
        left.map(|(id, _)| id.clone()).collect()
    }

    /// The sandbox that was asked for by this name and has not been stopped. One that is ready goes before
    /// what is left of attempts to make it.
    pub(crate) fn sandbox_of(&self, metadata: &SandboxMetadata) -> Option<Arc<SandboxRecord>> {
        let inner = self.lock();
        let named = |stage: SandboxStage| {
            let mut all = inner.sandboxes.values().map(|e| &e.record);
            all.find(|r| r.stage == stage && r.config.metadata == *metadata).map(Arc::clone)
        };
        named(SandboxStage::Ready).or_else(|| named(SandboxStage::Making))
    }

    /// Statuses of all that can be seen: not of those that are still being made.
    pub(crate) fn sandbox_statuses(&self) -> Vec<Arc<SandboxStatus>> {
        let inner = self.lock();
        let visible = |e: &&SandboxEntry| e.record.stage != SandboxStage::Making;
        let mut all: Vec<_> =
            inner.sandboxes.values().filter(visible).map(|e| Arc::clone(&e.status)).collect();
        drop(inner);
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// The sandbox and its containers, as they are together.
    pub(crate) fn pod_status(
        &self,
        id: &SandboxId,
    ) -> Option<(Arc<SandboxStatus>, Vec<Arc<ContainerStatus>>)> {
        let inner = self.lock();
        let entry = inner.sandboxes.get(id).filter(|e| e.record.stage != SandboxStage::Making)?;
        Some((Arc::clone(&entry.status), inner.statuses_in(id)))
    }

    /// Changes a sandbox; `None` if it is gone.
    pub(crate) fn change_sandbox(
        &self,
        id: &SandboxId,
        change: impl FnOnce(&mut SandboxRecord),
    ) -> Option<Arc<SandboxRecord>> {
        self.change_and_tell(id, None, change)
    }

    /// Changes a sandbox and tells the subscribers of it.
    pub(crate) fn change_and_tell(
        &self,
        id: &SandboxId,
        kind: Option<EventKind>,
        change: impl FnOnce(&mut SandboxRecord),
    ) -> Option<Arc<SandboxRecord>> {
        let mut inner = self.lock();
        let entry = inner.sandboxes.get_mut(id)?;
        let record = Arc::make_mut(&mut entry.record);
        change(record);
        entry.status = Arc::new(record.status());
        let record = Arc::clone(&entry.record);
        if let Some(kind) = kind {
            self.tell(&inner, Subject::Sandbox(id.clone()), kind, id);
        }
        Some(record)
    }

    /// A sandbox is ready, unless its monitor has ended meanwhile; false then.
    pub(crate) fn sandbox_ready(&self, id: &SandboxId, spans: Vec<Span>) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.sandboxes.get_mut(id) else { return false };
        if entry.record.monitor.is_none() {
            return false;
        }
        let record = Arc::make_mut(&mut entry.record);
        record.stage = SandboxStage::Ready;
        record.spans = spans;
        entry.status = Arc::new(record.status());
        for kind in [EventKind::Created, EventKind::Started] {
            self.tell(&inner, Subject::Sandbox(id.clone()), kind, id);
        }
        true
    }

    /// A sandbox has no monitor any more, and is not ready then.
    pub(crate) fn monitor_lost(&self, id: &SandboxId) {
        let mut inner = self.lock();
        let Some(entry) = inner.sandboxes.get_mut(id) else { return };
        let record = Arc::make_mut(&mut entry.record);
        record.monitor = None;
        let was_ready = record.stage == SandboxStage::Ready;
        if was_ready {
            record.stage = SandboxStage::Stopped;
        }
        entry.status = Arc::new(record.status());
        entry.monitor.send_replace(None);
        if was_ready {
            self.tell(&inner, Subject::Sandbox(id.clone()), EventKind::Stopped, id);
        }
    }

    /// Writes the newest record of a sandbox; one that is gone is not written.
    pub(crate) fn save_sandbox(&self, id: &SandboxId) -> Result<(), StoreError> {
        let Some(saving) = self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.saving)) else {
            return Ok(());
        };
        let mut written = saving.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(record) = self.sandbox(id) else { return Ok(()) };
        if written.as_ref() == Some(&record) {
            return Ok(());
        }
        // What is on the disk is not known after a failure.
        *written = None;
        self.records.sandboxes.put(&key(id.as_str()), record.as_ref())?;
        *written = Some(record);
        Ok(())
    }

    /// Takes the record of a sandbox away, then itself out of memory: whose record could not be removed is there
    /// still, and can be asked to go once more.
    pub(crate) fn forget_sandbox(&self, id: &SandboxId) -> Result<(), StoreError> {
        let saving = self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.saving));
        // Held to the end, so that nobody writes it anew in between.
        let mut written =
            saving.as_ref().map(|saving| saving.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(written) = &mut written {
            **written = None;
        }
        self.records.sandboxes.remove(&key(id.as_str()))?;
        let mut inner = self.lock();
        let gone = inner.sandboxes.remove(id);
        if let Some(gone) = gone.filter(|e| e.record.stage != SandboxStage::Making) {
            let last = Some(gone.status);
            self.tell_as(&inner, Subject::Sandbox(id.clone()), EventKind::Deleted, id, last);
        }
        Ok(())
    }

    pub(crate) fn gate(&self, id: &SandboxId) -> Option<Gate> {
        self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.gate))
    }

    /// Whether it is known that nothing of a sandbox runs and that its cgroups are gone.
    pub(crate) fn is_quiet(&self, id: &SandboxId) -> bool {
        self.lock().sandboxes.get(id).is_some_and(|e| e.quiet)
    }

    /// Notes that nothing of a stopped sandbox runs, and that its cgroups are gone.
    pub(crate) fn mark_quiet(&self, id: &SandboxId) {
        if let Some(entry) = self.lock().sandboxes.get_mut(id) {
            entry.quiet = match entry.record.stage {
                SandboxStage::Stopped | SandboxStage::Removing => true,
                SandboxStage::Making | SandboxStage::Ready => false,
            };
        }
    }

    pub(crate) fn sandbox_turn(&self, id: &SandboxId) -> Option<Turn> {
        self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.updating))
    }

    pub(crate) fn container_turn(&self, id: &ContainerId) -> Option<Turn> {
        self.lock().containers.get(id).map(|e| Arc::clone(&e.updating))
    }

    pub(crate) fn monitor(&self, id: &SandboxId) -> Option<Monitor> {
        self.lock().sandboxes.get(id).and_then(|e| e.monitor.borrow().clone())
    }

    pub(crate) fn set_monitor(&self, id: &SandboxId, monitor: Option<Monitor>) {
        if let Some(entry) = self.lock().sandboxes.get(id) {
            entry.monitor.send_replace(monitor);
        }
    }

    /// To wait for the end of the connection to a monitor.
    pub(crate) fn watch_monitor(&self, id: &SandboxId) -> Option<watch::Receiver<Option<Monitor>>> {
        self.lock().sandboxes.get(id).map(|e| e.monitor.subscribe())
    }

    pub(crate) fn settle(&self, id: &SandboxId) {
        if let Some(entry) = self.lock().sandboxes.get(id) {
            entry.settled.send_replace(true);
        }
    }

    /// Waits until what an earlier daemon left of a sandbox has been looked at.
    pub(crate) async fn settled(&self, id: &SandboxId) {
        let Some(mut settled) = self.lock().sandboxes.get(id).map(|e| e.settled.subscribe()) else {
            return;
        };
        // An error says that the sandbox is gone, and that is settled too.
        let _ = settled.wait_for(|is| *is).await;
    }

    // Containers.

    pub(crate) fn add_container(&self, record: ContainerRecord) {
        let entry = ContainerEntry {
            status: Arc::new(record.status()),
            state: watch::Sender::new(record.state.clone()),
            record: Arc::new(record),
            saving: Arc::default(),
            updating: Turn::default(),
        };
        self.lock().containers.insert(entry.record.id.clone(), entry);
    }

    pub(crate) fn container(&self, id: &ContainerId) -> Option<Arc<ContainerRecord>> {
        self.lock().containers.get(id).map(|e| Arc::clone(&e.record))
    }

    pub(crate) fn containers_of(&self, sandbox: &SandboxId) -> Vec<Arc<ContainerRecord>> {
        let inner = self.lock();
        let all = inner.containers.values().map(|e| &e.record);
        all.filter(|r| r.sandbox == *sandbox).map(Arc::clone).collect()
    }

    pub(crate) fn container_ids(&self) -> Vec<ContainerId> {
        self.lock().containers.keys().cloned().collect()
    }

    /// The container that was asked for by this name and has not ended.
    pub(crate) fn container_of(
        &self,
        sandbox: &SandboxId,
        metadata: &ContainerMetadata,
    ) -> Option<Arc<ContainerRecord>> {
        let inner = self.lock();
        let mut all = inner.containers.values().map(|e| &e.record);
        let found = all.find(|r| {
            r.sandbox == *sandbox
                && r.config.metadata == *metadata
                && r.stage == ContainerStage::Made
                && !r.is_over()
        });
        found.map(Arc::clone)
    }

    pub(crate) fn container_status(&self, id: &ContainerId) -> Option<Arc<ContainerStatus>> {
        let inner = self.lock();
        let entry = inner.containers.get(id).filter(|e| e.is_visible())?;
        Some(Arc::clone(&entry.status))
    }

    pub(crate) fn container_statuses(&self) -> Vec<Arc<ContainerStatus>> {
        let inner = self.lock();
        let mut all: Vec<_> = inner
            .containers
            .values()
            .filter(|e| e.is_visible())
            .map(|e| Arc::clone(&e.status))
            .collect();
        drop(inner);
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// Changes a container; `None` if it is gone. Its state changes by [`Table::happened`] alone.
    pub(crate) fn change_container(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut ContainerRecord),
    ) -> Option<Arc<ContainerRecord>> {
        let mut inner = self.lock();
        let entry = inner.containers.get_mut(id)?;
        let record = Arc::make_mut(&mut entry.record);
        change(record);
        entry.status = Arc::new(record.status());
        Some(Arc::clone(&entry.record))
    }

    /// A container has been made, in a sandbox that is still ready; false if either is not there any more.
    pub(crate) fn made(&self, id: &ContainerId, change: impl FnOnce(&mut ContainerRecord)) -> bool {
        let mut inner = self.lock();
        let Some(sandbox) = inner.containers.get(id).map(|e| e.record.sandbox.clone()) else {
            return false;
        };
        let is_ready = |e: &SandboxEntry| e.record.stage == SandboxStage::Ready;
        if !inner.sandboxes.get(&sandbox).is_some_and(is_ready) {
            return false;
        }
        let Some(entry) = inner.containers.get_mut(id) else { return false };
        let record = Arc::make_mut(&mut entry.record);
        change(record);
        record.stage = ContainerStage::Made;
        entry.status = Arc::new(record.status());
        self.tell(&inner, Subject::Container(id.clone()), EventKind::Created, &sandbox);
        true
    }

    /// Moves a container on and tells the subscribers; whether its record has to be written.
    pub(crate) fn happened(&self, id: &ContainerId, event: &Event) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.containers.get_mut(id) else { return false };
        let Some((next, effects)) = model::step(&entry.record.state, event) else { return false };
        let record = Arc::make_mut(&mut entry.record);
        record.state = next.clone();
        entry.status = Arc::new(record.status());
        let sandbox = record.sandbox.clone();
        let is_visible = entry.is_visible();
        entry.state.send_replace(next);
        let mut must_save = false;
        for effect in effects {
            let kind = match effect {
                Effect::Save => {
                    must_save = true;
                    continue;
                }
                Effect::PublishStarted => EventKind::Started,
                Effect::PublishStopped => EventKind::Stopped,
            };
            if is_visible {
                self.tell(&inner, Subject::Container(id.clone()), kind, &sandbox);
            }
        }
        must_save
    }

    /// To wait for a change of a container's state; an error says that the container is gone.
    pub(crate) fn watch_state(&self, id: &ContainerId) -> Option<watch::Receiver<State>> {
        self.lock().containers.get(id).map(|e| e.state.subscribe())
    }

    /// Writes the newest record of a container; one that is gone is not written.
    pub(crate) fn save_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        let Some(saving) = self.lock().containers.get(id).map(|e| Arc::clone(&e.saving)) else {
            return Ok(());
        };
        let _one_at_a_time = saving.lock().unwrap_or_else(PoisonError::into_inner);
        match self.container(id) {
            Some(record) => self.records.containers.put(&key(id.as_str()), record.as_ref()),
            None => Ok(()),
        }
    }

    /// The same for a container.
    pub(crate) fn forget_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        let saving = self.lock().containers.get(id).map(|e| Arc::clone(&e.saving));
        let _one_at_a_time =
            saving.as_ref().map(|saving| saving.lock().unwrap_or_else(PoisonError::into_inner));
        self.records.containers.remove(&key(id.as_str()))?;
        let mut inner = self.lock();
        let gone = inner.containers.remove(id);
        if let Some(gone) = gone.filter(|e| e.is_visible()) {
            let sandbox = gone.record.sandbox.clone();
            self.tell(&inner, Subject::Container(id.clone()), EventKind::Deleted, &sandbox);
        }
        Ok(())
    }

    /// Records of an earlier daemon.
    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    fn tell(&self, inner: &Inner, subject: Subject, kind: EventKind, sandbox: &SandboxId) {
        let status = inner.sandboxes.get(sandbox).map(|e| Arc::clone(&e.status));
        self.tell_as(inner, subject, kind, sandbox, status);
    }

    fn tell_as(
        &self,
        inner: &Inner,
        subject: Subject,
        kind: EventKind,
        sandbox: &SandboxId,
        status: Option<Arc<SandboxStatus>>,
    ) {
        if !self.events.has_subscribers() {
            return;
        }
        let containers = inner.statuses_in(sandbox);
        let at: Timestamp = clock::now();
        self.events.publish(PodEvent { subject, kind, at, sandbox: status, containers });
    }
}

impl ContainerEntry {
    fn is_visible(&self) -> bool {
        self.record.stage != ContainerStage::Making
    }
}

impl Inner {
    fn statuses_in(&self, sandbox: &SandboxId) -> Vec<Arc<ContainerStatus>> {
        let inside = |e: &&ContainerEntry| e.record.sandbox == *sandbox && e.is_visible();
        self.containers.values().filter(inside).map(|e| Arc::clone(&e.status)).collect()
    }
}

#[cfg(test)]
mod tests;
