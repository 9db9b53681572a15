//! Deletes trees that nobody trusts, by descriptor.
//!
//! Always: no link is followed, no mount is entered, the number of open descriptors is bounded
//! whatever the depth, one entry that cannot be deleted does not keep the others, and what somebody else
//! deletes meanwhile is deleted.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, renameat, unlinkat};
use rustix::io::Errno;

/// Directories that are open at the same time. What lies deeper is moved up and deleted from there.
const MAX_OPEN: usize = 64;
/// Names that are read from a directory at once.
const BATCH: usize = 4096;

struct Frame {
    fd: OwnedFd,
    name: CString,
    batch: Vec<(CString, FileType)>,
    /// Entries that have left since the batch was read, or that have come: there is something to read again.
    changes: usize,
    /// Entries of the batch that stay.
    stuck: usize,
    /// Whether it has been read yet.
    is_read: bool,
}

impl Frame {
    const fn new(fd: OwnedFd, name: CString) -> Self {
        Self { fd, name, batch: Vec::new(), changes: 1, stuck: 0, is_read: false }
    }

    /// Whether it has been read, and all that was found has gone.
    const fn is_worth_a_try(&self) -> bool {
        self.is_read && self.changes > 0 && self.stuck == 0
    }
}

/// Deletes `name` in `top` with everything below it. It is no error if it is gone already. Directories
/// that are too deep are moved into `name` itself on the way.
///
/// # Errors
/// The first entry's that could not be deleted, after everything else was.
pub(crate) fn delete_tree(top: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match unlinkat(top, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e.into()),
    }
    let Some(base) = unless_gone(open_inside(top, name))? else { return Ok(()) };
    let stack = vec![Frame::new(base, name.to_owned())];
    Sweep { top, stack, moved: 0, first_error: None }.run()
}

/// What somebody else has deleted is as good as deleted here.
fn unless_gone<T>(result: Result<T, Errno>) -> Result<Option<T>, Errno> {
    match result {
        Ok(there) => Ok(Some(there)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

struct Sweep<'a> {
    top: BorrowedFd<'a>,
    /// The directories from the tree's own down to where the sweep is.
    stack: Vec<Frame>,
    moved: u64,
    first_error: Option<Errno>,
}

impl Sweep<'_> {
    fn run(mut self) -> io::Result<()> {
        while let Some(frame) = self.stack.last_mut() {
            if frame.batch.is_empty() && frame.is_worth_a_try() && self.is_gone() {
                self.stack.pop();
                self.went();
                continue;
            }
            let Some(frame) = self.stack.last_mut() else { break };
            if frame.batch.is_empty()
                && let Err(e) = refill(frame)
            {
                self.first_error.get_or_insert(e);
            }
            let Some((name, kind)) = frame.batch.pop() else {
                self.leave();
                continue;
            };
            match self.entry(&name, kind) {
                Ok(None) => self.went(),
                Ok(Some(fd)) => self.stack.push(Frame::new(fd, name)),
                Err(e) => self.stays(e),
            }
        }
        self.first_error.map_or(Ok(()), |e| Err(e.into()))
    }

    /// Removes the directory that the sweep is in, if nothing is in it any more: that is less than to read it again.
    fn is_gone(&self) -> bool {
        let [.., parent, here] = self.stack.as_slice() else { return false };
        unless_gone(unlinkat(&parent.fd, &here.name, AtFlags::REMOVEDIR)).is_ok()
    }

    /// Removes the directory that the sweep is done with.
    fn leave(&mut self) {
        let Some(done) = self.stack.pop() else { return };
        let parent = self.stack.last().map_or(self.top, |frame| frame.fd.as_fd());
        match unless_gone(unlinkat(parent, &done.name, AtFlags::REMOVEDIR)) {
            Ok(_) => self.went(),
            Err(e) => self.stays(e),
        }
    }

    fn went(&mut self) {
        if let Some(frame) = self.stack.last_mut() {
            frame.changes += 1;
        }
    }

    fn stays(&mut self, why: Errno) {
        if let Some(frame) = self.stack.last_mut() {
            frame.stuck += 1;
        }
        self.first_error.get_or_insert(why);
    }

    /// Deletes what is no directory; a directory is opened, or moved up where it lies too deep.
    fn entry(&mut self, name: &CStr, kind: FileType) -> Result<Option<OwnedFd>, Errno> {
        let depth = self.stack.len();
        let Some(frame) = self.stack.last() else { return Ok(None) };
        if kind != FileType::Directory {
            match unlinkat(&frame.fd, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(None),
                // A file system that does not tell the kind of an entry.
                Err(Errno::ISDIR) if kind == FileType::Unknown => {}
                Err(e) => return Err(e),
            }
        }
        // Many are empty, and need not be looked into.
        if unless_gone(unlinkat(&frame.fd, name, AtFlags::REMOVEDIR)).is_ok() {
            return Ok(None);
        }
        if depth < MAX_OPEN {
            return unless_gone(open_inside(frame.fd.as_fd(), name));
        }
        let (Some(base), moved) = (self.stack.first(), self.moved) else { return Ok(None) };
        let flat = format!(".{moved}-{:x}", crate::layout::now().0);
        let flat = CString::new(flat).map_err(|_| Errno::INVAL)?;
        let up = || unless_gone(renameat(&frame.fd, name, &base.fd, &flat));
        match up() {
            // It is in another project than the tree, whose directory takes nothing of others'.
            Err(Errno::XDEV) => {
                sys::stop_project_here(base.fd.as_fd()).map_err(errno)?;
                up()?;
            }
            other => {
                other?;
            }
        }
        self.moved += 1;
        if let Some(base) = self.stack.first_mut() {
            base.changes += 1;
        }
        Ok(None)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// Reads up to [`BATCH`] entries beside those that stay; none where nothing has changed since the last time.
fn refill(frame: &mut Frame) -> Result<(), Errno> {
    if frame.changes == 0 {
        return Ok(());
    }
    let most = BATCH + frame.stuck;
    (frame.changes, frame.stuck, frame.is_read) = (0, 0, true);
    let Some(entries) = unless_gone(Dir::read_from(frame.fd.as_fd()))? else { return Ok(()) };
    for entry in entries {
        let Some(entry) = unless_gone(entry)? else { break };
        let name = entry.file_name();
        if name != c"." && name != c".." {
            frame.batch.push((name.to_owned(), entry.file_type()));
            if frame.batch.len() >= most {
                break;
            }
        }
    }
    Ok(())
}

/// Opens the directory `name`, unless it is a link or a mount.
fn open_inside(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    openat2(parent, name, flags, Mode::empty(), how)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn delete(dir: &Path, name: &CStr) -> io::Result<()> {
        let fd = crate::layout::open_host_dir(dir).unwrap();
        delete_tree(fd.as_fd(), name)
    }

    #[test]
    fn a_tree_goes_and_what_its_links_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), "x").unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("a/link")).unwrap();
        std::os::unix::fs::symlink("..", tree.join("a/b/up")).unwrap();
        std::fs::write(tree.join("a/b/file"), "x").unwrap();
        delete(dir.path(), c"tree").unwrap();
        delete(dir.path(), c"tree").unwrap();
        assert!(!tree.exists() && outside.join("keep").exists());
    }

    #[test]
    fn neither_depth_nor_width_is_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("tree")).unwrap();
        let mut fd = crate::layout::open_host_dir(&dir.path().join("tree")).unwrap();
        for _ in 0..2000 {
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            fd = crate::layout::open_dir(&fd, "d").unwrap();
        }
        for i in 0..BATCH * 2 + 5 {
            std::fs::write(dir.path().join(format!("tree/{i}")), "").unwrap();
        }
        delete(dir.path(), c"tree").unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_mount_is_not_entered_and_does_not_keep_the_rest() {
        use rustix::mount::{UnmountFlags, mount_bind, unmount};
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("keep"), "x").unwrap();
        std::fs::create_dir_all(dir.path().join("tree/m")).unwrap();
        std::fs::write(dir.path().join("tree/a"), "x").unwrap();
        std::fs::write(dir.path().join("tree/z"), "x").unwrap();
        mount_bind(&outside, dir.path().join("tree/m")).unwrap();
        let failed = delete(dir.path(), c"tree");
        unmount(dir.path().join("tree/m"), UnmountFlags::DETACH).unwrap();
        assert!(failed.is_err());
        assert!(outside.join("keep").exists(), "the mount was entered");
        assert_eq!(std::fs::read_dir(dir.path().join("tree")).unwrap().count(), 1);
        delete(dir.path(), c"tree").unwrap();
    }

    #[test]
    fn two_that_delete_the_same_tree_both_succeed() {
        let dir = tempfile::tempdir().unwrap();
        for name in 0..40 {
            std::fs::create_dir_all(dir.path().join(format!("tree/{name}/a/b/c"))).unwrap();
            std::fs::write(dir.path().join(format!("tree/{name}/a/file")), "").unwrap();
        }
        let start = std::sync::Barrier::new(2);
        let deletes = || {
            start.wait();
            delete(dir.path(), c"tree")
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(deletes);
            deletes().unwrap();
            other.join().unwrap().unwrap();
        });
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_lies_too_deep_goes_also_beside_what_stays() {
        use rustix::mount::{UnmountFlags, mount_bind, unmount};
        let dir = tempfile::tempdir().unwrap();
        let stays = dir.path().join("tree/a");
        std::fs::create_dir_all(&stays).unwrap();
        let mut deep = dir.path().join("tree/b");
        for _ in 0..MAX_OPEN + 10 {
            deep.push("d");
        }
        std::fs::create_dir_all(&deep).unwrap();
        mount_bind(dir.path(), &stays).unwrap();
        let failed = delete(dir.path(), c"tree");
        unmount(&stays, UnmountFlags::DETACH).unwrap();
        assert!(failed.is_err());
        let left: Vec<_> = std::fs::read_dir(dir.path().join("tree")).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing comes beside it");
    }
}
