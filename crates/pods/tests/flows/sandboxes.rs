//! Sandboxes.

use model::{Class, Classified as _, SandboxState};
use pods::{ContainerFilter, EventKind, PodEvent, SandboxFilter, Subject};

use crate::Story;
use crate::node::{Node, PATIENCE, container, sandbox};

pub const STORIES: &[Story] = &[
    ("a_pod_lives_and_nothing_is_left_of_it", a_pod_lives_and_nothing_is_left_of_it),
    ("the_same_sandbox_asked_for_twice_is_one", the_same_sandbox_asked_for_twice_is_one),
    ("a_caller_that_gives_up_cancels_nothing", a_caller_that_gives_up_cancels_nothing),
    ("stop_and_remove_can_be_repeated", stop_and_remove_can_be_repeated),
    ("what_contradicts_itself_is_refused", what_contradicts_itself_is_refused),
    ("a_pod_that_cannot_be_made_leaves_nothing", a_pod_that_cannot_be_made_leaves_nothing),
];

fn a_pod_lives_and_nothing_is_left_of_it() {
    let node = Node::new();
    let daemon = node.daemon();
    let pods = &daemon.pods;
    let mut events = pods.events();
    let id = daemon.sandbox("web");
    let (status, containers) = daemon.run(pods.sandbox_status(&id)).expect("a status");
    assert_eq!((status.state, containers.len()), (SandboxState::Ready, 0));
    assert_eq!(status.config.labels["story"], "web");
    assert!(status.monitor_pid.is_some() && !status.spans.is_empty());
    let container = daemon.running(&id, "main");
    assert_eq!(pods.list_sandboxes(&SandboxFilter::default()).len(), 1);
    assert_eq!(pods.list_containers(&ContainerFilter::default())[0].id, container);
    daemon.run(pods.stop_sandbox(&id)).expect("a stop");
    let (status, containers) = daemon.run(pods.sandbox_status(&id)).expect("a status");
    assert_eq!((status.state, status.monitor_pid), (SandboxState::NotReady, None));
    assert!(matches!(containers[0].state, model::State::Exited { .. }));
    daemon.run(pods.remove_sandbox(&id)).expect("a removal");
    assert_eq!(node.leftovers(), Vec::<String>::new());
    assert!(pods.list_containers(&ContainerFilter::default()).is_empty());

    let is_sandbox = |e: &PodEvent| matches!(e.subject, Subject::Sandbox(_));
    let mut told = Vec::new();
    while told.len() < 8 {
        let event = daemon.run(events.next()).expect("an event").expect("in time");
        told.push((is_sandbox(&event), event.kind, event.containers.len()));
    }
    use EventKind::{Created, Deleted, Started, Stopped};
    let of = |whose| told.iter().filter(move |t| t.0 == whose).map(|t| t.1).collect::<Vec<_>>();
    assert_eq!(of(true), [Created, Started, Stopped, Deleted], "of the sandbox");
    assert_eq!(of(false), [Created, Started, Stopped, Deleted], "of the container");
    assert_eq!(told[2], (false, Created, 1), "with what there was at that time");
}

fn the_same_sandbox_asked_for_twice_is_one() {
    let node = Node::new();
    let daemon = node.daemon();
    let held = node.hold("setup");
    let ask = || {
        let pods = daemon.pods.clone();
        daemon.spawn(async move { pods.run_sandbox(sandbox("web")).await })
    };
    let calls = [ask(), ask(), ask()];
    testkit::eventually(PATIENCE, || node.has_begun()).expect("an intention on record");
    assert!(daemon.pods.list_sandboxes(&SandboxFilter::default()).is_empty(), "it is not ready");
    drop(held);
    let ids = calls.map(|call| daemon.run(call).expect("a task").expect("a sandbox"));
    assert!(ids.iter().all(|id| *id == ids[0]));
    assert_eq!(daemon.sandbox("web"), ids[0], "and once more, when it is ready");
    let mut next = sandbox("web");
    next.metadata.attempt = 1;
    assert_ne!(daemon.run(daemon.pods.run_sandbox(next)).expect("a sandbox"), ids[0]);
}

fn a_caller_that_gives_up_cancels_nothing() {
    let node = Node::new();
    let daemon = node.daemon();
    let held = node.hold("setup");
    let pods = daemon.pods.clone();
    let call = daemon.spawn(async move { pods.run_sandbox(sandbox("web")).await });
    testkit::eventually(PATIENCE, || node.has_begun()).expect("a beginning");
    call.abort();
    drop(held);
    let id = daemon.sandbox("web");
    let all = daemon.pods.list_sandboxes(&SandboxFilter::default());
    assert_eq!(all.iter().map(|s| &s.id).collect::<Vec<_>>(), [&id]);
}

fn stop_and_remove_can_be_repeated() {
    let node = Node::new();
    let daemon = node.daemon();
    let id = daemon.sandbox("web");
    let container = daemon.running(&id, "main");
    for _ in 0..3 {
        daemon.run(daemon.pods.stop_sandbox(&id)).expect("a stop");
        daemon.run(daemon.pods.stop_container(&container, PATIENCE)).expect("a stop");
    }
    for _ in 0..3 {
        daemon.run(daemon.pods.remove_container(&container)).expect("a removal");
        daemon.run(daemon.pods.remove_sandbox(&id)).expect("a removal");
    }
    daemon.run(daemon.pods.stop_sandbox(&id)).expect("a stop of what is gone");
    assert_eq!(node.leftovers(), Vec::<String>::new());
    let again = daemon.sandbox("web");
    assert_ne!(again, id, "the name is free");
}

fn what_contradicts_itself_is_refused() {
    let node = Node::new();
    let daemon = node.daemon();
    let mut config = sandbox("web");
    config.sysctls.insert("vm.swappiness".to_owned(), "1".to_owned());
    let error = daemon.run(daemon.pods.run_sandbox(config)).expect_err("a refusal");
    assert_eq!(error.class(), Class::InvalidArgument);
    let mut config = sandbox("web");
    config.handler = model::HandlerName::parse("none-such").expect("a name");
    let error = daemon.run(daemon.pods.run_sandbox(config)).expect_err("a refusal");
    assert_eq!(error.class(), Class::InvalidArgument);
    let id = daemon.sandbox("web");
    daemon.run(daemon.pods.stop_sandbox(&id)).expect("a stop");
    let create = daemon.pods.create_container(&id, container("main", &["/run"]));
    let error = daemon.run(create).expect_err("a refusal");
    assert_eq!(error.class(), Class::FailedPrecondition);
}

fn a_pod_that_cannot_be_made_leaves_nothing() {
    let node = Node::new();
    let daemon = node.daemon();
    let mut config = sandbox("web");
    // A file is where a directory of logs would have to be.
    config.log_directory = Some("/proc/version/logs".into());
    let error = daemon.run(daemon.pods.run_sandbox(config)).expect_err("a failure");
    assert!(error.to_string().contains("stories/web: directories"), "{error}");
    assert_eq!(node.leftovers(), Vec::<String>::new());
    assert!(daemon.pods.owed().is_empty());
    daemon.sandbox("web");
}
