//! Pinned network namespaces.
//!
//! Owns: the directory of pins, by default the one of ip-netns(8), so that `ip netns` shows them.
//! Always: a pin is a file with a namespace mounted on it, or it is not there; creation that fails
//! leaves nothing; removal is repeatable. Callers: `networks`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, statx};
use rustix::mount::{MountPropagationFlags, UnmountFlags};
use sys::Namespaces;

use crate::error::NetworkError;
use crate::netlink::{Socket, set_up};

/// Loopback is the first link of every namespace.
const LOOPBACK: u32 = 1;
/// The file system type of namespaces (statfs(2)).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// A pinned network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Netns {
    path: PathBuf,
}

impl Netns {
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file that it is pinned at.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A descriptor of the namespace, for setns(2).
    ///
    /// # Errors
    /// What open(2) says.
    pub fn open(&self) -> io::Result<OwnedFd> {
        Ok(File::open(&self.path)?.into())
    }
}

/// What `work` returns when it runs inside the namespace pinned at `path`, in a thread of its own.
/// A socket made there stays in that namespace wherever it is used.
///
/// # Errors
/// Why the namespace cannot be entered.
pub fn inside<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    in_namespace(namespace.as_fd(), work)
}

pub(crate) fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    in_thread(|| {
        sys::join_namespace(namespace, Namespaces::NETWORK)?;
        Ok(work())
    })
}

/// Namespaces belong to threads; a thread of its own cannot leave a trace in those that tokio reuses.
fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("in-netns".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the work inside it panicked")))
    })
}

/// A network namespace that nobody has yet, its loopback up.
pub(crate) fn create() -> io::Result<OwnedFd> {
    in_thread(|| {
        sys::unshare(Namespaces::NETWORK)?;
        let namespace = File::open("/proc/thread-self/ns/net")?;
        Socket::route()?.one(set_up(LOOPBACK))?;
        Ok(namespace.into())
    })
}

/// Sets the loopback of a namespace up.
pub(crate) fn set_loopback_up(namespace: &OwnedFd) -> io::Result<()> {
    in_namespace(namespace.as_fd(), || Socket::route()?.one(set_up(LOOPBACK)))?
}

/// Whether a namespace is pinned here.
pub(crate) fn is_pinned(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type.cast_unsigned() == NSFS_MAGIC)
}

/// Pins the namespace at `path`, where nothing may be.
pub(crate) fn pin(namespace: BorrowedFd<'_>, path: &Path) -> Result<(), NetworkError> {
    let failed =
        |source: io::Error| NetworkError::Netns { operation: "pin", path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(Path::new("/"));
    prepare(dir).map_err(|source| NetworkError::Netns {
        operation: "prepare the directory of",
        path: path.to_owned(),
        source,
    })?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | OFlags::CLOEXEC;
    drop(rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?);
    fault::point!("netns.pin.file-made");
    let source = format!("/proc/self/fd/{}", namespace.as_raw_fd());
    rustix::mount::mount_bind(source, path).map_err(|e| {
        // The file is ours and empty; the mount's error is what counts.
        let _ = rustix::fs::unlink(path);
        failed(e.into())
    })
}

/// Removes the pin, and with it the namespace once nobody is in it. It is no error if there is none.
pub(crate) fn unpin(path: &Path) -> Result<(), NetworkError> {
    let failed = |source: io::Error| NetworkError::Netns {
        operation: "remove",
        path: path.to_owned(),
        source,
    };
    // Twice where somebody mounted over it; each round takes one off.
    while is_pinned(path) {
        rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
            .map_err(|e| failed(e.into()))?;
    }
    fault::point!("netns.unpin.unmounted");
    match rustix::fs::unlink(path) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(e) => Err(failed(e.into())),
    }
}

/// Makes the directory. A pin must reach every mount namespace that wants to see it, and its removal
/// too, so the directory is on a shared mount: the one that it is on already, or its own.
fn prepare(dir: &Path) -> io::Result<()> {
    // The mount that was found to be shared last, by a number that no other mount ever has: the table of all mounts
    // has thousands of lines on a full node. Two at once would both find it unprepared, and mount it twice.
    static KNOWN: Mutex<Option<u64>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let unique = unique_mount_id(dir);
    if unique.is_some() && unique == *known {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let dir = dir.canonicalize()?;
    let mount = mount_id(&dir)?;
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo")?;
    if is_shared(&table, mount) {
        *known = unique_mount_id(&dir);
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    if mount_id(parent)? == mount {
        rustix::mount::mount_bind_recursive(&dir, &dir)?;
    }
    let flags = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change(&dir, flags)?)
}

/// The number of the mount that the directory is on, which is never given again (statx(2), Linux 6.8 and later).
fn unique_mount_id(dir: &Path) -> Option<u64> {
    const UNIQUE: StatxFlags = StatxFlags::from_bits_retain(0x4000);
    let stat = statx(CWD, dir, AtFlags::empty(), StatxFlags::TYPE | UNIQUE).ok()?;
    let is_dir = FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory;
    (is_dir && stat.stx_mask & UNIQUE.bits() != 0).then_some(stat.stx_mnt_id)
}

/// The number of the mount that the directory is on (proc_pid_fdinfo(5)). Paths would not do: the table has
/// mounts that others cover, at the same paths.
fn mount_id(dir: &Path) -> io::Result<u64> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(dir, flags, Mode::empty())?;
    let info = std::fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", fd.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    id.and_then(|id| id.trim().parse().ok())
        .ok_or_else(|| io::Error::other("no mnt_id in /proc/thread-self/fdinfo"))
}

/// Whether the mount with this number is shared, by the text of proc_pid_mountinfo(5).
fn is_shared(table: &str, mount: u64) -> bool {
    let id = mount.to_string();
    table
        .lines()
        .map(|line| line.split(' '))
        .filter_map(|mut fields| (fields.next() == Some(&id)).then_some(fields))
        // After the number: parent, device, root, mount point, options; then the optional fields.
        .any(|fields| {
            fields
                .skip(5)
                .take_while(|field| *field != "-")
                .any(|field| field.starts_with("shared:"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_shared_if_its_own_line_says_so() {
        let table = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:25 / /run rw shared:5 - tmpfs tmpfs rw
31 30 0:25 /netns /run/netns rw shared:9 master:2 - tmpfs tmpfs rw
32 30 0:25 /netns /run/netns rw master:2 - tmpfs shared:1 rw
garbage";
        for (mount, expected) in
            [(27, false), (30, true), (31, true), (32, false), (3, false), (99, false)]
        {
            assert_eq!(is_shared(table, mount), expected, "{mount}");
        }
    }
}
