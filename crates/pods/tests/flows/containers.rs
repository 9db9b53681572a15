//! Containers.

use std::time::{Duration, Instant};

use model::{Class, Classified as _, ExitReason, ImageSpec, State};
use pods::{EventKind, Subject};

use crate::Story;
use crate::node::{Node, PATIENCE, container};

pub const STORIES: &[Story] = &[
    (
        "a_container_is_what_its_image_and_request_say",
        a_container_is_what_its_image_and_request_say,
    ),
    ("the_same_container_asked_for_twice_is_one", the_same_container_asked_for_twice_is_one),
    ("an_end_that_is_told_before_the_start_comes_after_it", an_end_before_the_start),
    ("a_program_that_is_not_there_is_a_start_error", a_program_that_is_not_there),
    ("a_container_that_cannot_be_created_leaves_nothing", cannot_be_created),
    ("a_second_stop_with_less_patience_is_not_held_up", a_second_stop_with_less_patience),
    ("a_sandbox_that_is_stopped_meanwhile_takes_no_container", stopped_meanwhile),
    ("limits_are_remembered", limits_are_remembered),
];

fn a_container_is_what_its_image_and_request_say() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.created(&sandbox, "main", &["/run"]);
    let status = daemon.run(daemon.pods.container_status(&id)).expect("a status");
    assert_eq!((status.user.uid, status.user.gid), (1000, 1000), "the image's user");
    assert_eq!(status.state, State::Created);
    assert_eq!(status.image_ref, status.image_id.to_string(), "it has no name by digest");
    let bundle = node.state_dir().join(format!("pods/{sandbox}/containers/{id}"));
    let spec = std::fs::read_to_string(bundle.join("config.json")).expect("a spec");
    let spec: serde_json::Value = serde_json::from_str(&spec).expect("a spec");
    let mounts = spec["mounts"].as_array().expect("mounts");
    assert!(mounts.iter().any(|m| m["destination"] == "/data"), "the image's volume");
    assert!(!bundle.join("seccomp.bpf").exists(), "unconfined by default");
    let mut strict = container("strict", &["/run"]);
    strict.security.seccomp = model::Profile::RuntimeDefault;
    strict.image = ImageSpec { image: status.image_id.to_string(), ..ImageSpec::default() };
    let id = daemon.run(daemon.pods.create_container(&sandbox, strict)).expect("a container");
    let bundle = node.state_dir().join(format!("pods/{sandbox}/containers/{id}"));
    assert!(bundle.join("seccomp.bpf").exists());
}

fn the_same_container_asked_for_twice_is_one() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let held = node.hold("create");
    let calls = [0, 1].map(|_| {
        let (pods, sandbox) = (daemon.pods.clone(), sandbox.clone());
        let config = container("main", &["/run"]);
        daemon.spawn(async move { pods.create_container(&sandbox, config).await })
    });
    drop(held);
    let [one, other] = calls.map(|call| daemon.run(call).expect("a task").expect("a container"));
    assert_eq!(one, other);
    daemon.run(daemon.pods.start_container(&one)).expect("a start");
    daemon.run(daemon.pods.start_container(&one)).expect("a start that was done already");
    assert_eq!(daemon.created(&sandbox, "main", &["/run"]), one);
    daemon.run(daemon.pods.stop_container(&one, PATIENCE)).expect("a stop");
    let next = daemon.created(&sandbox, "main", &["/run"]);
    assert_ne!(next, one, "one that has ended is not asked for");
    let error = daemon.run(daemon.pods.start_container(&one)).expect_err("a refusal");
    assert_eq!(error.class(), Class::FailedPrecondition);
}

fn an_end_before_the_start() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.created(&sandbox, "main", &["/exit", "7"]);
    let mut events = daemon.pods.events();
    daemon.run(daemon.pods.start_container(&id)).expect("a start");
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let event = daemon.run(events.next()).expect("an event").expect("in time");
        assert_eq!(event.subject, Subject::Container(id.clone()));
        kinds.push(event.kind);
    }
    assert_eq!(kinds, [EventKind::Started, EventKind::Stopped]);
    let status = daemon.run(daemon.pods.container_status(&id)).expect("a status");
    let State::Exited { started_at, exit } = &status.state else { unreachable!("{status:?}") };
    assert!(started_at.0 > 0 && exit.finished_at >= *started_at);
    assert_eq!(exit.code, 7);
}

fn a_program_that_is_not_there() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.created(&sandbox, "main", &["/missing"]);
    let error = daemon.run(daemon.pods.start_container(&id)).expect_err("a failure");
    assert!(error.to_string().contains("stories/web/main: start"), "{error}");
    let status = daemon.run(daemon.pods.container_status(&id)).expect("a status");
    let State::Exited { started_at, exit } = &status.state else { unreachable!("{status:?}") };
    assert_eq!((started_at.0, exit.code, exit.reason), (0, 128, ExitReason::StartError));
}

fn cannot_be_created() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let before = node.leftovers();
    let mut elsewhere = container("main", &["/run"]);
    elsewhere.image.image = "example.com/elsewhere".to_owned();
    let mut missing = container("main", &["/run"]);
    missing.mounts.push(model::Mount {
        container_path: "/x".into(),
        source: model::MountSource::HostPath(node.state_dir().join("not-there")),
        access: model::Access::default(),
        propagation: model::Propagation::default(),
        selinux_relabel: false,
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
        options: Vec::new(),
    });
    for (config, class, phase) in [
        (container("main", &["/refused"]), Class::InvalidArgument, "create"),
        (elsewhere, Class::NotFound, "image"),
        (missing, Class::FailedPrecondition, "host paths"),
    ] {
        let create = daemon.pods.create_container(&sandbox, config);
        let error = daemon.run(create).expect_err("a failure");
        assert_eq!(error.class(), class, "{error}");
        assert!(error.to_string().ends_with(phase), "{error}");
        assert_eq!(node.leftovers(), before);
        assert!(daemon.pods.list_containers(&Default::default()).is_empty());
    }
    daemon.running(&sandbox, "main");
}

fn a_second_stop_with_less_patience() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.created(&sandbox, "main", &["/stubborn"]);
    daemon.run(daemon.pods.start_container(&id)).expect("a start");
    let patient = {
        let (pods, id) = (daemon.pods.clone(), id.clone());
        daemon.spawn(async move { pods.stop_container(&id, Duration::from_secs(3600)).await })
    };
    let begun = Instant::now();
    daemon.run(daemon.pods.stop_container(&id, Duration::ZERO)).expect("a stop");
    daemon.run(patient).expect("a task").expect("a stop");
    assert!(begun.elapsed() < PATIENCE);
    let status = daemon.run(daemon.pods.container_status(&id)).expect("a status");
    let State::Exited { exit, .. } = &status.state else { unreachable!("{status:?}") };
    assert_eq!(exit.code, 137);
}

fn stopped_meanwhile() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let held = node.hold("create");
    let create = {
        let (pods, sandbox) = (daemon.pods.clone(), sandbox.clone());
        let config = container("main", &["/run"]);
        daemon.spawn(async move { pods.create_container(&sandbox, config).await })
    };
    let containers = node.state_dir().join(format!("pods/{sandbox}/containers"));
    let bundled = || {
        std::fs::read_dir(&containers)
            .ok()
            .filter(|_| std::fs::read_dir(&containers).is_ok_and(|d| d.count() > 0))
    };
    testkit::eventually(PATIENCE, bundled).expect("a bundle");
    daemon.run(daemon.pods.remove_sandbox(&sandbox)).expect("a removal");
    drop(held);
    daemon.run(create).expect("a task").expect_err("a failure");
    assert_eq!(node.leftovers(), Vec::<String>::new());
}

fn limits_are_remembered() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.created(&sandbox, "main", &["/run"]);
    let limits = |n| model::Resources { cpu_shares: Some(n), ..Default::default() };
    node.remove_cgroup(&sandbox, &id);
    daemon.run(daemon.pods.update_container_resources(&id, limits(300))).expect("an update");
    let status = daemon.run(daemon.pods.container_status(&id)).expect("a status");
    assert_eq!(status.resources.cpu_shares, Some(300));
    let bundle = node.state_dir().join(format!("pods/{sandbox}/containers/{id}"));
    let spec = std::fs::read_to_string(bundle.join("config.json")).expect("a spec");
    let spec: serde_json::Value = serde_json::from_str(&spec).expect("a spec");
    assert_eq!(spec["linux"]["resources"]["cpu"]["shares"], 300, "for its start to come");
    let none = model::Resources::default();
    let update = daemon.pods.update_sandbox_resources(&sandbox, none, limits(900));
    daemon.run(update).expect("an update");
}
