//! The table of descriptors.

use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

/// Marks every descriptor from `first` on close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// What the kernel says; an old kernel says ENOSYS or EINVAL.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: no descriptor is closed, so nobody's ownership is broken; a flag is set on each.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A duplicate, close-on-exec, of a descriptor that this process was started with and that is known only
/// by its number. The number itself stays as it is.
///
/// # Errors
/// EBADF if nothing is open there.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl looks at the number itself and answers EBADF for one that is not open.
    let new = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if new < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}
