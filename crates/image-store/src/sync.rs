//! Data reaches the disk, once for all who ask at the same time.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// Failed rounds that are remembered for those who wait for them.
const REMEMBERED: usize = 64;

/// syncfs(2) of one file system. Several layers that end together share one call: each call flushes
/// everything on the file system, so a call per layer would be a storm of them.
#[derive(Debug)]
pub(crate) struct Syncer {
    fd: OwnedFd,
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct State {
    started: u64,
    finished: u64,
    failed: BTreeMap<u64, Errno>,
}

impl Syncer {
    /// Syncs the file system of `fd`, which stays open: the kernel reports a failed write-back once
    /// per open file description.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, state: Mutex::default(), done: Condvar::new() }
    }

    /// Returns when everything that was written before the call is on the disk.
    pub fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        // A round that runs already may have passed by what was written last.
        let wanted = state.started + 1;
        loop {
            if state.finished >= wanted {
                return Ok(());
            }
            if state.started == state.finished {
                state.started += 1;
                let mine = state.started;
                drop(state);
                let result = rustix::fs::syncfs(&self.fd);
                state = self.lock();
                state.finished = mine;
                if let Err(e) = result {
                    state.failed.insert(mine, e);
                    while state.failed.len() > REMEMBERED {
                        state.failed.pop_first();
                    }
                }
                self.done.notify_all();
            } else {
                state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(e) = state.failed.get(&wanted) {
                return Err((*e).into());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The numbers are whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
