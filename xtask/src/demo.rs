//! The demo: built here, told in the package `demo`.

use crate::run::{Outcome, cargo, run};
use crate::setup::setup;

/// Sets up, builds, and runs a pod on a daemon of its own; `--release` builds as for a node, which
/// takes longer.
pub fn demo(args: &[String]) -> Outcome {
    setup()?;
    let (release, rest): (Vec<&String>, Vec<&String>) =
        args.iter().partition(|arg| *arg == "--release");
    let profile: &[&str] = if release.is_empty() { &[] } else { &["--release"] };
    let packages = ["--package", "isopod", "--package", "isopod-monitor", "--package", "demo"];
    run(cargo(["build"]).args(profile).args(packages))?;
    let mut demo = cargo(["run", "--quiet", "--package", "demo"]);
    run(demo.args(profile).arg("--").args(rest))
}
