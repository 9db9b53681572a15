//! Keyrings (keyrings(7)).

use std::io;

/// Gives this process a new, empty session keyring (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
///
/// # Errors
/// What the kernel says: ENOSYS without keyrings, EDQUOT when the user has too many.
pub fn new_session_keyring() -> io::Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a null name is allowed and means a new keyring without one.
    let id =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
