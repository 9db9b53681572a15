//! The streaming clients that are not ours: npm's, as `integration/clients/package-lock.json` has them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::run::{Outcome, run, succeeds, target, top};
use crate::setup::install;

/// What is installed, and where from.
const LISTS: [&str; 2] = ["package.json", "package-lock.json"];

/// Where integration tests look for them.
fn place() -> PathBuf {
    target().join("streaming-clients")
}

/// Installs the very versions of the lock, if they are not there yet.
///
/// # Errors
/// Why they cannot be had: no Node.js of Debian's, or no registry of npm's. Their tests are left out
/// then by whoever calls this, and it says so.
pub fn fetch() -> Outcome {
    let from = top().join("integration/clients");
    let place = place();
    let read = |path: PathBuf| fs::read(&path).map_err(|e| format!("{}: {e}", path.display()));
    let done = place.join("installed.json");
    let wanted = read(from.join("package-lock.json"))?;
    if read(done.clone()).is_ok_and(|have| have == wanted) {
        return Ok(());
    }
    // Not all who have Node.js have it from Debian, whose npm does not go with another's.
    if !["node", "npm"].iter().all(|name| succeeds(Command::new(name).arg("--version"))) {
        install(&["nodejs", "npm"])?;
    }
    let failed = |e: std::io::Error| format!("{}: {e}", place.display());
    fs::create_dir_all(&place).map_err(failed)?;
    for list in LISTS {
        fs::copy(from.join(list), place.join(list)).map_err(failed)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&place);
    run(&mut npm)?;
    // Said last: what was interrupted is done again.
    fs::write(done, wanted).map_err(failed)
}
