//! Copies attributes and trees.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr,
    flistxattr, fsetxattr, fstat, futimens,
};
use rustix::io::Errno;

use crate::layout::open_dir;
use crate::merged::{MergedDir, Node};
use crate::overlay;

/// Directories inside each other that are copied: each takes descriptors while it is.
const MAX_DEPTH: usize = 128;

/// Owner, mode, extended attributes and times.
pub(crate) fn copy_attributes(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    let stat = fstat(from)?;
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    futimens(to, &times_of(&stat))?;
    Ok(())
}

/// The times of a file.
pub(crate) fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds: i64, nanos: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_mtime, stat.st_mtime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    for (name, value) in xattrs(from)? {
        match fsetxattr(to, name.as_slice(), &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(())
}

/// The extended attributes that an image may have, sorted by name.
pub(crate) fn xattrs(fd: &OwnedFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    // The kernel's limits: 64 KiB for the list, 64 KiB for a value.
    let mut list = vec![0_u8; 64 << 10];
    let length = match flistxattr(fd, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut all = Vec::new();
    for name in list[..length].split(|b| *b == 0).filter(|n| overlay::is_image_attribute(n)) {
        let mut value = vec![0_u8; 64 << 10];
        match fgetxattr(fd, name, &mut value[..]) {
            Ok(n) => {
                value.truncate(n);
                all.push((name.to_vec(), value));
            }
            Err(Errno::NODATA) => {}
            Err(e) => return Err(e.into()),
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// Copies what is in `from` into the empty directory `to`, with owners, modes and times; at last
/// those of `from` itself.
pub(crate) fn copy_merged(from: &MergedDir, to: &OwnedFd) -> io::Result<()> {
    copy_level(from, to, 0)
}

fn copy_level(from: &MergedDir, to: &OwnedFd, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the tree is too deep to be copied"));
    }
    for name in from.names()? {
        match from.lookup(&name)? {
            None => {}
            Some(Node::Directory(directory)) => {
                rustix::fs::mkdirat(to, &name, Mode::RWXU)?;
                copy_level(&directory, &open_dir(to, &name)?, depth + 1)?;
            }
            Some(Node::Other { parent, name, stat }) => copy_other(&parent, &name, &stat, to)?,
        }
    }
    match from.top() {
        Some(top) => copy_attributes(top, to),
        None => Ok(()),
    }
}

fn copy_other(
    parent: &OwnedFd,
    name: &OsStr,
    stat: &rustix::fs::Stat,
    to: &OwnedFd,
) -> io::Result<()> {
    use rustix::fs::{FileType as F, OFlags};
    let kind = F::from_raw_mode(stat.st_mode);
    if kind == F::RegularFile {
        let Some(mut source) = crate::merged::open_file(parent, name)? else { return Ok(()) };
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(to, name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = std::fs::File::from(fd);
        io::copy(&mut source, &mut file)?;
        return copy_attributes(&source.into(), &file.into());
    }
    if kind == F::Symlink {
        let target = rustix::fs::readlinkat(parent, name, Vec::new())?;
        rustix::fs::symlinkat(&target, to, name)?;
    } else {
        rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev)?;
    }
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if kind != F::Symlink {
        // Made here a moment ago, in a directory that no container has yet.
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    rustix::fs::utimensat(to, name, &times_of(stat), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}
