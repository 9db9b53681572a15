//! The first process of a PID namespace that a pod's containers share: it reaps, and nothing else.
//!
//! Always: containers see it, and one with CAP_SYS_PTRACE can take it over, so it has nothing that they
//! have not: no capabilities, no descriptors, an empty root of its own.

use std::convert::Infallible;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, mount_change, move_mount, unmount,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Signal, WaitIdOptions, set_parent_process_death_signal, waitid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
};
use sys::{Child, CloneFlags, Namespaces, SingleThreaded, clone_child};

const NAME: &CStr = c"isopod-init";
/// How long it may take to be ready.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Starts it in a new PID namespace, whose proc file system it mounts at `proc` in this mount namespace.
/// When the monitor ends it is killed, and everything in its namespace with it.
pub fn start(proof: &SingleThreaded, proc: &Path, users: Option<&OwnedFd>) -> io::Result<Child> {
    make_directory(proc)?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let flags = CloneFlags { namespaces: Namespaces::PID, cgroup: None };
    let child = clone_child(proof, flags, |in_child| {
        let kept = users.map(AsFd::as_fd);
        let set_up = in_child
            .close_all_but(&[Some(write.as_fd()), kept].into_iter().flatten().collect::<Vec<_>>())
            .and_then(|()| give_everything_up(proc, users));
        let word = match set_up {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().unwrap_or(i32::MAX),
        };
        let _ = rustix::io::write(&write, &word.to_ne_bytes());
        if word != 0 {
            sys::exit_now(1);
        }
        let _ = in_child.close_all_but(&[]);
        reap_forever()
    })?;
    drop(write);
    wait_until_ready(&read).inspect_err(|_| crate::monitor::kill(&child.pidfd))?;
    Ok(child)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn wait_until_ready(read: &OwnedFd) -> io::Result<()> {
    let mut ready = [PollFd::new(read, PollFlags::IN)];
    let mut word = [0; 4];
    if poll(&mut ready, Some(&PATIENCE))? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    match rustix::io::read(read, &mut word)? {
        4 => match i32::from_ne_bytes(word) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        },
        _ => Err(io::Error::other("it has ended")),
    }
}

/// Mounts the proc file system for others, then gives up all that containers have not.
fn give_everything_up(proc: &Path, users: Option<&OwnedFd>) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    sys::reset_signals();
    let own_proc = new_filesystem(
        "proc",
        MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    move_mount(&own_proc, "", CWD, proc, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    drop(own_proc);
    enter_empty_root(proc)?;
    if let Some(users) = users {
        sys::join_namespace(users.as_fd(), Namespaces::USER)?;
    }
    for number in 0..u64::BITS {
        if remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number))
            .is_err()
        {
            break;
        }
    }
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // The standard streams lead to the monitor's log.
    let null = new_null_streams()?;
    drop(null);
    rustix::thread::set_name(NAME)?;
    Ok(())
}

fn new_filesystem(kind: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// `place` is any directory; the empty root covers it in a mount namespace of this process's own.
fn enter_empty_root(place: &Path) -> io::Result<()> {
    sys::unshare(Namespaces::MOUNT)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let empty = new_filesystem(
        "tmpfs",
        MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NODEV,
    )?;
    move_mount(&empty, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&empty)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(rustix::process::chdir("/")?)
}

/// Makes the standard streams ends of a pipe that nobody reads or writes.
fn new_null_streams() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(&read)?;
    rustix::stdio::dup2_stdout(&write)?;
    rustix::stdio::dup2_stderr(&write)?;
    Ok((read, write))
}

fn reap_forever() -> Infallible {
    let Ok(signals) = sys::child_signals() else { sys::exit_now(1) };
    loop {
        let mut ready = [PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN)];
        let _ = poll(&mut ready, None);
        let mut drop_them = [0; 1024];
        let _ = rustix::io::read(&signals, &mut drop_them);
        while let Ok(Some(_)) =
            waitid(rustix::process::WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
        {
        }
    }
}
