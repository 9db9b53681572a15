//! The least that a container can cost: the system calls that make it what it is, and nothing else. No plan, no
//! checks, no reports; what fails ends the child with a code that fails the measurement.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, makedev, mknodat, symlinkat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsmount, fsopen, move_mount, open_tree, unmount,
};
use rustix::process::{DumpableBehavior, chdir, fchdir, pivot_root, set_dumpable_behavior, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use sys::{Child, CloneFlags, Namespaces, clone_child};

use crate::launcher::{Ground, wait};

/// Paths that a container must not see, and those that it must not change.
const MASKED: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"];
const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// A container from nothing to nothing.
pub fn container(ground: &Ground) {
    let cgroup = ground.cgroup();
    let way = cgroup.entrance().expect("a cgroup can be opened").expect("it is no scope");
    let doors = way.take_doors().expect("nobody has taken them");
    let namespaces = [Namespaces::MOUNT, Namespaces::NETWORK, Namespaces::IPC, Namespaces::UTS]
        .into_iter()
        .fold(Namespaces::PID, Namespaces::with);
    let flags = CloneFlags { namespaces, cgroup: way.birth() };
    let child = clone_child(&ground.proof, flags, |in_child| {
        let kept: Vec<_> = doors.descriptors().chain([ground.null.as_fd()]).collect();
        let closed = in_child.close_all_but(&kept);
        drop(kept);
        let why = match closed.and_then(|()| doors.enter()).and_then(|()| set_up(ground)) {
            Ok(never) => match never {},
            Err(why) => why,
        };
        sys::exit_now(why.raw_os_error().unwrap_or(1))
    });
    let Child { pidfd, .. } = child.expect("a process can be made");
    wait(&pidfd);
    cgroup.remove().expect("the cgroup goes");
}

fn set_up(ground: &Ground) -> io::Result<Infallible> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let root = ground.bundle.rootfs();
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &root, clone)?;
    let place = ground.bundle.path().join("place");
    move_mount(&tree, "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let at = |path: &str| place.join(path.trim_start_matches('/'));
    for (kind, path) in [("proc", "proc"), ("tmpfs", "dev"), ("sysfs", "sys")] {
        mount(kind, &at(path))?;
    }
    for (name, major, minor) in NODES {
        let mode = Mode::from_raw_mode(0o666);
        mknodat(CWD, at("dev").join(name), FileType::CharacterDevice, mode, makedev(major, minor))?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlinkat(to, CWD, at("dev").join(name))?;
    }
    for (kind, path) in [("devpts", "dev/pts"), ("tmpfs", "dev/shm"), ("mqueue", "dev/mqueue")] {
        std::fs::create_dir(at(path))?;
        mount(kind, &at(path))?;
    }
    for path in READ_ONLY.iter().filter(|path| at(path).exists()) {
        let copy = open_tree(CWD, at(path), clone)?;
        let attr = sys::MountAttr { set: sys::MountAttr::READ_ONLY, ..Default::default() };
        sys::set_mount_attr(copy.as_fd(), &attr)?;
        move_mount(&copy, "", CWD, at(path), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    }
    for path in MASKED.iter().filter(|path| at(path).exists()) {
        if at(path).is_dir() {
            mount("tmpfs", &at(path))?;
        } else {
            let copy = open_tree(CWD, at("dev/null"), clone)?;
            move_mount(&copy, "", CWD, at(path), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
    }
    rustix::system::sethostname(b"bundle")?;
    sys::unshare(Namespaces::CGROUP)?;
    fchdir(&tree)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    become_true(ground)
}

fn mount(kind: &str, place: &std::path::Path) -> io::Result<()> {
    if !place.exists() {
        std::fs::create_dir(place)?;
    }
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let made = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    Ok(move_mount(&made, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// The streams, the identity, the filter, the program.
fn become_true(ground: &Ground) -> io::Result<Infallible> {
    rustix::stdio::dup2_stdin(&ground.null)?;
    rustix::stdio::dup2_stdout(&ground.null)?;
    rustix::stdio::dup2_stderr(&ground.null)?;
    setsid()?;
    sys::close_on_exec_from(3)?;
    // CHOWN, DAC_OVERRIDE, KILL, SETGID, SETUID.
    let some = CapabilitySet::from_bits_retain(0b1110_0011);
    let none = CapabilitySet::empty();
    set_no_new_privs(true)?;
    set_capabilities(None, CapabilitySets { effective: some, permitted: some, inheritable: none })?;
    sys::install_filter(&ground.filter.program, ground.filter.flags)?;
    let args = [CString::from(c"true")];
    Err(sys::exec(c"/bin/true", &args, &[CString::from(c"PATH=/bin")]))
}

/// One more process in a container that runs.
pub fn exec(ground: &Ground, container: &OwnedFd) {
    let child = clone_child(&ground.proof, CloneFlags::default(), |in_child| {
        let entered = in_child.close_all_but(&[container.as_fd(), ground.null.as_fd()]);
        let entered = entered.and_then(|()| {
            let kinds = [
                Namespaces::MOUNT,
                Namespaces::NETWORK,
                Namespaces::IPC,
                Namespaces::UTS,
                Namespaces::CGROUP,
            ];
            let all = kinds.into_iter().fold(Namespaces::PID, Namespaces::with);
            sys::join_namespaces_of(container.as_fd(), all)
        });
        let code = match entered.and_then(|()| inner(ground)) {
            Ok(code) => code,
            Err(why) => why.raw_os_error().unwrap_or(1),
        };
        sys::exit_now(code)
    });
    wait(&child.expect("a process can be made").pidfd);
}

/// The process in the PID namespace, and its end.
fn inner(ground: &Ground) -> io::Result<i32> {
    let child = clone_child(&ground.proof, CloneFlags::default(), |_| {
        let why = match become_true(ground) {
            Ok(never) => match never {},
            Err(why) => why,
        };
        sys::exit_now(why.raw_os_error().unwrap_or(1))
    })?;
    loop {
        if let Some(code) = sys::wait_exit(child.pidfd.as_fd())? {
            return Ok(code);
        }
        let mut ready = [rustix::event::PollFd::new(&child.pidfd, rustix::event::PollFlags::IN)];
        let _ = rustix::event::poll(&mut ready, None);
    }
}
