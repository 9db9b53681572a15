//! Figures: a release is built as it is shipped, then measured.

use crate::run::{Outcome, cargo, run, target};
use crate::setup::setup;

/// The monitor by itself, static; the daemon with the monitor inside; both in `target/release`.
pub fn release() -> Outcome {
    let mut monitor = cargo(["rustc", "--package", "isopod-monitor", "--profile", "monitor"]);
    run(monitor.args(["--", "-C", "target-feature=+crt-static"]))?;
    let program = target().join("monitor/isopod-monitor");
    let mut daemon = cargo(["build", "--release", "--package", "isopod", "--package", "benches"]);
    run(daemon.env("ISOPOD_MONITOR_ELF", program))
}

/// Sets up, builds a release, and measures; `args` say what.
pub fn bench(args: &[String]) -> Outcome {
    setup()?;
    release()?;
    run(std::process::Command::new(target().join("release/bench")).args(args))
}
