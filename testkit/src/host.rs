//! A network namespace for a test.

use std::path::Path;
use std::process::Command;

/// Moves this thread, and what it starts from now on, into a network namespace of its own with
/// loopback up: bridges, rules and ports of a test meet nobody else's, and end with it.
///
/// # Panics
/// Without the privilege for it.
pub fn isolate_network() {
    sys::unshare(sys::Namespaces::NETWORK).expect("a network namespace can be made");
    run(Command::new("ip").args(["link", "set", "lo", "up"]));
}

/// Mounts an empty tmpfs of a size such as `16m`; below a daemon's directory it goes with that.
///
/// # Panics
/// Where it cannot be mounted.
pub fn mount_tmpfs(at: &Path, size: &str) {
    let options = format!("size={size}");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "isopod-test"]).arg(at));
}

/// Runs a command that must succeed, and gives what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let done = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{command:?} failed: {}: {said}", done.status);
    String::from_utf8_lossy(&done.stdout).into_owned()
}
