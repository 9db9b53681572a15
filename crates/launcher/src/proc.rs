//! The proc file system of a PID namespace that this process is not in.

use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount, fsopen,
};
use sys::Namespaces;

use crate::attach::{copy_of, is_proc};
use crate::create::ProcSource;
use crate::error::Failure;
use crate::paths::open_beneath;

/// Lets the children to come of this process be born in the PID namespace of `process`, and returns a
/// detached mount of the proc file system of that namespace.
pub(crate) fn of_home(process: BorrowedFd<'_>, source: ProcSource<'_>) -> Result<OwnedFd, Failure> {
    sys::join_namespaces_of(process, Namespaces::PID)
        .map_err(Failure::at("enter the PID namespace"))?;
    let tree = match source {
        ProcSource::At(place) => {
            copy_of(CWD, place, false).map_err(Failure::at("copy the pod's proc file system"))?
        }
        ProcSource::OfProcess => match of_children() {
            Ok(tree) => tree,
            Err(_) => copy_from(process)?,
        },
    };
    if is_proc(tree.as_fd()).map_err(Failure::at("look at the shared proc file system"))? {
        Ok(tree)
    } else {
        Err(Failure::new("take the shared proc file system", "it is not the root of one"))
    }
}

/// A new one of the namespace that this process's children are for (Linux 6.18, `pidns`).
fn of_children() -> std::io::Result<OwnedFd> {
    let namespace = File::open("/proc/self/ns/pid_for_children")?;
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_fd(context.as_fd(), "pidns", namespace.as_fd())?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?)
}

/// A copy of the one that is mounted at /proc for `process`, without what is mounted on top of it.
fn copy_from(process: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let at = |what: &str| format!("{what} the process whose PID namespace is shared");
    let own = File::open("/proc/self/ns/mnt").map_err(Failure::at("open this mount namespace"))?;
    sys::join_namespaces_of(process, Namespaces::MOUNT)
        .map_err(Failure::at(at("enter the mounts of")))?;
    // Entering has made the root of those mounts this process's root; nothing in it is trusted.
    let copy = || -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let root = rustix::fs::open("/", flags | OFlags::CLOEXEC, Mode::empty())?;
        let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
        let found = open_beneath(root.as_fd(), Path::new("proc"), flags, how)?;
        copy_of(found.as_fd(), "", false)
    };
    let copied = copy();
    sys::join_namespace(own.as_fd(), Namespaces::MOUNT)
        .map_err(Failure::at("come back from the mounts"))?;
    copied.map_err(Failure::at(at("copy the proc file system of")))
}
