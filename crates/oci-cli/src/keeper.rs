//! Who keeps a created container's control socket until somebody starts it.
//!
//! A launched process ends when nobody holds the other end of that socket any more, so that nothing is left
//! of a launcher that died. `create` ends and is meant to; so it leaves a process behind that holds the end,
//! and waits for `start` on a socket in the container's directory. It ends with the start, or with the
//! container. Always: it has nothing else of `create`'s: no descriptor, no directory, no mount; what it removes is
//! in the directory that was the container's when it was made, whatever has its name by then.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use launcher::{Control, LaunchError, Report, RuntimeNamespaces};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{AtFlags, unlinkat};
use sys::{CloneFlags, SingleThreaded, clone_child};

use crate::error::OciError;
use crate::record::Directory;

/// How long becoming the program may take: a program on a network's file system, say.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// The word that says that it was started.
const STARTED: &[u8] = b"started";

/// The socket on which the order to start is waited for.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: UnixListener,
    /// The container's directory, which it is in.
    directory: File,
}

impl Listener {
    pub(crate) fn bind(directory: &Directory) -> Result<Self, OciError> {
        let bind = || -> io::Result<Self> {
            let (directory, path) = through(directory.path())?;
            Ok(Self { socket: UnixListener::bind(path)?, directory })
        };
        bind().map_err(OciError::io("make the socket that the container is started through"))
    }
}

/// Leaves a keeper for `control` behind. `runtime` is where it lives.
pub(crate) fn leave(
    proof: &SingleThreaded,
    listener: &Listener,
    control: Control,
    runtime: &RuntimeNamespaces,
) -> Result<(), OciError> {
    let child = clone_child(proof, CloneFlags::default(), |in_child| {
        let Listener { socket, directory } = listener;
        let mut kept = runtime.descriptors();
        kept.extend([control.as_fd(), socket.as_fd(), directory.as_fd()]);
        let settled = in_child.close_all_but(&kept).and_then(|()| settle(runtime));
        match settled {
            Ok(()) => keep(&control, listener),
            Err(_) => sys::exit_now(1),
        }
    });
    let failed = OciError::io("leave a process that keeps the container's socket");
    child.map(drop).map_err(failed)
}

/// Lets go of everything that is the caller's.
fn settle(runtime: &RuntimeNamespaces) -> io::Result<()> {
    runtime.enter()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    // It fails for the leader of a group only, which a new process is not.
    let _ = rustix::process::setsid();
    rustix::thread::set_name(c"isopod-keeper")?;
    Ok(rustix::process::chdir("/")?)
}

fn keep(control: &Control, listener: &Listener) -> Infallible {
    let Listener { socket, directory } = listener;
    loop {
        let mut ready =
            [PollFd::new(socket, PollFlags::IN), PollFd::new(control, PollFlags::empty())];
        if poll(&mut ready, None).is_err() {
            continue;
        }
        if !ready[1].revents().is_empty() {
            // The process has ended, so nobody can start it any more, and the socket tells nobody anything.
            sys::exit_now(0);
        }
        if let Ok((caller, _)) = socket.accept() {
            // From here on it is no longer waiting, whatever comes of it.
            let _ = unlinkat(directory, Directory::start_name(), AtFlags::empty());
            let answer = match start(control) {
                Ok(()) => STARTED.to_vec(),
                Err(error) => serde_json::to_vec(&error).unwrap_or_default(),
            };
            let mut caller = caller;
            let _ = caller.write_all(&answer);
            sys::exit_now(0);
        }
    }
}

/// Gives the order, and waits for what comes of it.
pub(crate) fn start(control: &Control) -> Result<(), LaunchError> {
    // A process that is gone is told by the end of its reports.
    let _ = control.start();
    loop {
        match control.report() {
            Report::Executed => return Ok(()),
            Report::Failed(error) => return Err(error),
            // All that comes before it has been said.
            Report::Ready { .. } | Report::AtHooks => {}
        }
    }
}

/// Has the keeper of a created container start it, which takes `hooks` longer than without them.
pub(crate) fn ask(directory: &Directory, hooks: Duration) -> Result<(), OciError> {
    let failed =
        || OciError::io::<io::Error>("reach the process that keeps the container's socket");
    let path = through(directory.path()).map_err(failed())?;
    let mut stream = UnixStream::connect(&path.1).map_err(failed())?;
    stream.set_read_timeout(Some(STARTS_WITHIN.saturating_add(hooks))).map_err(failed())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(failed())?;
    if answer == STARTED {
        return Ok(());
    }
    let error: LaunchError =
        serde_json::from_slice(&answer).map_err(OciError::json("the keeper's answer"))?;
    Err(error.into())
}

/// The socket by a path that is short whatever the directory's own is (unix(7) allows 107 bytes); the
/// descriptor has to live as long as the path is used.
fn through(directory: &Path) -> io::Result<(File, std::path::PathBuf)> {
    let dir = File::open(directory)?;
    let path = format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), Directory::start_name());
    Ok((dir, path.into()))
}
