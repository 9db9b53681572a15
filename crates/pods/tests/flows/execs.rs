//! ExecSync.

use std::time::Duration;

use model::{Class, Classified as _};
use pods::{ExecResult, PodsError};

use crate::Story;
use crate::node::{Daemon, Node};

pub const STORIES: &[Story] = &[
    ("an_exec_gives_its_output_and_code_back", an_exec_gives_its_output_and_code_back),
    ("an_exec_past_its_time_is_killed", an_exec_past_its_time_is_killed),
    ("a_pipe_that_is_kept_open_does_not_keep_the_call", a_pipe_that_is_kept_open),
    ("only_what_runs_can_be_entered", only_what_runs_can_be_entered),
];

fn exec(
    daemon: &Daemon,
    id: &model::ContainerId,
    command: &[&str],
    timeout: Duration,
) -> Result<ExecResult, PodsError> {
    let command = command.iter().map(ToString::to_string).collect();
    daemon.run(daemon.pods.exec_sync(id, command, timeout))
}

fn an_exec_gives_its_output_and_code_back() {
    let node = Node::new();
    let daemon = node.daemon();
    let id = daemon.running(&daemon.sandbox("web"), "main");
    let said = exec(&daemon, &id, &["say", "out", "err"], Duration::ZERO).expect("an answer");
    assert_eq!((said.stdout.as_slice(), said.stderr.as_slice()), (&b"out"[..], &b"err"[..]));
    assert_eq!((said.exit_code, said.was_cut), (0, false));
    let failed = exec(&daemon, &id, &["fail"], Duration::from_secs(60)).expect("an answer");
    assert_eq!(failed.exit_code, 3);
    let error = exec(&daemon, &id, &[], Duration::ZERO).expect_err("a refusal");
    assert_eq!(error.class(), Class::InvalidArgument);
}

fn an_exec_past_its_time_is_killed() {
    let node = Node::new();
    let daemon = node.daemon();
    let id = daemon.running(&daemon.sandbox("web"), "main");
    let error = exec(&daemon, &id, &["hang"], Duration::from_millis(200)).expect_err("too late");
    assert!(matches!(error, PodsError::ExecTimeout { .. }), "{error}");
    assert_eq!(error.class(), Class::DeadlineExceeded);
}

fn a_pipe_that_is_kept_open() {
    let node = Node::new();
    let daemon = node.daemon();
    let id = daemon.running(&daemon.sandbox("web"), "main");
    let left = exec(&daemon, &id, &["leave"], Duration::ZERO).expect("an answer");
    assert_eq!(left, ExecResult::default());
}

fn only_what_runs_can_be_entered() {
    let node = Node::new();
    let daemon = node.daemon();
    let sandbox = daemon.sandbox("web");
    let id = daemon.created(&sandbox, "main", &["/run"]);
    let error = exec(&daemon, &id, &["say"], Duration::ZERO).expect_err("a refusal");
    assert_eq!(error.class(), Class::FailedPrecondition);
    let nobody = model::ContainerId::from_random([9; 32]);
    let error = exec(&daemon, &nobody, &["say"], Duration::ZERO).expect_err("a refusal");
    assert_eq!(error.class(), Class::NotFound);
}
