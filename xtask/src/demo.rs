//! The demo: built here, told in the package `demo`.

use crate::run::{Outcome, cargo, run};
use crate::setup::setup;
use crate::test::build;

/// Sets up, builds, and runs a pod on a daemon of its own.
pub fn demo(args: &[String]) -> Outcome {
    setup()?;
    build()?;
    let mut demo = cargo(["run", "--quiet", "--package", "demo", "--"]);
    run(demo.args(args))
}
