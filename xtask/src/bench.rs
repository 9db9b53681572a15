//! Figures: a release is built as it is shipped, then measured.

use std::path::Path;

use crate::run::{Outcome, cargo, run, target};
use crate::setup::setup;

/// The monitor by itself, static; the daemon with the monitor inside; both in `target/release`.
pub fn release() -> Outcome {
    let mut monitor = cargo(["rustc", "--package", "isopod-monitor", "--profile", "monitor"]);
    run(monitor.args(["--", "-C", "target-feature=+crt-static"]))?;
    let program = target().join("monitor/isopod-monitor");
    let mut daemon = cargo(["build", "--release", "--package", "isopod", "--package", "benches"]);
    run(daemon.env("ISOPOD_MONITOR_ELF", program))?;
    // The monitor is inside of it.
    without_faults(&target().join("release/isopod"))
}

/// Fails where a program has points at which tests end it: they are for no release.
fn without_faults(program: &Path) -> Outcome {
    let bytes = std::fs::read(program);
    let bytes = bytes.map_err(|e| format!("cannot read {}: {e}", program.display()))?;
    let is_there = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    if is_there(b"ISOPOD_FAULTS") {
        return Err(format!("{} was built with fault points", program.display()));
    }
    Ok(())
}

/// Sets up, builds a release, and measures; `args` say what.
pub fn bench(args: &[String]) -> Outcome {
    setup()?;
    release()?;
    run(std::process::Command::new(target().join("release/bench")).args(args))
}
