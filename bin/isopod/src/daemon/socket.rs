//! The unix socket: bound, or handed over by systemd.
//!
//! Always: a socket of a dead daemon is replaced, one of a living daemon never; nobody can connect before
//! the mode and the group are as configured.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::config::SocketSettings;

/// The first descriptor that systemd hands over (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: UnixListener,
    /// Its path, where it is ours to remove.
    pub path: Option<PathBuf>,
}

impl Listener {
    /// The socket, for a runtime.
    pub fn incoming(&self) -> io::Result<tokio::net::UnixListener> {
        self.socket.set_nonblocking(true)?;
        tokio::net::UnixListener::from_std(self.socket.try_clone()?)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Whoever connects from now on should be told at once that nobody is there.
            let _ = fs::remove_file(path);
        }
    }
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A daemon answers on it.
    #[error("another daemon serves {}", path.display())]
    Alive {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the path.
    #[error("{} is there and is not a socket", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The group does not exist.
    #[error("there is no group {group:?} (socket.group)")]
    NoGroup {
        /// Its name.
        group: String,
    },
    /// The system says no.
    #[error("cannot {what} {}", path.display())]
    System {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What systemd handed over is not one listening socket.
    #[error("socket activation: {problem}")]
    Activation {
        /// What is wrong.
        problem: String,
    },
}

/// The socket that systemd listens on for us, if it does.
pub fn activated() -> Result<Option<Listener>, SocketError> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) {
        return Ok(None);
    }
    let problem = |problem: String| SocketError::Activation { problem };
    match number("LISTEN_FDS") {
        None | Some(0) => Ok(None),
        Some(1) => {
            let descriptor = sys::inherited(FIRST).map_err(|error| problem(error.to_string()))?;
            let socket = UnixListener::from(descriptor);
            socket.local_addr().map_err(|error| problem(format!("not a unix socket: {error}")))?;
            Ok(Some(Listener { socket, path: None }))
        }
        Some(count) => Err(problem(format!("one socket is needed, {count} were handed over"))),
    }
}

/// Listens as `settings` say.
pub fn bind(settings: &SocketSettings) -> Result<Listener, SocketError> {
    let path = &settings.path;
    let group = settings.group.as_deref().map(group_id).transpose()?;
    if let Some(directory) = path.parent() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(directory);
        made.map_err(|source| failed("make the directory of", path, source))?;
    }
    check_free(path)?;
    // Bound beside its place, dressed, then put there: in one step it is there and as it should be.
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{}", std::process::id()));
    let beside = PathBuf::from(beside);
    let _ = fs::remove_file(&beside);
    let socket =
        UnixListener::bind(&beside).map_err(|source| failed("listen on", &beside, source))?;
    let placed = place(&beside, settings, group);
    if placed.is_err() {
        let _ = fs::remove_file(&beside);
    }
    placed?;
    Ok(Listener { socket, path: Some(path.clone()) })
}

fn place(beside: &Path, settings: &SocketSettings, group: Option<u32>) -> Result<(), SocketError> {
    if group.is_some() {
        chown(beside, None, group).map_err(|source| failed("give a group to", beside, source))?;
    }
    fs::set_permissions(beside, Permissions::from_mode(settings.mode))
        .map_err(|source| failed("set the mode of", beside, source))?;
    fs::rename(beside, &settings.path)
        .map_err(|source| failed("put the socket to", &settings.path, source))
}

fn failed(what: &'static str, path: &Path, source: io::Error) -> SocketError {
    SocketError::System { what, path: path.to_owned(), source }
}

fn check_free(path: &Path) -> Result<(), SocketError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(failed("look at", path, source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(SocketError::NotASocket { path: path.to_owned() })
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(SocketError::Alive { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(source) => Err(failed("find out whether a daemon serves", path, source)),
        },
    }
}

/// A group by number, or by name in /etc/group.
///
/// # Errors
/// [`SocketError::NoGroup`].
pub fn group_id(group: &str) -> Result<u32, SocketError> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let unknown = || SocketError::NoGroup { group: group.to_owned() };
    let file = fs::read_to_string("/etc/group").map_err(|_| unknown())?;
    let line = file.lines().find(|line| line.split(':').next() == Some(group));
    line.and_then(|line| line.split(':').nth(2)?.parse().ok()).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &Path) -> SocketSettings {
        SocketSettings { path: path.to_owned(), mode: 0o620, group: Some("0".into()) }
    }

    #[test]
    fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/i.sock");
        fs::create_dir(path.parent().unwrap()).unwrap();
        // A listener that is gone leaves its socket behind.
        drop(UnixListener::bind(&path).unwrap());
        let first = bind(&settings(&path)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o620);
        assert!(matches!(bind(&settings(&path)), Err(SocketError::Alive { .. })));
        assert!(UnixStream::connect(&path).is_ok(), "the first one was disturbed");
        drop(first);
        assert!(!path.exists());
    }

    #[test]
    fn something_else_in_its_place_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&settings(&path)), Err(SocketError::NotASocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn groups_are_numbers_or_names() {
        assert_eq!(group_id("root").unwrap(), 0);
        assert_eq!(group_id("123").unwrap(), 123);
        assert!(matches!(group_id("no-such-group-here"), Err(SocketError::NoGroup { .. })));
    }
}
