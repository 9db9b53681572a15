//! All tests, and a look at the machine afterwards.

use std::process::Command;

use crate::bench::shipped_monitor;
use crate::clients;
use crate::leftovers::Snapshot;
use crate::run::{Outcome, cargo, run, succeeds};
use crate::setup::setup;

/// Tests of programs that come from npm's registry, which a machine need not reach.
const CLIENTS: &str = "streaming_node::";

/// Sets up, builds the programs that integration tests start, runs every test of the workspace, and
/// fails if the machine keeps anything of it. `args` go to the test runner: a filter, say.
pub fn test(args: &[String]) -> Outcome {
    if !succeeds(Command::new("sh").args(["-c", "test \"$(id -u)\" = 0"])) {
        return Err("tests make namespaces, mounts and cgroups: run this as root".to_owned());
    }
    setup()?;
    let clients = clients::fetch();
    build()?;
    // What an optimiser makes of it is another program than the one that most tests drive.
    shipped_monitor()?;
    let before = Snapshot::take()?;
    let mut runner = runner();
    runner.args(args);
    if clients.is_err() {
        // For each test program; what stands before it is the runner's own.
        let has_own = args.iter().any(|arg| arg == "--");
        runner.args(if has_own { &[][..] } else { &["--"] }).args(["--skip", CLIENTS]);
    }
    let tested = run(&mut runner);
    // Looked at after a failure too: what a failing test leaves behind is a second finding.
    let left = before.what_is_new();
    if let Err(reason) = clients {
        eprintln!(
            "SKIPPED: the streaming clients of npm (`{CLIENTS}`), which are not here: {reason}"
        );
    }
    match (tested, left) {
        (Ok(()), Ok(())) => {
            eprintln!("no process, mount, namespace, cgroup, link, table or file is left");
            Ok(())
        }
        (Err(reason), Ok(())) | (Ok(()), Err(reason)) => Err(reason),
        (Err(failed), Err(left)) => Err(format!("{failed}\n{left}")),
    }
}

/// With the points at which tests end a process; in everything that tests build, or cargo would build it
/// all twice.
pub const FEATURES: [&str; 2] = ["--features", "isopod/faults,isopod-monitor/faults"];

/// Builds the daemon and, beside it, the monitor.
pub fn build() -> Outcome {
    let mut build = cargo(["build", "--package", "isopod", "--package", "isopod-monitor"]);
    run(build.args(FEATURES))
}

/// nextest where it is installed, for its limits on each test; else what every Rust has.
fn runner() -> Command {
    if succeeds(&mut cargo(["nextest", "--version"])) {
        let mut nextest = cargo(["nextest", "run", "--workspace"]);
        nextest.args(FEATURES);
        nextest
    } else {
        let mut test = cargo(["test", "--workspace", "--all-targets"]);
        test.args(FEATURES);
        test
    }
}
