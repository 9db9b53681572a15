//! Signals: one descriptor that tells of ended children, and a clean slate for programs to come.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd as _, OwnedFd};

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset is then given an initialised one.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Blocks SIGCHLD for this thread and returns a descriptor that is readable when one is pending
/// (signalfd(2)); non-blocking and close-on-exec.
///
/// # Errors
/// What the kernel says.
pub fn child_signals() -> io::Result<OwnedFd> {
    let set = set_of(&[libc::SIGCHLD]);
    // SAFETY: both calls get an initialised set; signalfd makes a descriptor that nobody else owns.
    unsafe {
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            ..0 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Gives every signal its default action and unblocks all: the state that a program expects to start in.
pub fn reset_signals() {
    let empty = set_of(&[]);
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours. SIGKILL, SIGSTOP and glibc's own two are refused,
        // which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an initialised set; no handler is installed that could run now.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()) };
}
