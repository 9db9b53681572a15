//! Making and joining namespaces.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

/// A set of kinds of namespaces (namespaces(7)), as clone3(2), unshare(2) and setns(2) take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u32);

impl Namespaces {
    /// None.
    pub const NONE: Self = Self(0);
    /// Mounts.
    pub const MOUNT: Self = Self(libc::CLONE_NEWNS as u32);
    /// Process ids.
    pub const PID: Self = Self(libc::CLONE_NEWPID as u32);
    /// Network.
    pub const NETWORK: Self = Self(libc::CLONE_NEWNET as u32);
    /// IPC.
    pub const IPC: Self = Self(libc::CLONE_NEWIPC as u32);
    /// Host name.
    pub const UTS: Self = Self(libc::CLONE_NEWUTS as u32);
    /// View of the cgroups.
    pub const CGROUP: Self = Self(libc::CLONE_NEWCGROUP as u32);
    /// Users.
    pub const USER: Self = Self(libc::CLONE_NEWUSER as u32);
    /// Offsets of the monotonic and the boot-time clock.
    pub const TIME: Self = Self(libc::CLONE_NEWTIME as u32);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set, and `other` if `wanted`.
    #[must_use]
    pub const fn with_if(self, wanted: bool, other: Self) -> Self {
        if wanted { self.with(other) } else { self }
    }

    /// This set without any of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }
}

/// Moves this thread into new namespaces of these kinds (a new PID namespace is for its children).
///
/// # Errors
/// What unshare(2) says.
pub fn unshare(kinds: Namespaces) -> io::Result<()> {
    // SAFETY: only CLONE_NEW* bits can be in the set; they change no memory and no descriptor table.
    // CLONE_NEWNS implies CLONE_FS, which parts the working directory from other threads and is safe.
    check(unsafe { libc::unshare(kinds.bits().cast_signed()) })
}

/// Moves this thread into the namespace that `namespace` is open on, which must be of this kind.
///
/// # Errors
/// What setns(2) says.
pub fn join_namespace(namespace: BorrowedFd<'_>, kind: Namespaces) -> io::Result<()> {
    // SAFETY: plain integers; the descriptor is open for the call.
    check(unsafe { libc::setns(namespace.as_raw_fd(), kind.bits().cast_signed()) })
}

/// Moves this thread into the namespaces of these kinds that the process `pidfd` is in.
///
/// # Errors
/// What setns(2) says.
pub fn join_namespaces_of(pidfd: BorrowedFd<'_>, kinds: Namespaces) -> io::Result<()> {
    join_namespace(pidfd, kinds)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
