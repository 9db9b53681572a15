//! Waiting until a log changes.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;

/// How often a log is looked at where the kernel cannot tell of changes: nodes run out of inotify
/// instances (128 for each user by default).
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a wait lasts at most, with inotify too: some file systems tell of nothing.
const AT_MOST: Duration = Duration::from_secs(1);

/// Tells that the log at a path may have changed: grown, been rotated or truncated.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    inotify: Option<OwnedFd>,
}

impl Watch {
    /// Watches the log at `path`, which need not be there yet; its directory must be.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let watch = Self { path: path.to_owned(), inotify: inotify::init(flags).ok() };
        watch.renew();
        watch
    }

    /// Watches what the path leads to now; to be called after each change, and before looking at
    /// the log, so that no change falls between.
    pub fn renew(&self) {
        use inotify::WatchFlags as F;
        let Some(inotify) = &self.inotify else { return };
        let directory = self.path.parent().filter(|d| !d.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        // The directory tells of new files, the file of growth, even where the path is a link to it.
        // Failures are found by AT_MOST.
        let _ = inotify::add_watch(inotify, directory, F::CREATE | F::MOVED_TO);
        let _ = inotify::add_watch(inotify, &self.path, F::MODIFY | F::MOVE_SELF | F::ATTRIB);
    }

    /// The descriptor that is readable when something has changed, for an event loop; `None` where
    /// the kernel tells of nothing.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }

    /// How long to wait for [`Self::descriptor`] before the log is looked at all the same.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        match self.inotify {
            Some(_) => AT_MOST,
            None => LOOK_EVERY,
        }
    }

    /// Forgets what was told so far, so that the descriptor is readable again only by a new change.
    pub fn clear(&self) {
        let Some(inotify) = &self.inotify else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        while reader.next().is_ok() {}
    }

    /// Waits until something may have changed, `at_most` this long and never longer than
    /// [`Self::patience`].
    ///
    /// # Errors
    /// Those of poll(2), other than an interruption.
    pub fn wait(&self, at_most: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(at_most.min(self.patience())).ok();
        let mut fds: Vec<PollFd<'_>> =
            self.inotify.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.clear();
        self.renew();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    #[test]
    fn growth_and_rotation_wake_it_and_silence_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        fs::write(&log, "one\n").unwrap();
        let watch = Watch::new(&log);
        assert!(watch.descriptor().is_some(), "no inotify instance to be had");

        let changes: [(&str, &dyn Fn()); 3] = [
            ("growth", &|| fs::write(&log, "one\ntwo\n").unwrap()),
            ("renaming", &|| fs::rename(&log, directory.path().join("old")).unwrap()),
            ("a new file", &|| fs::write(&log, "three\n").unwrap()),
        ];
        for (name, change) in changes {
            change();
            let start = Instant::now();
            watch.wait(Duration::from_secs(1)).unwrap();
            assert!(start.elapsed() < Duration::from_millis(500), "{name} did not wake it");
        }
        let start = Instant::now();
        watch.wait(Duration::from_millis(50)).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(50), "it woke without a change");
    }

    #[test]
    fn without_inotify_it_looks_from_time_to_time() {
        let watch = Watch { path: "/nowhere/0.log".into(), inotify: None };
        let start = Instant::now();
        watch.wait(Duration::from_secs(5)).unwrap();
        let waited = start.elapsed();
        assert!(waited >= LOOK_EVERY && waited < Duration::from_secs(2), "{waited:?}");
    }
}
