//! User namespaces: making one, and what its ids are outside.
//!
//! Everything that needs the host's privileges (mounts, devices, limits) is done before a process enters
//! the namespace; entering is among its last steps, and takes every privilege over the host away.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use model::IdMapping;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    DumpableBehavior, Signal, WaitId, WaitIdOptions, pidfd_send_signal, set_dumpable_behavior,
    waitid,
};
use sys::{Child, CloneFlags, Namespaces, SingleThreaded, clone_child};

use crate::error::Failure;

/// How long a process that was killed may take to end.
const ENDING: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// A user namespace and whom its ids stand for.
#[derive(Debug, Clone, Copy)]
pub struct Users<'a> {
    /// The namespace.
    pub namespace: BorrowedFd<'a>,
    /// Users.
    pub uids: &'a [IdMapping],
    /// Groups.
    pub gids: &'a [IdMapping],
}

/// Namespaces that belong together: all of them but the user namespace are owned by it.
#[derive(Debug)]
pub struct OwnedNamespaces {
    /// The user namespace.
    pub users: OwnedFd,
    /// A network namespace, if one was asked for.
    pub network: Option<OwnedFd>,
    /// An IPC namespace, if one was asked for.
    pub ipc: Option<OwnedFd>,
    /// A UTS namespace, if one was asked for.
    pub uts: Option<OwnedFd>,
}

impl OwnedNamespaces {
    /// Those that the user namespace owns and that were asked for, with their kinds.
    pub fn owned(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Namespaces)> {
        let all = [
            (&self.network, Namespaces::NETWORK),
            (&self.ipc, Namespaces::IPC),
            (&self.uts, Namespaces::UTS),
        ];
        all.into_iter().filter_map(|(one, kind)| Some((one.as_ref()?.as_fd(), kind)))
    }
}

impl Users<'_> {
    /// Whom `root` inside stands for outside.
    pub(crate) fn root(self) -> (u32, u32) {
        // A mapping without root is odd but allowed; what is made then belongs to its first user.
        let first = |map: &[IdMapping]| map.first().map_or(0, |m| m.host_id);
        let (uid, gid) = (outside(self.uids, 0), outside(self.gids, 0));
        (uid.unwrap_or_else(|| first(self.uids)), gid.unwrap_or_else(|| first(self.gids)))
    }

    /// The user outside that `id` inside stands for.
    pub(crate) fn uid(self, id: u32) -> Result<u32, Failure> {
        outside(self.uids, id).ok_or_else(|| unmapped("user", id))
    }

    /// The group outside that `id` inside stands for.
    pub(crate) fn gid(self, id: u32) -> Result<u32, Failure> {
        outside(self.gids, id).ok_or_else(|| unmapped("group", id))
    }
}

fn outside(map: &[IdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|m| {
        let offset = id.checked_sub(m.container_id).filter(|offset| *offset < m.length)?;
        m.host_id.checked_add(offset)
    })
}

fn unmapped(kind: &str, id: u32) -> Failure {
    Failure::new(format!("find {kind} {id}"), "the user namespace has no such id")
}

/// The lines of /proc/PID/uid_map (user_namespaces(7)).
fn lines(map: &[IdMapping]) -> String {
    map.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.length)).collect()
}

/// Makes a user namespace with these mappings, and of the `others` those that it is asked for, owned by it.
/// This process stays where it is.
///
/// # Errors
/// What failed, and why; no process is left then.
pub fn new_user_namespace(
    proof: &SingleThreaded,
    uids: &[IdMapping],
    gids: &[IdMapping],
    others: Namespaces,
) -> Result<OwnedNamespaces, Failure> {
    if uids.is_empty() || gids.is_empty() {
        return Err(Failure::new("make a user namespace", "a mapping of users or groups is empty"));
    }
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(Failure::at("make a pipe"))?;
    let flags = CloneFlags { namespaces: Namespaces::USER.with(others), cgroup: None };
    let child = clone_child(proof, flags, |in_child| {
        // It lives until its parent closes the pipe or kills it.
        let _ = in_child.close_all_but(&[read.as_fd()]);
        let _ = rustix::io::read(&read, &mut [0]);
        sys::exit_now(0)
    })
    .map_err(Failure::at("make a user namespace"))?;
    let made = map_and_open(&child, uids, gids, others);
    drop(write);
    end(&child);
    made
}

/// The user namespace `users`, which is there, with its mappings of users and of groups, and of the `others` those that
/// it is asked for: new ones, owned by it. This process stays where it is.
///
/// # Errors
/// What failed, and why; no process is left then.
pub fn join_user_namespace(
    proof: &SingleThreaded,
    users: BorrowedFd<'_>,
    others: Namespaces,
) -> Result<(OwnedNamespaces, [Vec<IdMapping>; 2]), Failure> {
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(Failure::at("make a pipe"))
    };
    let ((read, write), (answer, tell)) = (pipe()?, pipe()?);
    let child = clone_child(proof, CloneFlags::default(), |in_child| {
        let joined = in_child
            .close_all_but(&[read.as_fd(), tell.as_fd(), users])
            // What is in there must not look into it.
            .and_then(|()| Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?))
            .and_then(|()| sys::join_namespace(users, Namespaces::USER))
            .and_then(|()| sys::unshare(others));
        let errno = joined.err().map_or(0, |e| e.raw_os_error().unwrap_or(i32::MAX));
        let _ = rustix::io::write(&tell, &errno.to_le_bytes());
        // It lives until its parent closes the pipe or kills it.
        let _ = rustix::io::read(&read, &mut [0]);
        sys::exit_now(0)
    })
    .map_err(Failure::at("make a process for the user namespace"))?;
    drop(tell);
    let made = joined(&answer).and_then(|()| {
        let proc = proc_of(&child)?;
        let maps = [mappings_in(&proc.join("uid_map"))?, mappings_in(&proc.join("gid_map"))?];
        Ok((open_owned(&proc, others)?, maps))
    });
    drop(write);
    end(&child);
    made
}

/// What the process in the namespace has told of the way there.
fn joined(answer: &OwnedFd) -> Result<(), Failure> {
    let at = || Failure::at("enter the user namespace");
    let mut errno = [0; 4];
    match rustix::io::read(answer, &mut errno).map_err(|e| at()(io::Error::from(e)))? {
        4 => match i32::from_le_bytes(errno) {
            0 => Ok(()),
            errno => Err(at()(io::Error::from_raw_os_error(errno))),
        },
        _ => Err(at()(io::Error::other("its process has ended"))),
    }
}

fn mappings_in(file: &Path) -> Result<Vec<IdMapping>, Failure> {
    let what = || format!("read {}", file.display());
    let text = std::fs::read_to_string(file).map_err(Failure::at(what()))?;
    parse(&text)
        .filter(|map| !map.is_empty())
        .ok_or_else(|| Failure::new(what(), "the user namespace has no mappings"))
}

/// The opposite of [`lines`].
fn parse(text: &str) -> Option<Vec<IdMapping>> {
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten();
        Some(IdMapping { container_id: next()?, host_id: next()?, length: next()? })
    };
    text.lines().map(line).collect()
}

fn map_and_open(
    child: &Child,
    uids: &[IdMapping],
    gids: &[IdMapping],
    others: Namespaces,
) -> Result<OwnedNamespaces, Failure> {
    let proc = proc_of(child)?;
    let set = |file: &str, map| {
        std::fs::write(proc.join(file), lines(map))
            .map_err(Failure::at(format!("set the user namespace's {file}")))
    };
    set("gid_map", gids)?;
    set("uid_map", uids)?;
    open_owned(&proc, others)
}

/// The directory of `child` in the proc file system that is seen here. That may be of another PID namespace than this
/// process's own, as it is while a container sets itself up: then its number there is another one
/// (proc_pid_fdinfo(5)).
fn proc_of(child: &Child) -> Result<PathBuf, Failure> {
    let info = format!("/proc/self/fdinfo/{}", child.pidfd.as_raw_fd());
    let text = std::fs::read_to_string(&info).map_err(Failure::at(format!("read {info}")))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    let number = number.and_then(|number| number.trim().parse::<u32>().ok()).filter(|n| *n > 0);
    let number =
        number.ok_or_else(|| Failure::new(format!("read {info}"), "the process is not seen"))?;
    Ok(PathBuf::from(format!("/proc/{number}")))
}

/// The user namespace of the process with the directory `proc`, and those of the `others`.
fn open_owned(proc: &Path, others: Namespaces) -> Result<OwnedNamespaces, Failure> {
    let open = |name: &str| {
        let file = File::open(proc.join("ns").join(name));
        file.map(OwnedFd::from).map_err(Failure::at(format!("open the {name} namespace")))
    };
    let wanted = |kind, name| others.contains(kind).then(|| open(name)).transpose();
    Ok(OwnedNamespaces {
        users: open("user")?,
        network: wanted(Namespaces::NETWORK, "net")?,
        ipc: wanted(Namespaces::IPC, "ipc")?,
        uts: wanted(Namespaces::UTS, "uts")?,
    })
}

/// Kills a child that waits for nothing else, and waits for it, a bounded time: a process that the kernel
/// holds longer is left to whoever reaps.
pub(crate) fn end(child: &Child) {
    let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
    let mut ready = [PollFd::new(&child.pidfd, PollFlags::IN)];
    if let Ok(1) = poll(&mut ready, Some(&ENDING)) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), options);
    }
}

/// A user namespace for a mount with mappings of its own.
pub(crate) fn for_mount(
    proof: &SingleThreaded,
    uids: &[IdMapping],
    gids: &[IdMapping],
) -> Result<OwnedFd, Failure> {
    new_user_namespace(proof, uids, gids, Namespaces::NONE).map(|made| made.users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_inside_has_one_outside_or_none() {
        let map = [
            IdMapping { container_id: 0, host_id: 100_000, length: 1000 },
            IdMapping { container_id: 5000, host_id: 7, length: 1 },
        ];
        for (inside, expected) in [
            (0, Some(100_000)),
            (999, Some(100_999)),
            (1000, None),
            (5000, Some(7)),
            (5001, None),
            (u32::MAX, None),
        ] {
            assert_eq!(outside(&map, inside), expected, "{inside}");
        }
        assert_eq!(lines(&map), "0 100000 1000\n5000 7 1\n");
        assert_eq!(
            parse("         0     100000       1000\n      5000          7          1\n").unwrap(),
            map
        );
        assert_eq!((parse("0 1"), parse("0 1 x\n"), parse("")), (None, None, Some(Vec::new())));
    }
}
