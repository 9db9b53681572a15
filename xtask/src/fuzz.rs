//! A fuzzer on what strangers write: libFuzzer, with the compiler that is installed.
//!
//! Coverage is an LLVM pass that every rustc has; so neither a nightly compiler nor a program of another's is needed.
//! No address sanitizer: the targets' own code has no unsafe blocks, and what they promise is asserted.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{Outcome, cargo, output, run, succeeds, target, top};
use crate::setup::install;

/// What makes a program tell the fuzzer where it has been, and what it compares.
const COVERAGE: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
/// Targets that take most of the daemon with them; the others are built in half the time.
const OF_THE_DAEMON: [&str; 2] = ["hosts", "request"];
/// How long each target is fed where nobody says it.
const SECONDS: u64 = 180;
/// The most memory, in MiB, that a target may come to have; what a fuzzer keeps itself included.
const MEMORY: u32 = 1024;
/// The longest that one input may take, in seconds.
const SLOWEST: u32 = 10;

/// `[TARGET…] [--seconds N]`: feeds each target, or these, for so long. An input that fails is kept.
pub fn fuzz(args: &[String]) -> Outcome {
    let (wanted, seconds) = read(args)?;
    let known = targets()?;
    if let Some(stranger) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(format!("no target {stranger:?}; there are {}", known.join(", ")));
    }
    if !succeeds(Command::new("c++").arg("--version")) {
        install(&["g++"])?;
    }
    let wanted = if wanted.is_empty() { known } else { wanted };
    let program = build(wanted.iter().any(|name| OF_THE_DAEMON.contains(&name.as_str())))?;
    let mut failed = Vec::new();
    for name in &wanted {
        if let Err(reason) = feed(&program, name, seconds) {
            eprintln!("{reason}");
            failed.push(name.as_str());
        }
    }
    let at = findings();
    match failed[..] {
        [] => Ok(()),
        _ => Err(format!("{} failed; the inputs are in {}", failed.join(", "), at.display())),
    }
}

fn read(args: &[String]) -> Result<(Vec<String>, u64), String> {
    let (mut wanted, mut seconds) = (Vec::new(), SECONDS);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            let value = args.next().and_then(|value| value.parse().ok());
            seconds = value.ok_or("--seconds takes a number")?;
        } else {
            wanted.push(arg.clone());
        }
    }
    Ok((wanted, seconds))
}

fn corpus() -> PathBuf {
    top().join("fuzz/corpus")
}

fn findings() -> PathBuf {
    target().join("fuzz/findings")
}

/// The names of all targets: each has a directory in the corpus, a test sees to it.
fn targets() -> Result<Vec<String>, String> {
    let at = corpus();
    let entries =
        std::fs::read_dir(&at).map_err(|e| format!("cannot read {}: {e}", at.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.collect();
    names.sort();
    Ok(names)
}

/// The program that has all targets. Its flags hold for everything that is linked into it, and, because the machine
/// is named, for nothing that runs while it is built.
fn build(all: bool) -> Result<PathBuf, String> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.ok_or("rustc does not say what it compiles for")?;
    let mut build = cargo(["build", "--package", "fuzz", "--features", "libfuzzer"]);
    if !all {
        build.arg("--no-default-features");
    }
    build.args(["--profile", "fuzz", "--target", host]).env("RUSTFLAGS", COVERAGE);
    run(&mut build)?;
    Ok(target().join(host).join("fuzz/fuzz"))
}

fn feed(program: &Path, name: &str, seconds: u64) -> Outcome {
    let (found, findings) = (target().join("fuzz/corpus").join(name), findings());
    for directory in [&found, &findings] {
        std::fs::create_dir_all(directory)
            .map_err(|e| format!("cannot make {}: {e}", directory.display()))?;
    }
    let mut fuzz = Command::new(program);
    fuzz.env("ISOPOD_FUZZ_TARGET", name)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-timeout={SLOWEST}"))
        .arg(format!("-artifact_prefix={}/{name}-", findings.display()))
        .args(["-max_len=16384", "-print_final_stats=1", "-verbosity=1", "-close_fd_mask=1"])
        // What is new goes to the first, the second is read.
        .arg(found)
        .arg(corpus().join(name));
    run(&mut fuzz)
}
