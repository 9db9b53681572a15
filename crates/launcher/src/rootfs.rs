//! The root file system: an overlay, mounted where nobody sees it yet.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use model::Rootfs;
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    move_mount, open_tree,
};

use crate::error::Failure;

/// The longest data that mount(2) takes, one page.
const MAX_MOUNT_DATA: usize = 4095;

/// Mounts `rootfs` detached: it has no place in any mount namespace until somebody gives it one.
///
/// `staging` is an empty directory, used on kernels before 6.5 for an instant.
pub(crate) fn mount_detached(rootfs: &Rootfs, staging: &Path) -> Result<OwnedFd, Failure> {
    if let ([only], None) = (rootfs.lower.as_slice(), &rootfs.upper) {
        // overlayfs wants two layers; one read-only layer is a bind mount.
        let tree =
            open_tree(CWD, only, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .map_err(Failure::at(format!("open the layer {}", only.display())))?;
        let read_only = sys::MountAttr { set: sys::MountAttr::READ_ONLY, ..Default::default() };
        sys::set_mount_attr(tree.as_fd(), &read_only)
            .map_err(Failure::at("make the only layer read-only"))?;
        return Ok(tree);
    }
    match mount_by_parts(rootfs) {
        // `lowerdir+` came with Linux 6.5.
        Err(failure) if failure.source.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            mount_by_page(rootfs, staging)
        }
        other => other,
    }
}

/// Mounts `rootfs` at the directory `place` of this mount namespace, for a runtime that wants a path.
///
/// # Errors
/// What failed, and why.
pub fn mount_rootfs_at(rootfs: &Rootfs, place: &Path) -> Result<(), Failure> {
    let tree = mount_detached(rootfs, place)?;
    move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Failure::at(format!("mount the root file system at {}", place.display())))
}

fn mount_by_parts(rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(Failure::at("open an overlay context"))?;
    let set = |key: &str, value: &Path| {
        fsconfig_set_string(context.as_fd(), key, value)
            .map_err(Failure::at(format!("set the overlay's {key} to {}", value.display())))
    };
    for lower in &rootfs.lower {
        set("lowerdir+", lower)?;
    }
    if let Some((upper, work)) = &rootfs.upper {
        set("upperdir", upper)?;
        set("workdir", work)?;
        // The upper directory dies with its container, so nothing in it has to reach the disk.
        fsconfig_set_flag(context.as_fd(), "volatile")
            .map_err(Failure::at("make the overlay volatile"))?;
    }
    fsconfig_create(context.as_fd()).map_err(Failure::at("mount the overlay"))?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .map_err(Failure::at("mount the overlay"))
}

/// With the options in one page, as mount(2) has always taken them.
fn mount_by_page(rootfs: &Rootfs, staging: &Path) -> Result<OwnedFd, Failure> {
    let mut data = OsString::from("lowerdir=");
    for (i, lower) in rootfs.lower.iter().enumerate() {
        if i > 0 {
            data.push(":");
        }
        data.push(lower);
    }
    if let Some((upper, work)) = &rootfs.upper {
        data.push(",upperdir=");
        data.push(upper);
        data.push(",workdir=");
        data.push(work);
        data.push(",volatile");
    }
    if data.len() > MAX_MOUNT_DATA {
        let why = format!("{} layers need Linux 6.5 or shorter paths", rootfs.lower.len());
        return Err(Failure::new("mount the overlay", why));
    }
    let data = std::ffi::CString::new(data.as_bytes())
        .map_err(|e| Failure::new("mount the overlay", e.to_string()))?;
    rustix::mount::mount("overlay", staging, "overlay", MountFlags::empty(), data.as_c_str())
        .map_err(Failure::at("mount the overlay"))?;
    let tree =
        open_tree(CWD, staging, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    let unmounted = rustix::mount::unmount(staging, UnmountFlags::DETACH);
    let tree = tree.map_err(Failure::at("take the overlay from its staging place"))?;
    unmounted.map_err(Failure::at("clear the overlay's staging place"))?;
    Ok(tree)
}
