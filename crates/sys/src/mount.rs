//! mount_setattr(2), Linux 5.12.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// What to change on a mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountAttr<'fd> {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear.
    pub clear: u64,
    /// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`; 0 leaves it.
    pub propagation: u64,
    /// The user namespace whose mapping the mount shall have; needs a detached mount.
    pub user_namespace: Option<BorrowedFd<'fd>>,
    /// The mounts below too.
    pub recursive: bool,
}

impl MountAttr<'_> {
    /// Read-only.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-ID and the like are ignored.
    pub const NO_SUID: u64 = 0x2;
    /// Device nodes are inert.
    pub const NO_DEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NO_EXEC: u64 = 0x8;
    /// The access-time bits: 0 is relatime.
    pub const ATIME_MASK: u64 = 0x70;
    /// Access times are not kept.
    pub const NO_ATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICT_ATIME: u64 = 0x20;
    /// Access times of directories are not kept.
    pub const NO_DIR_ATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NO_SYMFOLLOW: u64 = 0x20_0000;
    /// The mount has an id mapping.
    pub const IDMAP: u64 = 0x10_0000;

    /// MS_PRIVATE.
    pub const PRIVATE: u64 = libc::MS_PRIVATE;
    /// MS_SLAVE.
    pub const SLAVE: u64 = libc::MS_SLAVE;
    /// MS_SHARED.
    pub const SHARED: u64 = libc::MS_SHARED;
    /// MS_UNBINDABLE.
    pub const UNBINDABLE: u64 = libc::MS_UNBINDABLE;
}

#[repr(C)]
struct RawAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes the mount that `mount` is open on.
///
/// # Errors
/// What mount_setattr(2) says.
pub fn set_mount_attr(mount: BorrowedFd<'_>, attr: &MountAttr<'_>) -> io::Result<()> {
    let userns_fd =
        attr.user_namespace.map_or(0, |fd| u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX));
    let set = if attr.user_namespace.is_some() { attr.set | MountAttr::IDMAP } else { attr.set };
    let raw =
        RawAttr { attr_set: set, attr_clr: attr.clear, propagation: attr.propagation, userns_fd };
    let flags = libc::AT_EMPTY_PATH | if attr.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: `raw` has the layout of struct mount_attr (version 0, 32 bytes) and lives for the call;
    // the path is a static C string and the descriptors are open.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<RawAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
