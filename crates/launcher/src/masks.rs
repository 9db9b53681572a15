//! Paths that a container must not see, or not change.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use sys::MountAttr;

use crate::attach::{attach, change, copy_of, is_device, new_filesystem};
use crate::error::Failure;
use crate::paths::{Links, kind_of, open_in};
use crate::plan::Attributes;

const READ_ONLY: Attributes = Attributes { set: MountAttr::READ_ONLY, clear: 0 };

/// Hides `paths` below `root`: files behind the null device, directories behind an empty one.
/// A path that is not there is left alone.
pub(crate) fn hide(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), Failure> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = host_null()?;
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let at = |what: &str| format!("hide {}: {what}", path.display());
        let Some(place) = existing(root, path)? else { continue };
        let is_directory =
            kind_of(place.as_fd()).map_err(Failure::at(at("look at it")))? == FileType::Directory;
        let cover = match (&empty, is_directory) {
            (_, false) => copy_of(null.as_fd(), "", false),
            // Linux before 6.15 copies only what has a place, as the first cover has by now.
            (Some(first), true) => copy_of(first.as_fd(), "", false),
            (None, true) => Ok(new_filesystem("tmpfs", "tmpfs", &[], READ_ONLY)?),
        };
        let cover = cover.map_err(Failure::at(at("make the cover")))?;
        attach(cover.as_fd(), place.as_fd()).map_err(Failure::at(at("attach the cover")))?;
        if is_directory {
            empty.get_or_insert(cover);
        }
    }
    Ok(())
}

/// Makes `paths` below `root` read-only. A path that is not there is left alone.
pub(crate) fn protect(root: BorrowedFd<'_>, paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        let at = |what: &str| format!("make {} read-only: {what}", path.display());
        let Some(place) = existing(root, path)? else { continue };
        let copy = copy_of(place.as_fd(), "", true).map_err(Failure::at(at("copy the mount")))?;
        change(copy.as_fd(), READ_ONLY, true).map_err(Failure::at(at("set the flag")))?;
        attach(copy.as_fd(), place.as_fd()).map_err(Failure::at(at("attach it")))?;
    }
    Ok(())
}

fn existing(root: BorrowedFd<'_>, path: &Path) -> Result<Option<OwnedFd>, Failure> {
    match open_in(root, path, Links::Inside) {
        Err(Errno::NOTDIR) => Ok(None),
        other => {
            other.map_err(Failure::at(format!("open {} in the root file system", path.display())))
        }
    }
}

/// The host's null device, found out to be it.
fn host_null() -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let null = rustix::fs::openat(CWD, "/dev/null", flags, Mode::empty())
        .map_err(Failure::at("open /dev/null"))?;
    if is_device(null.as_fd(), 1, 3).map_err(Failure::at("look at /dev/null"))? {
        Ok(null)
    } else {
        Err(Failure::new("open /dev/null", "it is not the null device"))
    }
}
