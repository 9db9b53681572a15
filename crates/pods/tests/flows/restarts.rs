//! Daemons that end at any point, monitors that do, and what the next daemon makes of it.

use model::{ExitReason, SandboxState, State};
use pods::SandboxFilter;

use crate::Story;
use crate::node::{Node, PATIENCE, container, sandbox};

pub const STORIES: &[Story] = &[
    ("what_runs_goes_on_and_what_ended_meanwhile_is_known", what_ended_meanwhile_is_known),
    ("a_sandbox_that_was_half_made_is_undone", a_sandbox_that_was_half_made_is_undone),
    ("a_container_that_was_half_made_is_undone", a_container_that_was_half_made_is_undone),
    ("a_connection_that_breaks_is_made_anew", a_connection_that_breaks_is_made_anew),
    ("a_monitor_that_ends_takes_its_pod_with_it", a_monitor_that_ends_takes_its_pod_with_it),
    ("a_pod_whose_monitor_ended_meanwhile_is_not_ready", a_monitor_that_ended_meanwhile),
    ("a_stop_that_was_begun_is_carried_on", a_stop_that_was_begun_is_carried_on),
    ("one_bad_record_stops_nothing", one_bad_record_stops_nothing),
];

fn what_ended_meanwhile_is_known() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let [going_on, ending] = ["going-on", "ending"].map(|name| daemon.running(&sandbox, name));
    daemon.crash();

    // Somebody else has the monitor kill one of them while there is no daemon.
    let directory = node.state_dir().join(format!("pods/{sandbox}"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (monitor, ..) = monitor_client::find(&directory).await.expect("the monitor");
        let scope = monitor_client::api::KillScope::All;
        monitor.kill(ending.clone(), model::Signal::KILL, scope).await.expect("a kill");
    });
    drop(runtime);

    let daemon = node.unrecovered();
    assert_eq!(daemon.pods.list_sandboxes(&SandboxFilter::default()).len(), 1, "lists wait not");
    daemon
        .run(daemon.pods.container_usage(&going_on, cgroups::Detail::Brief))
        .expect("neither do numbers");
    daemon
        .run(daemon.pods.sandbox_usage(&sandbox, cgroups::Detail::Whole))
        .expect("neither do numbers");
    let waiting = {
        let (pods, id) = (daemon.pods.clone(), ending.clone());
        daemon.spawn(async move { pods.container_status(&id).await })
    };
    let recovered = daemon.run(daemon.pods.recover());
    assert_eq!((recovered.alive, recovered.lost, recovered.undone), (1, 0, 0), "{recovered:?}");
    let ended = daemon.run(waiting).expect("a task").expect("a status");
    let State::Exited { started_at, exit } = &ended.state else { unreachable!("{ended:?}") };
    assert!(started_at.0 > 0);
    assert_eq!((exit.code, exit.reason), (137, ExitReason::Error));
    let status = daemon.run(daemon.pods.container_status(&going_on)).expect("a status");
    assert!(matches!(status.state, State::Running { .. }), "{status:?}");
    assert_eq!(daemon.sandbox("web"), sandbox, "a retry over a restart is the same sandbox");
    daemon.run(daemon.pods.stop_container(&going_on, PATIENCE)).expect("a stop");
    daemon.run(daemon.pods.remove_sandbox(&sandbox)).expect("a removal");
    assert_eq!(node.leftovers(), Vec::<String>::new());
}

fn a_sandbox_that_was_half_made_is_undone() {
    let node = Node::new();
    let daemon = node.daemon();
    let held = node.hold("setup");
    let pods = daemon.pods.clone();
    let _call = daemon.spawn(async move { pods.run_sandbox(sandbox("web")).await });
    testkit::eventually(PATIENCE, || node.has_begun()).expect("a beginning");
    daemon.crash();
    drop(held);
    // Whether its record was there still, or what was left of it was owed, makes no difference.
    let daemon = node.daemon();
    let nothing = || node.leftovers().is_empty().then_some(());
    testkit::eventually(PATIENCE, nothing).unwrap_or_else(|| {
        unreachable!("left: {:?}, owed: {:?}", node.leftovers(), daemon.pods.owed())
    });
    daemon.sandbox("web");
}

fn a_container_that_was_half_made_is_undone() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let before = node.leftovers();
    let held = node.hold("create");
    let (pods, id) = (daemon.pods.clone(), sandbox.clone());
    let config = container("main", &["/run"]);
    let _call = daemon.spawn(async move { pods.create_container(&id, config).await });
    let begun = || (node.leftovers().len() > before.len() + 1).then_some(());
    testkit::eventually(PATIENCE, begun).expect("a beginning");
    daemon.crash();
    drop(held);
    let daemon = node.daemon();
    let undone = || (node.leftovers() == before).then_some(());
    testkit::eventually(PATIENCE, undone).expect("nothing of it is left");
    daemon.running(&sandbox, "main");
}

fn kill_monitor(node: &Node, sandbox: &model::SandboxId) {
    let directory = node.state_dir().join(format!("pods/{sandbox}"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let identity = runtime.block_on(async {
        let (_, _, identity) = monitor_client::find(&directory).await.expect("the monitor");
        identity
    });
    identity.kill().expect("a kill");
}

fn a_monitor_that_ends_takes_its_pod_with_it() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.running(&sandbox, "main");
    let mut events = daemon.pods.events();
    kill_monitor(&node, &sandbox);
    for _ in 0..2 {
        let event = daemon.run(events.next()).expect("an event").expect("in time");
        assert_eq!(event.kind, pods::EventKind::Stopped);
    }
    let (status, containers) = daemon.run(daemon.pods.sandbox_status(&sandbox)).expect("a status");
    assert_eq!((status.state, status.monitor_pid), (SandboxState::NotReady, None));
    let State::Exited { exit, .. } = &containers[0].state else { unreachable!("{containers:?}") };
    assert_eq!(exit.reason, ExitReason::ContainerStatusUnknown);
    assert!(!exit.message.is_empty());
    daemon.run(daemon.pods.stop_container(&id, PATIENCE)).expect("a stop");
    daemon.run(daemon.pods.remove_sandbox(&sandbox)).expect("a removal");
    assert_eq!(node.leftovers(), Vec::<String>::new());
}

fn a_monitor_that_ended_meanwhile() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.running(&sandbox, "main");
    daemon.crash();
    kill_monitor(&node, &sandbox);
    let daemon = node.unrecovered();
    let recovered = daemon.run(daemon.pods.recover());
    assert_eq!((recovered.alive, recovered.lost), (0, 1), "{recovered:?}");
    let status = daemon.run(daemon.pods.container_status(&id)).expect("a status");
    assert!(matches!(status.state, State::Exited { .. }));
    let other = daemon.sandbox("web");
    assert_ne!(other, sandbox, "a pod that is not ready is not what was asked for");
    for id in [sandbox, other] {
        daemon.run(daemon.pods.remove_sandbox(&id)).expect("a removal");
    }
    assert_eq!(node.leftovers(), Vec::<String>::new());
}

fn a_stop_that_was_begun_is_carried_on() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    daemon.running(&sandbox, "main");
    let pods = daemon.pods.clone();
    let id = sandbox.clone();
    let _cut = daemon.spawn(async move { pods.remove_sandbox(&id).await });
    daemon.crash();
    let daemon = node.daemon();
    daemon.run(daemon.pods.remove_sandbox(&sandbox)).expect("a removal");
    assert_eq!(node.leftovers(), Vec::<String>::new());
}

fn one_bad_record_stops_nothing() {
    let node = Node::new();
    let daemon = node.daemon();
    let [good, bad] = ["good", "bad"].map(|name| daemon.sandbox(name));
    daemon.crash();
    let record = node.state_dir().join(format!("records/sandboxes/{bad}"));
    std::fs::write(record, "torn").expect("a file");
    let daemon = node.unrecovered();
    let recovered = daemon.run(daemon.pods.recover());
    assert_eq!((recovered.alive, recovered.quarantined.len()), (1, 1), "{recovered:?}");
    assert!(daemon.run(daemon.pods.sandbox_status(&good)).is_ok());
    assert!(daemon.run(daemon.pods.sandbox_status(&bad)).is_err());
    let directory = node.state_dir().join(format!("pods/{bad}"));
    assert!(!directory.exists(), "a pod without a record is ended");
    daemon.run(daemon.pods.remove_sandbox(&good)).expect("a removal");
    assert_eq!(node.leftovers(), Vec::<String>::new());
}

fn a_connection_that_breaks_is_made_anew() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.running(&sandbox, "main");
    // Whoever asks the player to, has it close the connections of all others.
    let directory = node.state_dir().join(format!("pods/{sandbox}"));
    std::fs::write(directory.join("hang-up"), "").expect("a file");
    let _ = daemon.run(daemon.pods.reopen_log(&id));
    let stopped = daemon.run(async {
        loop {
            match daemon.pods.stop_container(&id, PATIENCE).await {
                Ok(()) => return daemon.pods.container_status(&id).await,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    let status = stopped.expect("a status");
    let State::Exited { exit, .. } = &status.state else { unreachable!("{status:?}") };
    assert_eq!((exit.code, exit.reason), (143, ExitReason::Error), "it was no end of the pod");
    let (status, _) = daemon.run(daemon.pods.sandbox_status(&sandbox)).expect("a status");
    assert_eq!(status.state, SandboxState::Ready);
}
