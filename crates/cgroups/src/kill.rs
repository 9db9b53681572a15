//! The end of everything in a cgroup.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::cgroup::{Cgroup, Dir, Kind, collect_procs};
use crate::error::CgroupError;
use crate::file::{is_absent, read_if_there, subdirectories, write};
use crate::hierarchy::Controller;
use crate::remove::pause;

/// How often v1's processes are frozen and signalled before it is given up.
const ROUNDS: u32 = 20;
/// How long the freezer may take in a round: a process in uninterruptible sleep cannot be frozen.
const FREEZING: Duration = Duration::from_millis(100);
/// Between two looks at the freezer's state.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

pub(crate) fn kill_all(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let Some(at) = cgroup.killing_dir() else { return Ok(()) };
    let dir = &cgroup.dirs[at];
    let killed = match dir.kind {
        Kind::Unified => match write(&dir.path.join("cgroup.kill"), "1") {
            // Linux before 5.14 has no such file, and the cgroup may be gone: both end without one below.
            Err(CgroupError::Write { source, .. }) if is_absent(&source) => by_signals(&dir.path),
            other => other,
        },
        Kind::Legacy(_) => by_signals(&dir.path),
    };
    release(cgroup);
    killed
}

/// Whoever stands still in v1's freezer does not end by a signal, so it is let go after that. v2's needs nothing.
pub(crate) fn release(cgroup: &Cgroup) {
    let freezer = |dir: &&Dir| match &dir.kind {
        Kind::Legacy(controllers) => dir.own && controllers.contains(&Controller::Freezer),
        Kind::Unified => false,
    };
    for dir in cgroup.dirs.iter().filter(freezer) {
        thaw_tree(&dir.path);
    }
}

/// What is below may have been frozen on its own. One that is gone needs nothing.
fn thaw_tree(dir: &Path) {
    let _ = write(&dir.join("freezer.state"), "THAWED");
    subdirectories(dir).unwrap_or_default().iter().for_each(|below| thaw_tree(below));
}

fn by_signals(dir: &Path) -> Result<(), CgroupError> {
    for _ in 0..ROUNDS {
        let frozen = freeze(dir);
        let signalled = signal_all(dir);
        thaw(dir);
        let left = signalled?;
        // Frozen ones cannot fork, so when they thaw the signal finds all there are.
        if frozen || left == 0 {
            return Ok(());
        }
    }
    let mut left = Vec::new();
    collect_procs(dir, &mut left)?;
    if left.is_empty() {
        return Ok(());
    }
    Err(CgroupError::StillAlive { path: dir.to_owned(), left: left.len() })
}

/// Signals every process in `dir` and below; how many there were.
fn signal_all(dir: &Path) -> Result<usize, CgroupError> {
    let list = || {
        let mut pids = Vec::new();
        collect_procs(dir, &mut pids).map(|()| pids)
    };
    let opened: Vec<(Pid, _)> = list()?
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
        .collect();
    // A number that is still listed now, and whose descriptor can be signalled, has not changed hands.
    let still = list()?;
    for (pid, process) in &opened {
        if still.contains(pid) {
            // The only failure left is that it has ended.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
    }
    Ok(still.len())
}

/// Stops all; whether it is certain that they stand still.
fn freeze(dir: &Path) -> bool {
    let (file, on, state, done) = if dir.join("freezer.state").exists() {
        ("freezer.state", "FROZEN", "freezer.state", "FROZEN")
    } else {
        ("cgroup.freeze", "1", "cgroup.events", "frozen 1")
    };
    if write(&dir.join(file), on).is_err() {
        return false;
    }
    let until = Instant::now() + FREEZING;
    loop {
        match read_if_there(&dir.join(state)) {
            Ok(Some(text)) if text.lines().any(|line| line.trim() == done) => return true,
            Ok(Some(_)) if Instant::now() < until => pause(LOOK_AGAIN),
            Ok(_) | Err(_) => return false,
        }
    }
}

fn thaw(dir: &Path) {
    // One of the two exists; a cgroup that is gone needs neither.
    let _ = write(&dir.join("freezer.state"), "THAWED");
    let _ = write(&dir.join("cgroup.freeze"), "0");
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::hierarchy::Hierarchies;
    use crate::remove::remove_tree;

    /// What Linux before 5.14 is left with: v2 without `cgroup.kill`.
    #[test]
    fn without_the_kernels_help_all_are_frozen_and_signalled() {
        let hierarchies = Hierarchies::detect().unwrap();
        let Some(mount) = hierarchies.v2() else { return };
        let dir = mount.join(format!("isopod-test-{}-freeze", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let moved = write(&dir.join("cgroup.procs"), &child.id().to_string());
        let killed = moved.and_then(|()| by_signals(&dir));
        // Without a signal it would end by itself now, and well.
        drop(child.stdin.take());
        let status = child.wait().unwrap();
        let removed = remove_tree(&dir, Instant::now() + Cgroup::REMOVE_PATIENCE);
        killed.and(removed).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    }
}
