//! All sandboxes and containers in memory, and their records behind them.
//!
//! Always: the lock is held for copying and never while anything is waited for or written; an event is
//! told under the lock, so that those of one object keep their order; a record that is written is the
//! newest there is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::{
    ContainerId, ContainerMetadata, Effect, Event, SandboxId, SandboxMetadata, State, Timestamp,
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

#[derive(Debug)]
struct SandboxEntry {
    record: Arc<SandboxRecord>,
    status: Arc<SandboxStatus>,
    /// The connection; those who wait for its end watch it.
    monitor: watch::Sender<Option<Monitor>>,
    /// False until what an earlier daemon left of it has been looked at.
    settled: watch::Sender<bool>,
    gate: Gate,
    saving: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct ContainerEntry {
    record: Arc<ContainerRecord>,
    status: Arc<ContainerStatus>,
    state: watch::Sender<State>,
    saving: Arc<Mutex<()>>,
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
            saving: Arc::default(),
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

    /// The sandbox that was asked for by this name and has not been stopped.
    pub(crate) fn sandbox_of(&self, metadata: &SandboxMetadata) -> Option<Arc<SandboxRecord>> {
        let inner = self.lock();
        let mut all = inner.sandboxes.values().map(|e| &e.record);
        let found = all.find(|r| {
            r.config.metadata == *metadata
                && matches!(r.stage, SandboxStage::Ready | SandboxStage::Making)
        });
        found.map(Arc::clone)
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

    /// Writes the newest record of a sandbox; one that is gone is not written.
    pub(crate) fn save_sandbox(&self, id: &SandboxId) -> Result<(), StoreError> {
        let Some(saving) = self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.saving)) else {
            return Ok(());
        };
        let _one_at_a_time = saving.lock().unwrap_or_else(PoisonError::into_inner);
        match self.sandbox(id) {
            Some(record) => self.records.sandboxes.put(&key(id.as_str()), record.as_ref()),
            None => Ok(()),
        }
    }

    /// Takes a sandbox out of memory, then its record away.
    pub(crate) fn forget_sandbox(&self, id: &SandboxId) -> Result<(), StoreError> {
        let entry = {
            let mut inner = self.lock();
            let entry = inner.sandboxes.remove(id);
            if let Some(gone) = entry.as_ref().filter(|e| e.record.stage != SandboxStage::Making) {
                let last = Some(Arc::clone(&gone.status));
                self.tell_as(&inner, Subject::Sandbox(id.clone()), EventKind::Deleted, id, last);
            }
            entry
        };
        let _one_at_a_time =
            entry.as_ref().map(|e| e.saving.lock().unwrap_or_else(PoisonError::into_inner));
        self.records.sandboxes.remove(&key(id.as_str()))
    }

    pub(crate) fn gate(&self, id: &SandboxId) -> Option<Gate> {
        self.lock().sandboxes.get(id).map(|e| Arc::clone(&e.gate))
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

    /// Takes a container out of memory, then its record away.
    pub(crate) fn forget_container(&self, id: &ContainerId) -> Result<(), StoreError> {
        let entry = {
            let mut inner = self.lock();
            let entry = inner.containers.remove(id);
            if let Some(gone) = entry.as_ref().filter(|e| e.is_visible()) {
                let sandbox = gone.record.sandbox.clone();
                self.tell(&inner, Subject::Container(id.clone()), EventKind::Deleted, &sandbox);
            }
            entry
        };
        let _one_at_a_time =
            entry.as_ref().map(|e| e.saving.lock().unwrap_or_else(PoisonError::into_inner));
        self.records.containers.remove(&key(id.as_str()))
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
mod tests {
    use model::{Exit, ExitReason};
    use store::Durability;

    use super::*;
    use crate::records::tests::{container_record, sandbox_record};

    struct Place {
        table: Table,
        dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let open = |name: &str| Store::open(&dir.path().join(name), Durability::Boot).unwrap();
            let records = Records { sandboxes: open("s"), containers: open("c") };
            Self { table: Table::new(records, crate::events::EVENTS_AHEAD), dir }
        }

        fn records(&self, name: &str) -> usize {
            std::fs::read_dir(self.dir.path().join(name)).unwrap().count()
        }
    }

    fn exit() -> Event {
        let (finished_at, message) = (Timestamp(9), String::new());
        Event::Exited(Exit { code: 0, finished_at, reason: ExitReason::Completed, message })
    }

    #[test]
    fn what_is_being_made_is_seen_by_nobody_and_holds_its_name() {
        let place = Place::new();
        let record = sandbox_record(1, SandboxStage::Making);
        let (id, metadata) = (record.id.clone(), record.config.metadata.clone());
        place.table.add_sandbox(record, true);
        assert!(place.table.sandbox_statuses().is_empty());
        assert!(place.table.pod_status(&id).is_none());
        assert!(place.table.sandbox_of(&metadata).is_some());
        place.table.change_sandbox(&id, |r| r.stage = SandboxStage::Ready);
        assert_eq!(place.table.sandbox_statuses().len(), 1);
        place.table.change_sandbox(&id, |r| r.stage = SandboxStage::Stopped);
        assert!(place.table.sandbox_of(&metadata).is_none(), "a stopped one holds no name");
        assert_eq!(place.table.sandbox_statuses().len(), 1);
    }

    #[test]
    fn a_container_is_made_only_in_a_sandbox_that_is_ready() {
        let place = Place::new();
        let sandbox = sandbox_record(1, SandboxStage::Ready);
        let mut container = container_record(2, &sandbox.id, State::Created);
        container.stage = ContainerStage::Making;
        place.table.add_sandbox(sandbox.clone(), true);
        place.table.add_container(container.clone());
        assert!(place.table.container_status(&container.id).is_none());
        place.table.change_sandbox(&sandbox.id, |r| r.stage = SandboxStage::Stopped);
        assert!(!place.table.made(&container.id, |_| {}));
        place.table.change_sandbox(&sandbox.id, |r| r.stage = SandboxStage::Ready);
        assert!(place.table.made(&container.id, |r| r.pid = Some(42)));
        assert_eq!(place.table.container_status(&container.id).unwrap().pid, Some(42));
    }

    #[test]
    fn records_are_the_newest_and_nothing_that_is_gone_comes_back() {
        let place = Place::new();
        let sandbox = sandbox_record(1, SandboxStage::Ready);
        let id = sandbox.id.clone();
        place.table.add_sandbox(sandbox, true);
        place.table.save_sandbox(&id).unwrap();
        place.table.change_sandbox(&id, |r| r.stage = SandboxStage::Stopped);
        place.table.save_sandbox(&id).unwrap();
        let read: Option<SandboxRecord> =
            place.table.records().sandboxes.get(&key(id.as_str())).unwrap();
        assert_eq!(read.unwrap().stage, SandboxStage::Stopped);
        place.table.forget_sandbox(&id).unwrap();
        place.table.save_sandbox(&id).unwrap();
        assert_eq!(place.records("s"), 0);
        place.table.forget_sandbox(&id).unwrap();
    }

    #[tokio::test]
    async fn events_of_a_container_come_in_order_with_the_pod_as_it_was() {
        let place = Place::new();
        let sandbox = sandbox_record(1, SandboxStage::Ready);
        let mut container = container_record(2, &sandbox.id, State::Created);
        container.stage = ContainerStage::Making;
        let id = container.id.clone();
        place.table.add_sandbox(sandbox.clone(), true);
        let mut events = place.table.events().subscribe();
        place.table.add_container(container);
        assert!(place.table.made(&id, |_| {}));
        let waiting = place.table.watch_state(&id).unwrap();
        for event in [Event::Started(Timestamp(5)), exit()] {
            assert!(place.table.happened(&id, &event), "it has to be written");
            assert!(!place.table.happened(&id, &event), "nothing happens twice");
        }
        assert!(matches!(*waiting.borrow(), State::Exited { .. }));
        place.table.forget_container(&id).unwrap();
        place.table.forget_sandbox(&sandbox.id).unwrap();
        use EventKind::{Created, Deleted, Started, Stopped};
        for (kind, containers) in [(Created, 1), (Started, 1), (Stopped, 1), (Deleted, 0)] {
            let event = events.next().await.unwrap().unwrap();
            assert_eq!((event.kind, event.containers.len()), (kind, containers));
            assert_eq!(event.subject, Subject::Container(id.clone()));
            if kind == Started {
                assert!(matches!(event.containers[0].state, State::Running { .. }));
            }
        }
        let event = events.next().await.unwrap().unwrap();
        assert_eq!((event.kind, event.subject.clone()), (Deleted, Subject::Sandbox(sandbox.id)));
        assert!(event.sandbox.is_some(), "with what it was last");
    }

    #[tokio::test]
    async fn whoever_waits_for_a_pod_waits_for_that_pod_alone() {
        let place = Place::new();
        let [late, settled] =
            [(1, false), (2, true)].map(|(n, is)| (sandbox_record(n, SandboxStage::Ready), is));
        let (late_id, settled_id) = (late.0.id.clone(), settled.0.id.clone());
        place.table.add_sandbox(late.0, late.1);
        place.table.add_sandbox(settled.0, settled.1);
        // What was begun since is not taken up: that would undo it while it is made.
        assert_eq!(place.table.unsettled_ids(), [late_id.clone()]);
        place.table.settled(&settled_id).await;
        place.table.settled(&SandboxId::from_random([9; 32])).await;
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, place.table.settled(&late_id)).await.is_err());
        tokio::join!(place.table.settled(&late_id), async { place.table.settle(&late_id) });
    }
}
