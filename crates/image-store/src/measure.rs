//! How much a tree takes, while others may change it.
//!
//! Always: no link is followed, no mount is entered, one descriptor is open however deep the tree
//! is, and what is moved away under the walk is left out instead of being an error.

use std::collections::HashSet;
use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, fstat, openat, openat2, statat,
};
use rustix::io::Errno;

use crate::types::Usage;

/// Bytes of entries that are read at once.
const ENTRIES: usize = 8 << 10;

/// A directory that is gone back to.
struct Frame {
    identity: (u64, u64),
    todo: Vec<CString>,
}

/// What the tree below `root` takes, `root` included. A file with several names counts once.
pub(crate) fn measure(root: &OwnedFd) -> io::Result<Usage> {
    let mut seen: HashSet<(u64, u64)> = HashSet::new();
    let mut here =
        openat(root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&here)?;
    let mut usage = Usage { bytes: blocks(&stat), inodes: 1 };
    let mut stack = vec![Frame {
        identity: (stat.st_dev, stat.st_ino),
        todo: scan(&here, &mut usage, &mut seen)?,
    }];
    while let Some(frame) = stack.last_mut() {
        if let Some(name) = frame.todo.pop() {
            match enter(&here, &name) {
                Ok((fd, identity)) => {
                    here = fd;
                    let todo = scan(&here, &mut usage, &mut seen)?;
                    stack.push(Frame { identity, todo });
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => {}
                Err(e) => return Err(e.into()),
            }
            continue;
        }
        stack.pop();
        let Some(parent) = stack.last() else { break };
        match up(&here, parent.identity)? {
            Some(fd) => here = fd,
            // The directory was moved: what is above it is measured next time.
            None => break,
        }
    }
    Ok(usage)
}

fn blocks(stat: &rustix::fs::Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)
}

fn enter(parent: &OwnedFd, name: &CString) -> Result<(OwnedFd, (u64, u64)), Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = openat2(parent, name, flags, Mode::empty(), how)?;
    let stat = fstat(&fd)?;
    Ok((fd, (stat.st_dev, stat.st_ino)))
}

/// The directory above, if it is the one that the walk came from.
fn up(here: &OwnedFd, identity: (u64, u64)) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(here, "..", flags, Mode::empty())?;
    let stat = fstat(&fd)?;
    Ok(((stat.st_dev, stat.st_ino) == identity).then_some(fd))
}

/// Counts the entries of a directory that was opened for this, and returns the directories among them.
fn scan(
    here: &OwnedFd,
    usage: &mut Usage,
    seen: &mut HashSet<(u64, u64)>,
) -> io::Result<Vec<CString>> {
    let mut directories = Vec::new();
    let mut buffer = Vec::with_capacity(ENTRIES);
    let mut entries = RawDir::new(here, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = match statat(here, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e.into()),
        };
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !is_directory && stat.st_nlink > 1 && !seen.insert((stat.st_dev, stat.st_ino)) {
            continue;
        }
        *usage += Usage { bytes: blocks(&stat), inodes: 1 };
        if is_directory {
            directories.push(name.to_owned());
        }
    }
    Ok(directories)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::layout::{open_dir, open_host_dir};

    #[test]
    fn names_of_one_file_count_once_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("d/big"), vec![1; 1 << 20]).unwrap();
        std::fs::hard_link(dir.path().join("d/big"), dir.path().join("again")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
        let usage = measure(&open_host_dir(dir.path()).unwrap()).unwrap();
        assert_eq!(usage.inodes, 4);
        assert!((1 << 20..(1 << 20) + 65536).contains(&usage.bytes), "{usage:?}");
    }

    #[test]
    fn a_deep_tree_is_measured_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let mut fd = open_host_dir(dir.path()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&fd, "d", Mode::RWXU).unwrap();
            fd = open_dir(&fd, "d").unwrap();
        }
        let top = open_host_dir(dir.path()).unwrap();
        assert_eq!(measure(&top).unwrap().inodes, 3001);
        crate::delete::delete_tree(top.as_fd(), c"d").unwrap();
    }
}
