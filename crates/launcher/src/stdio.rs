//! Standard streams of a process to be.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use runtime_spec::ConsoleSize;
use rustix::fs::{FileType, Gid, OFlags, ResolveFlags, Uid, fchown};
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::attach::{attach, copy_of, is_device};
use crate::error::Failure;
use crate::paths::{Links, Missing, Owner, ensure_in, kind_of, open_beneath};
use crate::plan::ProcessPlan;

/// What a process gets as its standard streams.
#[derive(Debug, Clone, Copy)]
pub enum ChildStdio<'fd> {
    /// Three descriptors, for example ends of pipes.
    Streams {
        /// Standard input.
        stdin: BorrowedFd<'fd>,
        /// Standard output.
        stdout: BorrowedFd<'fd>,
        /// Standard error.
        stderr: BorrowedFd<'fd>,
    },
    /// A new terminal of the container, whose other end the launcher gets.
    Terminal,
}

impl<'fd> ChildStdio<'fd> {
    /// The descriptors in it.
    pub(crate) fn descriptors(self) -> impl Iterator<Item = BorrowedFd<'fd>> {
        let streams = match self {
            Self::Streams { stdin, stdout, stderr } => vec![stdin, stdout, stderr],
            Self::Terminal => Vec::new(),
        };
        streams.into_iter()
    }
}

/// Makes three descriptors the standard streams. Pipes are given to `uid`, so that it can open
/// /dev/stdout and the like again.
pub(crate) fn use_streams(streams: [BorrowedFd<'_>; 3], uid: u32) -> Result<(), Failure> {
    let [stdin, stdout, stderr] = streams;
    for stream in streams {
        if kind_of(stream).map_err(Failure::at("look at a standard stream"))? == FileType::Fifo {
            fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>)
                .map_err(Failure::at("give a standard stream to the user"))?;
        }
    }
    let done =
        dup2_stdin(stdin).and_then(|()| dup2_stdout(stdout)).and_then(|()| dup2_stderr(stderr));
    done.map_err(Failure::at("set up the standard streams"))
}

/// What becomes of /dev/console.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Console {
    /// It is the new terminal; the directory entry that is made for it belongs to this owner.
    Attach(Owner),
    /// It stays what it is.
    Keep,
}

/// Opens a terminal in the devpts of `root`, makes it the standard streams and, where that is asked for,
/// /dev/console, and returns its other end. The process that is to have it takes it over with
/// [`begin_session`].
pub(crate) fn use_terminal(
    root: BorrowedFd<'_>,
    size: ConsoleSize,
    uid: u32,
    console: Console,
) -> Result<OwnedFd, Failure> {
    let at = Failure::at::<rustix::io::Errno>;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY;
    let master = open_beneath(root, Path::new("dev/pts/ptmx"), flags, resolve)
        .map_err(at("open the container's /dev/pts/ptmx"))?;
    if !is_device(master.as_fd(), 5, 2).map_err(at("look at /dev/pts/ptmx"))? {
        return Err(Failure::new(
            "open the container's /dev/pts/ptmx",
            "it is not the terminal multiplexer",
        ));
    }
    unlockpt(&master).map_err(at("unlock the terminal"))?;
    let peer_flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&master, peer_flags).map_err(at("open the terminal"))?;
    let winsize = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, winsize).map_err(at("set the terminal's size"))?;
    fchown(&terminal, Some(Uid::from_raw(uid)), None::<Gid>)
        .map_err(at("give the terminal to the user"))?;
    if let Console::Attach(owner) = console {
        let place = Path::new("/dev/console");
        let console = ensure_in(root, place, Missing::File, Links::Refuse, owner)?;
        let copy = copy_of(terminal.as_fd(), "", false).map_err(at("copy the terminal's mount"))?;
        attach(copy.as_fd(), console.as_fd()).map_err(at("attach /dev/console"))?;
    }
    let done = dup2_stdin(&terminal)
        .and_then(|()| dup2_stdout(&terminal))
        .and_then(|()| dup2_stderr(&terminal));
    done.map_err(at("set up the standard streams"))?;
    Ok(master)
}

/// Begins a session, and takes the terminal on standard input as the controlling one if there is one.
pub(crate) fn begin_session(process: &ProcessPlan) -> Result<(), Failure> {
    setsid().map(drop).map_err(Failure::at("begin a session"))?;
    if process.terminal.is_some() {
        ioctl_tiocsctty(rustix::stdio::stdin())
            .map_err(Failure::at("make it the controlling terminal"))?;
    }
    Ok(())
}
