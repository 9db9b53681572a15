//! How overlayfs is told what a layer hides (Linux, Documentation/filesystems/overlayfs.rst).

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, XattrFlags, fgetxattr, fsetxattr, mknodat, statat};
use rustix::io::Errno;

const OPAQUE: &str = "trusted.overlay.opaque";

/// What is at a name of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    Nothing,
    /// A character device 0:0.
    Whiteout,
    Directory,
    Symlink,
    /// A file, device or pipe.
    Other,
}

/// What is at `name`.
pub(crate) fn existing(parent: &OwnedFd, name: &OsStr) -> Result<Existing, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Existing::Directory,
            FileType::Symlink => Existing::Symlink,
            FileType::CharacterDevice if stat.st_rdev == 0 => Existing::Whiteout,
            FileType::CharacterDevice
            | FileType::RegularFile
            | FileType::Fifo
            | FileType::Socket
            | FileType::BlockDevice
            | FileType::Unknown => Existing::Other,
        }),
        Err(Errno::NOENT) => Ok(Existing::Nothing),
        Err(e) => Err(e),
    }
}

pub(crate) fn make_whiteout(parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), 0)
}

pub(crate) fn set_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

pub(crate) fn clear_opaque(directory: &OwnedFd) -> Result<(), Errno> {
    match rustix::fs::fremovexattr(directory, OPAQUE) {
        Ok(()) | Err(Errno::NODATA) => Ok(()),
        Err(e) => Err(e),
    }
}

pub(crate) fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0_u8; 8];
    match fgetxattr(directory, OPAQUE, &mut value[..]) {
        Ok(n) => Ok(value[..n] == *b"y"),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether an image may set this extended attribute. `trusted.*` steers overlayfs, and a label of
/// SELinux is the host's to give.
pub(crate) fn is_image_attribute(name: &[u8]) -> bool {
    (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
        || matches!(
            name,
            b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default"
        )
}
