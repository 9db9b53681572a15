//! What takes longer than a test may: all faults, the model for hours, a soak.

use crate::bench::release;
use crate::run::{Outcome, cargo, run, target};
use crate::setup::setup;
use crate::test::build;

/// Every fault of every call, each time that it is reached, in each way.
pub fn faults(args: &[String]) -> Outcome {
    setup()?;
    build()?;
    run(node("faults::").args(args).env("ISOPOD_ALL_FAULTS", "1"))
}

/// The model test with a seed of now for `--minutes N`, or with `--seed N` once more.
pub fn model(args: &[String]) -> Outcome {
    let minutes = number(args, "--minutes")?.unwrap_or(1);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_err(|e| e.to_string())?.as_secs();
    let seed = number(args, "--seed")?.unwrap_or(now);
    eprintln!("cargo xtask model --minutes {minutes} --seed {seed}");
    setup()?;
    build()?;
    let mut test = node("model::");
    test.env("ISOPOD_MODEL_SEED", seed.to_string());
    run(test.env("ISOPOD_MODEL_SECONDS", (minutes * 60).to_string()))
}

/// `--pods N` come and go on a release.
pub fn soak(args: &[String]) -> Outcome {
    let pods = number(args, "--pods")?.unwrap_or(2000);
    setup()?;
    release()?;
    let program = target().join("release/bench");
    run(std::process::Command::new(program).args(["soak", &pods.to_string()]))
}

/// The integration tests whose names begin like this, with all that they print.
fn node(filter: &str) -> std::process::Command {
    let mut test = cargo(["test", "--package", "integration", "--test", "node", "--"]);
    test.args([filter, "--nocapture", "--test-threads", "2"]);
    test
}

/// The number behind an option.
fn number(args: &[String], option: &str) -> Result<Option<u64>, String> {
    let Some(at) = args.iter().position(|arg| arg == option) else { return Ok(None) };
    let value = args.get(at + 1).and_then(|value| value.parse().ok());
    value.map(Some).ok_or_else(|| format!("{option} takes a number"))
}
