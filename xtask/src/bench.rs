//! Figures: a release is built as it is shipped, then measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disk::Disk;
use crate::run::{Outcome, cargo, run, target, top};
use crate::setup::setup;

/// The monitor as it is shipped: static, optimised, without the points at which tests end it.
pub fn shipped_monitor() -> Result<PathBuf, String> {
    let mut monitor = cargo(["rustc", "--package", "isopod-monitor", "--profile", "monitor"]);
    run(monitor.args(["--", "-C", "target-feature=+crt-static", "-C", "relocation-model=static"]))?;
    let program = target().join("monitor/isopod-monitor");
    without_faults(&program)?;
    Ok(program)
}

/// The daemon with the monitor inside, in `target/release`.
pub fn release() -> Outcome {
    let program = shipped_monitor()?;
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
    match args.split_first() {
        Some((verb, rest)) if verb == "peers" => return peers(rest),
        Some((verb, [])) if verb == "images" => return images(),
        Some(_) | None => {}
    }
    setup()?;
    release()?;
    let disk = Disk::new()?;
    Disk::run(disk.as_ref(), Command::new(target().join("release/bench")).args(args))
}

/// Measures beside Debian's containerd with runc and crun, and writes docs/benchmarks; containerd is taken out
/// of its package and not installed, so that no daemon of the machine is started or changed.
fn peers(args: &[String]) -> Outcome {
    setup()?;
    let programs = containerd()?;
    release()?;
    let mut bench = Command::new(target().join("release/bench"));
    bench.arg("peers").arg(programs).arg("--own-network");
    let says_where = args.iter().any(|arg| arg == "--out");
    if !says_where {
        bench.arg("--out").arg(top().join("docs/benchmarks/peers"));
    }
    let disk = Disk::new()?;
    Disk::run(disk.as_ref(), bench.args(args))
}

/// Measures pulls beside the same containerd; where it cannot be had, beside one of `PATH`.
fn images() -> Outcome {
    setup()?;
    release()?;
    let mut bench = Command::new(target().join("release/bench"));
    bench.arg("images");
    match containerd() {
        Ok(programs) => drop(bench.arg(programs)),
        Err(why) => eprintln!("Debian's containerd cannot be had: {why}"),
    }
    let disk = Disk::new()?;
    Disk::run(disk.as_ref(), &mut bench)
}

/// Runs the conformance suite on each handler and on Debian's containerd, and writes docs/conformance; `args` choose
/// the cases.
pub fn conformance(args: &[String]) -> Outcome {
    setup()?;
    let programs = containerd()?;
    release()?;
    let mut bench = Command::new(target().join("release/bench"));
    let docs = top().join("docs/conformance");
    bench.arg("conformance").arg(programs).arg(&docs);
    run(bench.args(args))?;
    if !args.is_empty() {
        // Of some cases only, for somebody who looks for something.
        return Ok(());
    }
    crate::vm::conformance(&docs.join("isopod-guest.txt"))
}

/// Where containerd and its shim are.
fn containerd() -> Result<PathBuf, String> {
    let at = target().join("peers");
    let programs = at.join("usr/bin");
    if programs.join("containerd").is_file() {
        return Ok(programs);
    }
    std::fs::create_dir_all(&at).map_err(|e| format!("cannot make {}: {e}", at.display()))?;
    let mut download = Command::new("apt-get");
    run(download.args(["--quiet", "download", "containerd"]).current_dir(&at))?;
    let all = std::fs::read_dir(&at).map_err(|e| format!("cannot read {}: {e}", at.display()))?;
    let mut packages = all.filter_map(|entry| Some(entry.ok()?.path()));
    let package = packages.find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let package = package.ok_or("apt-get has downloaded no package")?;
    run(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&at))?;
    Ok(programs)
}
