//! Records that the first version wrote are read by this one. The files are never written again.

use std::path::Path;

use model::{SandboxState, State};

use crate::owed::Debt;
use crate::records::{ContainerRecord, ContainerStage, PodNetwork, SandboxRecord, SandboxStage};
use crate::undo::Undo;

fn golden<R: store::Record>(name: &str) -> R {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    store::read_record(&path).unwrap().expect(name)
}

#[test]
fn a_sandbox_of_version_1_is_read() {
    let record: SandboxRecord = golden("sandbox-1");
    assert_eq!(record.stage, SandboxStage::Ready);
    assert_eq!(record.status().state, SandboxState::Ready);
    assert_eq!(record.config.metadata.name, "pod");
    assert!(record.monitor.is_some_and(|m| m.pid > 0 && m.start_time > 0));
    let PodNetwork::Attached { ips, result, .. } = &record.network else { panic!("{record:?}") };
    assert_eq!(ips.len(), 2);
    assert!(result.is_array());
    assert!(!record.cgroup.is_own, "its caller named the parent");
    assert!(!record.spans.is_empty());
}

#[test]
fn a_container_of_version_1_is_read() {
    let record: ContainerRecord = golden("container-1");
    assert_eq!(record.stage, ContainerStage::Made);
    assert!(matches!(record.state, State::Running { .. }));
    assert_eq!(record.config.metadata.name, "main");
    assert!(record.log_path.is_some() && record.pid.is_some());
    assert!(!record.mounts.is_empty() || record.config.mounts.is_empty());
    assert_eq!(record.stop_signal, model::Signal::TERM);
}

#[test]
fn a_debt_of_version_1_is_read_with_each_kind_of_undo() {
    let debt: Debt = golden("owed-1");
    let names: Vec<_> = debt.undos.iter().map(Undo::name).collect();
    let all = [
        "remove-from-monitor",
        "release-rootfs",
        "end-monitor",
        "remove-cgroup",
        "detach",
        "remove-netns",
        "remove-directory",
        "forget-container",
        "forget-sandbox",
    ];
    assert_eq!(names, all);
}
