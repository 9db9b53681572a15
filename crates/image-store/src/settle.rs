//! A layer gets from the layers below what its own archive does not say.
//!
//! Layers are unpacked in parallel and in any order, so directories that an archive only implies
//! could not look like those below yet, and nobody knew whether there is something to hide. Settling
//! may be cut and begun again: it ends the same.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::copy::copy_attributes;
use crate::layout::open_dir;
use crate::merged::MergedDir;
use crate::overlay::{self, Existing, existing};
use crate::pending::Pending;

/// Settles the layer whose files are in `own`; `below` are the layers under it.
pub(crate) fn settle(own: &OwnedFd, below: &MergedDir, pending: &Pending) -> io::Result<()> {
    if pending.is_root_opaque {
        hide_all(own, below)?;
    }
    for path in &pending.whiteouts {
        keep_if_needed(own, below, path)?;
    }
    for path in &pending.implied {
        let Some((directory, is_own)) = open_own(own, path)? else { continue };
        // Under an opaque directory nothing of the layers below shows.
        if is_own || (pending.is_root_opaque && path.as_os_str().is_empty()) {
            continue;
        }
        let Some(lower) = below.directory(path)? else { continue };
        if let Some(top) = lower.top() {
            copy_attributes(top, &directory)?;
            rustix::fs::fsync(&directory)?;
        }
    }
    Ok(())
}

/// Hides every name below that the layer does not have, because a root cannot be opaque.
fn hide_all(own: &OwnedFd, below: &MergedDir) -> io::Result<()> {
    for name in below.names()? {
        match existing(own, &name)? {
            Existing::Nothing => overlay::make_whiteout(own, &name)?,
            Existing::Directory => overlay::set_opaque(&open_dir(own, &name)?)?,
            Existing::Whiteout | Existing::Symlink | Existing::Other => {}
        }
    }
    overlay::clear_opaque(own)?;
    rustix::fs::fsync(own)?;
    Ok(())
}

/// Removes a whiteout that hides nothing: overlayfs would list it in a directory of one layer alone.
fn keep_if_needed(own: &OwnedFd, below: &MergedDir, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let Some((directory, is_own)) = open_own(own, parent)? else { return Ok(()) };
    if existing(&directory, name)? != Existing::Whiteout {
        return Ok(());
    }
    let hides = !is_own
        && match below.directory(parent)? {
            Some(lower) => lower.lookup(name)?.is_some(),
            None => false,
        };
    if !hides {
        unlinkat(&directory, name, AtFlags::empty())?;
        rustix::fs::fsync(&directory)?;
    }
    Ok(())
}

/// The layer's own directory at `path`, and whether it or one above it is opaque. `None` where it is
/// gone.
fn open_own(own: &OwnedFd, path: &Path) -> io::Result<Option<(OwnedFd, bool)>> {
    let mut at = own.try_clone()?;
    let mut is_opaque = false;
    for name in path {
        at = match open_dir(&at, name) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        is_opaque |= overlay::is_opaque(&at)?;
    }
    Ok(Some((at, is_opaque)))
}
