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
fn what_is_kept_of_a_status_is_not_told_of_a_later_one() {
    let place = Place::new();
    let sandbox = sandbox_record(1, SandboxStage::Ready);
    let container = container_record(2, &sandbox.id, State::Running { started_at: Timestamp(3) });
    let (sandbox_id, id) = (sandbox.id.clone(), container.id.clone());
    place.table.add_sandbox(sandbox, true);
    place.table.add_container(container);
    let kept = |kept: &crate::status::Kept, made: &'static str| kept.get_or(|| made.into());
    let of_container = |made| kept(&place.table.container_statuses()[0].listed, made);
    let of_sandbox = |made| kept(&place.table.sandbox_statuses()[0].listed, made);
    assert_eq!((of_container("runs"), of_sandbox("ready")), ("runs".into(), "ready".into()));
    assert_eq!((of_container("x"), of_sandbox("x")), ("runs".into(), "ready".into()), "made once");
    assert!(place.table.happened(&id, &exit()));
    assert_eq!(of_container("has ended"), "has ended");
    place.table.change_container(&id, |_| {});
    assert_eq!(of_container("has changed"), "has changed");
    place.table.change_sandbox(&sandbox_id, |r| r.stage = SandboxStage::Stopped);
    assert_eq!(of_sandbox("stopped"), "stopped");
    let copy = (*place.table.sandbox_statuses()[0]).clone();
    assert_eq!(kept(&copy.listed, "a copy"), "a copy");
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
    // What has not changed is not written again.
    let file = place.table.records().sandboxes.path().join(id.as_str());
    std::fs::remove_file(&file).unwrap();
    place.table.change_sandbox(&id, |_| {});
    place.table.save_sandbox(&id).unwrap();
    assert!(!file.exists());
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
    assert_eq!(place.table.unsettled_ids(), std::slice::from_ref(&late_id));
    place.table.settled(&settled_id).await;
    place.table.settled(&SandboxId::from_random([9; 32])).await;
    let soon = std::time::Duration::from_millis(20);
    assert!(tokio::time::timeout(soon, place.table.settled(&late_id)).await.is_err());
    tokio::join!(place.table.settled(&late_id), async { place.table.settle(&late_id) });
}

#[test]
fn a_sandbox_that_is_ready_goes_before_what_is_left_of_attempts_to_make_it() {
    let place = Place::new();
    let [left, mut ready] =
        [sandbox_record(1, SandboxStage::Making), sandbox_record(2, SandboxStage::Ready)];
    ready.config = Arc::clone(&left.config);
    for [first, second] in [[&left, &ready], [&ready, &left]] {
        place.table.add_sandbox(first.clone(), true);
        place.table.add_sandbox(second.clone(), true);
        assert_eq!(place.table.sandbox_of(&left.config.metadata).unwrap().id, ready.id);
    }
}

#[test]
fn a_sandbox_whose_monitor_ended_while_it_was_made_is_not_ready() {
    let place = Place::new();
    let mut record = sandbox_record(1, SandboxStage::Making);
    record.monitor = Some(monitor_client::Identity { pid: 7, start_time: 1 });
    let id = record.id.clone();
    place.table.add_sandbox(record, true);
    place.table.monitor_lost(&id);
    assert!(!place.table.sandbox_ready(&id, Vec::new()));
    assert_eq!(place.table.sandbox(&id).unwrap().stage, SandboxStage::Making);
}

#[tokio::test]
async fn a_sandbox_without_its_monitor_is_stopped_and_that_is_told_once() {
    let place = Place::new();
    let mut record = sandbox_record(1, SandboxStage::Making);
    record.monitor = Some(monitor_client::Identity { pid: 7, start_time: 1 });
    let id = record.id.clone();
    place.table.add_sandbox(record, true);
    let mut events = place.table.events().subscribe();
    assert!(place.table.sandbox_ready(&id, Vec::new()));
    place.table.monitor_lost(&id);
    place.table.monitor_lost(&id);
    place.table.forget_sandbox(&id).unwrap();
    use EventKind::{Created, Deleted, Started, Stopped};
    for kind in [Created, Started, Stopped, Deleted] {
        assert_eq!(events.next().await.unwrap().unwrap().kind, kind);
    }
}
