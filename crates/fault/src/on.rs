//! Points that can be armed.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The variable with the directory that arms the points.
pub const DIRECTORY: &str = "ISOPOD_FAULTS";

/// Between two looks of a process that is held.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Fail(rustix::io::Errno),
    Pause,
}

/// What this process has seen of the armed fault.
static SEEN: Mutex<(String, u32)> = Mutex::new((String::new(), 0));

fn directory() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOUND.get_or_init(|| std::env::var_os(DIRECTORY).map(PathBuf::from)).as_deref()
}

/// What a process of ours is to be given so that its points can be armed too.
#[must_use]
pub fn environment() -> Option<(&'static str, OsString)> {
    directory().map(|path| (DIRECTORY, path.as_os_str().to_owned()))
}

/// This process has come to the point whose name is put together of `parts`.
///
/// # Errors
/// The failure that is armed for it.
pub fn reached(parts: &[&str]) -> io::Result<()> {
    match directory() {
        Some(directory) => reached_in(directory, &parts.concat().replace(' ', "-")),
        None => Ok(()),
    }
}

fn reached_in(directory: &Path, name: &str) -> io::Result<()> {
    // Whole lines in one write each: many processes add to it.
    if let Ok(mut trace) = File::options().append(true).open(directory.join("trace")) {
        let _ = trace.write_all(format!("{name}\n").as_bytes());
    }
    let armed = directory.join("armed");
    let Ok(line) = fs::read_to_string(&armed) else { return Ok(()) };
    let Some((at, nth, action)) = parse(&line) else { return Ok(()) };
    if at != name || !is_due(&line, nth) {
        return Ok(());
    }
    // Whoever renames it has it; another has been faster.
    if fs::rename(&armed, directory.join("struck")).is_err() {
        return Ok(());
    }
    act(directory, action)
}

fn parse(line: &str) -> Option<(&str, u32, Action)> {
    let mut words = line.split_whitespace();
    let (name, nth) = (words.next()?, words.next()?.parse().ok()?);
    let action = match words.next()? {
        "kill" => Action::Kill,
        "enospc" => Action::Fail(rustix::io::Errno::NOSPC),
        "eio" => Action::Fail(rustix::io::Errno::IO),
        "pause" => Action::Pause,
        _ => return None,
    };
    Some((name, nth, action))
}

/// Counts; a line that is new begins from one.
fn is_due(line: &str, nth: u32) -> bool {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.0 != line {
        *seen = (line.to_owned(), 0);
    }
    seen.1 += 1;
    seen.1 == nth
}

fn act(directory: &Path, action: Action) -> io::Result<()> {
    match action {
        Action::Fail(error) => Err(error.into()),
        Action::Kill => {
            let _ = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
            // The signal is there before the call returns.
            Ok(())
        }
        Action::Pause => {
            while directory.join("struck").exists() {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "whoever holds a process says so by a file"
                )]
                std::thread::sleep(PAUSE);
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_once_where_and_when_it_was_armed() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        reached_in(at, "a").unwrap();
        fs::write(at.join("armed"), "b 2 enospc").unwrap();
        fs::write(at.join("trace"), "").unwrap();
        reached_in(at, "a").unwrap();
        reached_in(at, "b").unwrap();
        let error = reached_in(at, "b").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(at.join("struck").exists());
        reached_in(at, "b").unwrap();
        assert_eq!(fs::read_to_string(at.join("trace")).unwrap(), "a\nb\nb\nb\n");
    }

    #[test]
    fn what_is_no_fault_does_nothing() {
        let dir = tempfile::tempdir().unwrap();
        for line in ["", "b", "b x kill", "b 1 dance"] {
            fs::write(dir.path().join("armed"), line).unwrap();
            reached_in(dir.path(), "b").unwrap();
            assert!(dir.path().join("armed").exists(), "{line}");
        }
    }
}
