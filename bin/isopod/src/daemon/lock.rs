//! One daemon for each state directory.
//!
//! Always: it is the first lock that a daemon takes, and the one that is waited for. A daemon that is killed while it
//! makes a process leaves that one its descriptors, locks too, until it has become its program, and then loses them,
//! this one first and the others with it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};

/// The lock's file in the state directory.
const NAME: &str = "daemon.lock";

/// How long a lock that somebody has is tried for, and how often: flock(2) knows no time limit.
const PATIENCE: Duration = Duration::from_secs(1);
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };

/// Held for as long as the daemon lives.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error("another daemon uses {}{holder}", state.display())]
    Held {
        /// The state directory.
        state: PathBuf,
        /// Its process, or whose it was, where the file tells.
        holder: String,
    },
    /// The file cannot be used.
    #[error("cannot lock {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Takes the lock of `state`, which is made if it is missing. The thread waits for up to a second where somebody
/// has it.
pub fn take(state: &Path) -> Result<Lock, LockError> {
    take_within(state, PATIENCE)
}

fn take_within(state: &Path, patience: Duration) -> Result<Lock, LockError> {
    let path = state.join(NAME);
    let failed = |source| LockError::File { path: path.clone(), source };
    DirBuilder::new().recursive(true).mode(0o711).create(state).map_err(failed)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    if !is_taken(&file, patience).map_err(failed)? {
        return Err(LockError::Held { state: state.to_owned(), holder: holder(&mut file) });
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    file.write_all(pid.as_bytes()).map_err(failed)?;
    Ok(Lock { _file: file })
}

fn is_taken(file: &File, patience: Duration) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if begun.elapsed() >= patience => return Ok(false),
            // A signal only has it tried earlier.
            Err(TryLockError::WouldBlock) => drop(poll(&mut [], Some(&AGAIN))),
            Err(TryLockError::Error(source)) => return Err(source),
        }
    }
}

/// Who has the lock, for people, by what is in the file.
fn holder(file: &mut File) -> String {
    let mut written = String::new();
    let _ = file.read_to_string(&mut written);
    match written.trim() {
        "" => String::new(),
        pid if Path::new("/proc").join(pid).exists() => format!(" (process {pid})"),
        pid => format!(" (process {pid} has taken it, and is not to be seen here)"),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_has_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("deep/state");
        let first = take(&state).unwrap();
        let told = take_within(&state, Duration::ZERO).unwrap_err().to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        drop(first);
        assert!(take(&state).is_ok());
    }

    #[test]
    fn what_a_killed_daemon_has_left_to_its_child_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let first = take(state).unwrap();
        // As one that has not yet become its program the child has the file; it ends with its input.
        let mut child = {
            let left = first._file.try_clone().unwrap();
            let mut command = Command::new("/bin/cat");
            command.stdin(Stdio::piped()).stdout(Stdio::from(left)).spawn().unwrap()
        };
        drop(first);
        std::fs::write(state.join(NAME), format!("{}\n", u32::MAX)).unwrap();
        let told = take_within(state, Duration::ZERO).unwrap_err().to_string();
        assert!(told.contains(&format!("process {} has taken it", u32::MAX)), "{told}");
        let stdin = child.stdin.take();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| take_within(state, Duration::from_secs(20)));
            drop(stdin);
            assert!(waits.join().unwrap().is_ok());
        });
        assert!(child.wait().unwrap().success());
    }
}
