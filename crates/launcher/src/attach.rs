//! Detached mounts: made without a place, attached by descriptor.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::AtFlags;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};
use rustix::path::Arg;
use sys::MountAttr;

use crate::error::Failure;
use crate::plan::Attributes;

/// Mounts a new instance of a file system, detached.
pub(crate) fn new_filesystem(
    kind: &str,
    source: &str,
    data: &[(String, Option<String>)],
    attributes: Attributes,
) -> Result<OwnedFd, Failure> {
    let at = |what: &str| format!("{what} a {kind} file system");
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC).map_err(Failure::at(at("open")))?;
    let context = context.as_fd();
    if !source.is_empty() {
        fsconfig_set_string(context, "source", source)
            .map_err(Failure::at(at("name the source of")))?;
    }
    for (name, value) in data {
        match value {
            Some(value) => fsconfig_set_string(context, name.as_str(), value.as_str()),
            None => fsconfig_set_flag(context, name.as_str()),
        }
        .map_err(Failure::at(format!("give the option {name} to a {kind} file system")))?;
    }
    fsconfig_create(context).map_err(Failure::at(at("make")))?;
    // The bits that fsmount knows are the same as mount_setattr's.
    let flags = MountAttrFlags::from_bits_retain(u32::try_from(attributes.set).unwrap_or(u32::MAX));
    fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, flags).map_err(Failure::at(at("mount")))
}

/// A detached copy of what is mounted at `path` below `dir`.
pub(crate) fn copy_of<P: Arg>(
    dir: BorrowedFd<'_>,
    path: P,
    recursive: bool,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags)
}

/// Changes flags of a mount.
pub(crate) fn change(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    recursive: bool,
) -> std::io::Result<()> {
    if attributes.is_empty() {
        return Ok(());
    }
    let attr =
        MountAttr { set: attributes.set, clear: attributes.clear, recursive, ..Default::default() };
    sys::set_mount_attr(mount, &attr)
}

/// Gives a detached mount its place.
pub(crate) fn attach(mount: BorrowedFd<'_>, place: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, "", place, "", flags)
}

/// Whether `fd` is open on the device node `major:minor`, and on no other file that was put there.
pub(crate) fn is_device(fd: BorrowedFd<'_>, major: u32, minor: u32) -> rustix::io::Result<bool> {
    let stat = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?;
    let is_char =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    Ok(is_char && stat.st_rdev == rustix::fs::makedev(major, minor))
}

/// PROC_SUPER_MAGIC of linux/magic.h.
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;
/// The inode of the root of every proc file system.
const PROC_ROOT: u64 = 1;

/// Whether `fd` is open on a file system of this kind (statfs(2)).
pub(crate) fn is_on(fd: BorrowedFd<'_>, magic: u64) -> rustix::io::Result<bool> {
    let found = rustix::fs::fstatfs(fd)?;
    Ok(u64::try_from(found.f_type).ok() == Some(magic))
}

/// Whether `fd` is open on the root of a proc file system.
pub(crate) fn is_proc(fd: BorrowedFd<'_>) -> rustix::io::Result<bool> {
    let inode = rustix::fs::statat(fd, "", AtFlags::EMPTY_PATH)?.st_ino;
    Ok(inode == PROC_ROOT && is_on(fd, PROC_MAGIC)?)
}
