//! Making a mounted tree the root of this process's mount namespace.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, UnmountFlags, move_mount, unmount};
use rustix::process::{chdir, fchdir, pivot_root};

use crate::error::Failure;

/// Gives the detached root a place in this namespace.
pub(crate) fn place_root(root: BorrowedFd<'_>, place: &Path) -> Result<(), Failure> {
    move_mount(root, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .map_err(Failure::at(format!("mount the root file system at {}", place.display())))
}

/// Makes `root`, which has its place already, the root; the old one and all below it is let go.
pub(crate) fn pivot_into(root: BorrowedFd<'_>) -> Result<(), Failure> {
    fchdir(root).map_err(Failure::at("enter the new root"))?;
    // With both names the same the old root ends up on top of the new one, at "/" (pivot_root(2)).
    pivot_root(".", ".").map_err(Failure::at("pivot into the new root"))?;
    unmount(".", UnmountFlags::DETACH).map_err(Failure::at("let go of the old root"))?;
    chdir("/").map_err(Failure::at("enter the new root"))
}
