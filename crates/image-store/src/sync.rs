//! Data reaches the disk, once for all who ask at the same time.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

/// Failed rounds that are remembered for those who wait for them.
const REMEMBERED: usize = 64;

/// syncfs(2) of one file system. Several layers that end together share one call: each call flushes
/// everything on the file system, so a call per layer would be a storm of them.
#[derive(Debug)]
pub(crate) struct Syncer(Arc<Shared>);

/// A moment: rounds that end after it may be about what is written from then on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(u64);

#[derive(Debug)]
struct Shared {
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
        Self(Arc::new(Shared { fd, state: Mutex::default(), done: Condvar::new() }))
    }

    /// Now, before something is written that [`Syncer::sync`] is to bring to the disk.
    pub fn mark(&self) -> Mark {
        Mark(self.0.lock().finished)
    }

    /// Begins to bring to the disk what is written by now, unless a round runs; nobody waits for it. The disk works
    /// then while more is written, and is nearly done when [`Syncer::sync`] comes.
    pub fn begin(&self) {
        let mut state = self.0.lock();
        if state.started != state.finished {
            return;
        }
        let mine = state.begin();
        drop(state);
        let shared = Arc::clone(&self.0);
        let thread = std::thread::Builder::new().name("write-back".into());
        if thread.spawn(move || shared.round(mine)).is_err() {
            // Somebody may count on it already.
            self.0.round(mine);
        }
    }

    /// Returns when everything that was written since `mark` is on the disk.
    ///
    /// # Errors
    /// That of any round since then: the kernel tells of what it could not write once only.
    pub fn sync(&self, mark: Mark) -> io::Result<()> {
        let mut state = self.0.lock();
        // A round that runs already may have passed by what was written last.
        let wanted = state.started + 1;
        while state.finished < wanted {
            if state.started == state.finished {
                let mine = state.begin();
                drop(state);
                self.0.round(mine);
                state = self.0.lock();
            } else {
                state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
        match state.failed.range(mark.0 + 1..=wanted).next() {
            Some((_, e)) => Err((*e).into()),
            None => Ok(()),
        }
    }
}

impl Shared {
    /// Carries the round out that was begun with this number.
    fn round(&self, mine: u64) {
        let result = rustix::fs::syncfs(&self.fd);
        let mut state = self.lock();
        state.finished = mine;
        if let Err(e) = result {
            state.failed.insert(mine, e);
            while state.failed.len() > REMEMBERED {
                state.failed.pop_first();
            }
        }
        self.done.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The numbers are whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self) -> u64 {
        self.started += 1;
        self.started
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{Mode, OFlags, open};

    use super::*;

    fn syncer(dir: &tempfile::TempDir, flags: OFlags) -> Syncer {
        Syncer::new(open(dir.path(), flags | OFlags::CLOEXEC, Mode::empty()).unwrap())
    }

    #[test]
    fn a_round_that_failed_while_something_was_written_fails_it() {
        let dir = tempfile::tempdir().unwrap();
        let syncer = syncer(&dir, OFlags::RDONLY);
        let before = syncer.mark();
        {
            let mut state = syncer.0.lock();
            let round = state.begin();
            state.finished = round;
            state.failed.insert(round, Errno::IO);
        }
        let after = syncer.mark();
        let told = syncer.sync(before).unwrap_err();
        assert_eq!(told.raw_os_error(), Some(Errno::IO.raw_os_error()));
        syncer.sync(after).unwrap();
    }

    #[test]
    fn a_round_that_nobody_waits_for_is_heard_of() {
        let dir = tempfile::tempdir().unwrap();
        // Nothing can be synced by a descriptor that is only a place.
        let syncer = syncer(&dir, OFlags::PATH);
        let mark = syncer.mark();
        syncer.begin();
        let mut state = syncer.0.lock();
        while state.finished == 0 {
            state = syncer.0.done.wait(state).unwrap();
        }
        assert_eq!(state.failed.get(&1), Some(&Errno::BADF));
        drop(state);
        assert!(syncer.sync(mark).is_err());
    }
}
