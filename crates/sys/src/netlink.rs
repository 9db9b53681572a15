//! Options of netlink sockets that rustix does not have.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// Lets the kernel answer a bad request with words (NETLINK_EXT_ACK) and without a copy of the
/// request (NETLINK_CAP_ACK); netlink(7).
///
/// # Errors
/// What setsockopt(2) says.
pub fn netlink_errors_with_words(socket: BorrowedFd<'_>) -> io::Result<()> {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        // SAFETY: the value lives for the call and its size is given.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_NETLINK,
                option,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
