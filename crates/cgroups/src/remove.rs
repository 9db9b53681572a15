//! The end of a cgroup's directories.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::io::Errno;

use crate::cgroup::Cgroup;
use crate::error::CgroupError;
use crate::file::{is_absent, subdirectories};

/// The first pause before a busy directory is tried again; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_micros(250);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

impl Cgroup {
    /// How long [`Cgroup::remove`] waits for processes that are still ending.
    pub const REMOVE_PATIENCE: Duration = Duration::from_secs(2);
}

pub(crate) fn remove(cgroup: &Cgroup) -> Result<(), CgroupError> {
    let until = Instant::now() + Cgroup::REMOVE_PATIENCE;
    // All are tried, so that one that is stuck keeps no other.
    let mut failed = None;
    for dir in cgroup.dirs.iter().filter(|dir| dir.own) {
        if let Err(error) = remove_tree(&dir.path, until) {
            failed.get_or_insert(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Stops at the first directory that something keeps. The one that processes are found and killed in goes first, so
/// that who is there can be killed still.
pub(crate) fn remove_if_empty(cgroup: &Cgroup) -> bool {
    let first = cgroup.killing_dir();
    let others = (0..cgroup.dirs.len()).filter(|at| Some(*at) != first && cgroup.dirs[*at].own);
    let mut all = first.into_iter().chain(others);
    all.all(|at| match std::fs::remove_dir(&cgroup.dirs[at].path) {
        Ok(()) => true,
        Err(source) => is_absent(&source),
    })
}

pub(crate) fn remove_tree(dir: &Path, until: Instant) -> Result<(), CgroupError> {
    let mut length = FIRST_PAUSE;
    loop {
        let source = match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(source) if is_absent(&source) => return Ok(()),
            Err(source) => source,
        };
        // Busy with processes or with cgroups below; those that are there now, there may be others next time.
        let is_busy = source.raw_os_error() == Some(Errno::BUSY.raw_os_error());
        if !is_busy || Instant::now() >= until {
            return Err(CgroupError::Remove { path: dir.to_owned(), source });
        }
        let below = subdirectories(dir)?;
        if below.is_empty() {
            pause(length);
            length = (length * 2).min(LONGEST_PAUSE);
        }
        below.iter().try_for_each(|below| remove_tree(below, until))?;
    }
}

/// Waits for nothing but the time: the kernel tells nobody when a cgroup of v1 stops being busy.
pub(crate) fn pause(length: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(length.as_secs()).unwrap_or(0),
        tv_nsec: i64::from(length.subsec_nanos()),
    };
    // A signal ends it early, which does no harm.
    let _ = rustix::event::poll(&mut [], Some(&timeout));
}
