//! What an entry becomes, once its directory is open.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat, fchmod,
    fchown, fsetxattr, fstat, makedev, mknodat, utimensat,
};
use rustix::io::Errno;

use super::{Fault, Place, cannot};
use crate::overlay;
use crate::tar::Entry;

/// The bits that let a program run as its owner or group.
const SET_ID: u32 = 0o6000;

pub(super) fn node(
    parent: &Place,
    name: &OsStr,
    entry: &Entry,
    kind: FileType,
) -> Result<(), Fault> {
    let (uid, gid) = owner(entry)?;
    let device = makedev(entry.device.0, entry.device.1);
    if kind == FileType::CharacterDevice && device == 0 {
        return Err(Fault::Bad("the device 0:0 is how overlayfs hides files"));
    }
    mknodat(&parent.fd, name, kind, Mode::RUSR | Mode::WUSR, device)
        .map_err(cannot("make a device or pipe"))?;
    chownat(&parent.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(cannot("set the owner of a device or pipe"))?;
    // It was made here a moment ago, below a directory that only this program enters: no link.
    chmodat(&parent.fd, name, Mode::from_raw_mode(entry.mode & 0o7777), AtFlags::empty())
        .map_err(cannot("set the mode of a device or pipe"))?;
    utimensat(&parent.fd, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(cannot("set the time of a device or pipe"))
}

/// Owner, mode and extended attributes, in this order: a new owner takes setuid and capabilities away.
pub(super) fn attributes(fd: &OwnedFd, entry: &Entry) -> Result<(), Fault> {
    let (uid, gid) = owner(entry)?;
    let mode = entry.mode & 0o7777;
    // A look is cheaper than a change, which the file system writes into its journal, and most files are root's.
    let stat = fstat(fd).map_err(cannot("look at what was made"))?;
    let is_others = (stat.st_uid, stat.st_gid) != (uid.as_raw(), gid.as_raw());
    if is_others {
        fchown(fd, Some(uid), Some(gid)).map_err(cannot("set the owner"))?;
    }
    if stat.st_mode & 0o7777 != mode || (is_others && mode & SET_ID != 0) {
        fchmod(fd, Mode::from_raw_mode(mode)).map_err(cannot("set the mode"))?;
    }
    for (name, value) in &entry.xattrs {
        if !overlay::is_image_attribute(name) {
            continue;
        }
        match fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
            // A file system without attributes of this kind; the file is of use without.
            Ok(()) | Err(Errno::NOTSUP) => {}
            Err(e) => return Err(cannot("set an extended attribute")(e)),
        }
    }
    Ok(())
}

/// `u32::MAX` would tell chown(2) to change nothing.
pub(super) fn owner(entry: &Entry) -> Result<(Uid, Gid), Fault> {
    let id = |n: u64| u32::try_from(n).ok().filter(|n| *n != u32::MAX);
    match (id(entry.uid), id(entry.gid)) {
        (Some(uid), Some(gid)) => Ok((Uid::from_raw(uid), Gid::from_raw(gid))),
        _ => Err(Fault::Bad("its owner or group is no id")),
    }
}

pub(super) fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
