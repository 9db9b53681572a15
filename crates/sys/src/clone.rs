//! clone3(2).

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::Pid;

use crate::exec::exit_now;
use crate::namespace::Namespaces;
use crate::thread::SingleThreaded;

/// From linux/sched.h; libc's constant is too narrow to hold it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// How a child ends whose body panicked (EX_SOFTWARE of sysexits.h).
pub(crate) const PANICKED: i32 = 70;

/// What the child shall have of its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct CloneFlags<'fd> {
    /// New namespaces.
    pub namespaces: Namespaces,
    /// The cgroup (v2) to be born in.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// A child process: its number, and the descriptor that means it and no later process.
#[derive(Debug)]
pub struct Child {
    /// As seen from here. Use it only while `pidfd` says that the process was not waited for.
    pub pid: Pid,
    /// The process (pidfd_open(2)); close-on-exec.
    pub pidfd: OwnedFd,
}

/// Proof of being in a child that was made here, which never returns to its parent's code.
#[derive(Debug)]
pub struct InChild(());

impl InChild {
    /// Closes every descriptor from 3 on but those in `keep`: a child that is still setting up, or
    /// that waits for an order, must not hold its parent's sockets and pipes open.
    ///
    /// Values of the parent's that own other descriptors exist here as copies; they are never dropped,
    /// because a child never returns to where they live.
    ///
    /// # Errors
    /// What close_range(2) says.
    pub fn close_all_but(&self, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut kept: Vec<u32> =
            keep.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
        kept.sort_unstable();
        let mut first = 3;
        for fd in kept.into_iter().chain([u32::MAX]) {
            if let Some(last) = fd.checked_sub(1).filter(|last| *last >= first) {
                // SAFETY: the token proves that this is a child whose copies of the parent's owners are
                // never dropped or used, but for those that the caller keeps by borrowing them.
                if unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            first = first.max(fd.saturating_add(1));
        }
        Ok(())
    }
}

/// Makes a child process (a copy, as by fork) that runs `body` and never returns from here.
///
/// # Errors
/// What clone3(2) says.
pub fn clone_child<F>(_proof: &SingleThreaded, flags: CloneFlags<'_>, body: F) -> io::Result<Child>
where
    F: FnOnce(InChild) -> Infallible,
{
    let mut pidfd: RawFd = -1;
    let mut bits = u64::from(flags.namespaces.bits()) | libc::CLONE_PIDFD as u64;
    let mut cgroup = 0;
    if let Some(fd) = flags.cgroup {
        bits |= CLONE_INTO_CGROUP;
        cgroup = u64::try_from(fd.as_raw_fd()).unwrap_or(u64::MAX);
    }
    let args = libc::clone_args {
        flags: bits,
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    // SAFETY: `args` is a whole clone_args whose pidfd pointer is valid for the call. Without
    // CLONE_VM and with no stack given the child is a copy as after fork. The token proves that
    // there is one thread, so no lock is held by somebody who does not exist in the child, and the
    // allocator and std may be used there.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        // A panic must not unwind into the frames that the parent has above this one.
        0 => match catch_unwind(AssertUnwindSafe(|| body(InChild(())))) {
            Err(_) => exit_now(PANICKED),
        },
        ..0 => Err(io::Error::last_os_error()),
        _ => {
            // SAFETY: on success the kernel has stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            let pid = pid.ok_or_else(|| io::Error::other("clone3 returned no process id"))?;
            Ok(Child { pid, pidfd })
        }
    }
}
