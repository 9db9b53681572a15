//! A lock that one process has for as long as it lives.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// How long a lock that somebody has is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries: flock(2) knows no time limit.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Takes the lock of a file for itself alone (flock(2)), and says whether it has it. It ends with the last
/// descriptor of this opening.
///
/// A process that was killed between making a child and the child's becoming its program has left its
/// descriptors, locks too, to the child for some moments more. So a lock that somebody has is tried again for a
/// second, during which the thread waits.
///
/// # Errors
/// What flock(2) says, but that somebody has it.
pub fn lock_alone(file: impl AsFd) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) if begun.elapsed() >= PATIENCE => return Ok(false),
            Err(Errno::WOULDBLOCK) => match poll(&mut [], Some(&AGAIN)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            },
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::process::{Command, Stdio};

    #[test]
    fn a_lock_is_had_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = File::create(&path).unwrap();
        let second = File::open(&path).unwrap();
        assert!(lock_alone(&first).unwrap());
        assert!(!lock_alone(&second).unwrap());
        drop(first);
        assert!(lock_alone(&second).unwrap());
    }

    #[test]
    fn a_lock_that_a_killed_process_has_left_to_its_child_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = File::create(&path).unwrap();
        assert!(lock_alone(&first).unwrap());
        // The child has the file, as one that has not yet become its program has, and ends by itself.
        let mut child =
            Command::new("/bin/sleep").arg("0.2").stdin(Stdio::from(first)).spawn().unwrap();
        let second = File::open(&path).unwrap();
        assert!(flock(&second, FlockOperation::NonBlockingLockExclusive).is_err());
        assert!(lock_alone(&second).unwrap());
        assert!(child.wait().unwrap().success());
    }
}
