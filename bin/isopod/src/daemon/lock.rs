//! One daemon for each state directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The lock's file in the state directory.
const NAME: &str = "daemon.lock";

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
        /// Its process, where the file tells.
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

/// Takes the lock of `state`, which is made if it is missing.
pub fn take(state: &Path) -> Result<Lock, LockError> {
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
    if !sys::lock_alone(&file).map_err(failed)? {
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        let holder = holder.trim();
        let holder = if holder.is_empty() { String::new() } else { format!(" (process {holder})") };
        return Err(LockError::Held { state: state.to_owned(), holder });
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0).map_err(failed)?;
    file.rewind().map_err(failed)?;
    file.write_all(pid.as_bytes()).map_err(failed)?;
    Ok(Lock { _file: file })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_daemon_is_told_who_has_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("deep/state");
        let first = take(&state).unwrap();
        let told = take(&state).unwrap_err().to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
        drop(first);
        assert!(take(&state).is_ok());
    }
}
