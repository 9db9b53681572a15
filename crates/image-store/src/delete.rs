//! Deletes trees that nobody trusts, by descriptor.
//!
//! Always: no link is followed, no mount is entered, the number of open descriptors is bounded
//! whatever the depth, and one entry that cannot be deleted does not keep the others.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, openat2, unlinkat};
use rustix::io::Errno;

/// Directories that are open at the same time. What lies deeper is moved up and deleted from there.
const MAX_OPEN: usize = 64;
/// Names that are read from a directory at once.
const BATCH: usize = 4096;

struct Frame {
    fd: OwnedFd,
    name: CString,
    batch: Vec<(CString, FileType)>,
    /// Entries that stay, so that the next batch is known to be the same.
    stuck: usize,
}

/// Deletes `name` in `top` with everything below it. It is no error if it is gone already. Trees
/// that are too deep are moved into `top` under names of their own on the way.
///
/// # Errors
/// The first entry's that could not be deleted, after everything else was.
pub(crate) fn delete_tree(top: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    let mut pending = vec![name.to_owned()];
    let mut first_error = None;
    let mut moved = 0_u64;
    while let Some(next) = pending.pop() {
        let mut sweep = Sweep { top, base: &next, pending: Vec::new(), moved: &mut moved };
        if let Err(e) = sweep.run() {
            first_error.get_or_insert(e);
        }
        let more = sweep.pending;
        pending.extend(more);
    }
    first_error.map_or(Ok(()), Err)
}

struct Sweep<'a> {
    top: BorrowedFd<'a>,
    base: &'a CStr,
    pending: Vec<CString>,
    moved: &'a mut u64,
}

impl Sweep<'_> {
    fn run(&mut self) -> io::Result<()> {
        let mut first_error: Option<Errno> = None;
        match unlinkat(self.top, self.base, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(e) => return Err(e.into()),
        }
        let fd = open_inside(self.top, self.base)?;
        let mut stack = vec![Frame { fd, name: self.base.to_owned(), batch: Vec::new(), stuck: 0 }];
        loop {
            let depth = stack.len();
            let Some(frame) = stack.last_mut() else { break };
            if frame.batch.is_empty() {
                frame.batch = read_batch(frame)?;
            }
            let Some((name, kind)) = frame.batch.pop() else {
                let Some(done) = stack.pop() else { break };
                let parent = stack.last().map_or(self.top, |f| f.fd.as_fd());
                let stays = match unlinkat(parent, &done.name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOENT) => false,
                    Err(e) => {
                        first_error.get_or_insert(e);
                        true
                    }
                };
                if let (true, Some(parent)) = (stays, stack.last_mut()) {
                    parent.stuck += 1;
                }
                continue;
            };
            match self.entry(&frame.fd, &name, kind, depth) {
                Ok(None) => {}
                Ok(Some(fd)) => stack.push(Frame { fd, name, batch: Vec::new(), stuck: 0 }),
                Err(e) => {
                    if let Some(frame) = stack.last_mut() {
                        frame.stuck += 1;
                    }
                    first_error.get_or_insert(e);
                }
            }
        }
        first_error.map_or(Ok(()), |e| Err(e.into()))
    }

    /// Deletes what is no directory; a directory is opened, or moved up where it lies too deep.
    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &CStr,
        kind: FileType,
        depth: usize,
    ) -> Result<Option<OwnedFd>, Errno> {
        if kind != FileType::Directory {
            match unlinkat(parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(None),
                // A file system that does not tell the kind of an entry.
                Err(Errno::ISDIR) if kind == FileType::Unknown => {}
                Err(e) => return Err(e),
            }
        }
        if depth < MAX_OPEN {
            return open_inside(parent.as_fd(), name).map(Some);
        }
        *self.moved += 1;
        let mut flat = self.base.to_bytes().to_vec();
        flat.truncate(100);
        flat.extend_from_slice(format!(".{}-{:x}", self.moved, crate::layout::now().0).as_bytes());
        let flat = CString::new(flat).map_err(|_| Errno::INVAL)?;
        rustix::fs::renameat(parent, name, self.top, &flat)?;
        self.pending.push(flat);
        Ok(None)
    }
}

/// Up to [`BATCH`] entries; none when only those that stay are left.
fn read_batch(frame: &Frame) -> io::Result<Vec<(CString, FileType)>> {
    let mut batch = Vec::new();
    for entry in Dir::read_from(frame.fd.as_fd())? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            batch.push((name.to_owned(), entry.file_type()));
            if batch.len() >= BATCH + frame.stuck {
                break;
            }
        }
    }
    if batch.len() <= frame.stuck {
        batch.clear();
    }
    Ok(batch)
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
}
