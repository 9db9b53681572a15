//! Places inside a root file system that nobody trusts.
//!
//! Owns: the resolution of paths below a root. Always: relative to a descriptor of the root, with
//! openat2 and RESOLVE_IN_ROOT, so that no link leads out; what was opened is what is used.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, mkdirat, openat, openat2,
};
use rustix::io::Errno;

use crate::error::Failure;

/// What a missing place is made into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// How links in the last step and on the way are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Followed inside the root.
    Inside,
    /// An error: the place must be what it says it is.
    Refuse,
}

/// Whom what is made in a root file system belongs to; `None` for the user that makes it.
pub(crate) type Owner = Option<(u32, u32)>;

/// How often a path is looked up that others are changing: openat2(2) gives up with EAGAIN where a rename
/// or a mount elsewhere comes in between, which on a busy host is no sign of an attack.
const LOOK_UPS: u32 = 128;

const DIR_MODE: Mode = Mode::from_raw_mode(0o755);
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);

/// Opens the place `path` below `root` with O_PATH; `None` if it is not there.
pub(crate) fn open_in(
    root: BorrowedFd<'_>,
    path: &Path,
    links: Links,
) -> Result<Option<OwnedFd>, Errno> {
    let how = match links {
        Links::Inside => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        Links::Refuse => ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
    };
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
    match open_beneath(root, relative, OFlags::PATH, how) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// openat2(2), again and again while it says EAGAIN, a bounded number of times.
pub(crate) fn open_beneath(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    how: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..LOOK_UPS {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Gives `name` in `parent` to `owner`.
pub(crate) fn give(
    parent: BorrowedFd<'_>,
    name: &std::ffi::OsStr,
    owner: Owner,
) -> Result<(), Errno> {
    let Some((uid, gid)) = owner else { return Ok(()) };
    let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

/// Opens the place `path` below `root`, and makes it, with the directories above it, if it is missing.
pub(crate) fn ensure_in(
    root: BorrowedFd<'_>,
    path: &Path,
    missing: Missing,
    links: Links,
    owner: Owner,
) -> Result<OwnedFd, Failure> {
    let what = |action: &str, place: &Path| {
        format!("{action} {} in the root file system", place.display())
    };
    if let Some(fd) = open_in(root, path, links).map_err(Failure::at(what("open", path)))? {
        return Ok(fd);
    }
    let names: Vec<_> = path
        .components()
        .filter_map(|c| if let Component::Normal(name) = c { Some(name) } else { None })
        .collect();
    let mut so_far = PathBuf::new();
    let mut parent =
        root.try_clone_to_owned().map_err(Failure::at("duplicate the root's descriptor"))?;
    for (i, name) in names.iter().enumerate() {
        so_far.push(name);
        let is_last = i + 1 == names.len();
        let found = open_in(root, &so_far, links).map_err(Failure::at(what("open", &so_far)))?;
        parent = match found {
            Some(fd) => fd,
            None => {
                let make = if is_last { missing } else { Missing::Directory };
                let made = match make {
                    Missing::Directory => mkdirat(&parent, *name, DIR_MODE),
                    Missing::File => {
                        let flags = OFlags::CREATE
                            | OFlags::EXCL
                            | OFlags::WRONLY
                            | OFlags::CLOEXEC
                            | OFlags::NOFOLLOW;
                        openat(&parent, *name, flags, FILE_MODE).map(drop)
                    }
                };
                made.and_then(|()| give(parent.as_fd(), name, owner))
                    .map_err(Failure::at(what("make", &so_far)))?;
                // What was just made is not a link unless somebody swapped it, and then it is refused.
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                openat(&parent, *name, flags, Mode::empty())
                    .map_err(Failure::at(what("open", &so_far)))?
            }
        };
    }
    Ok(parent)
}

/// What kind of file `fd` is open on.
pub(crate) fn kind_of(fd: BorrowedFd<'_>) -> Result<FileType, Errno> {
    rustix::fs::fstat(fd.as_fd()).map(|stat| FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_leads_to_a_place_inside_and_never_out() {
        let dir = tempfile::tempdir().unwrap();
        let root_path = dir.path().join("root");
        std::fs::create_dir_all(root_path.join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        for (link, target) in [("abs", "/etc"), ("up", "../../../etc"), ("dangling", "/nowhere")] {
            symlink(target, root_path.join(link)).unwrap();
        }
        let root = std::fs::File::open(&root_path).unwrap();
        for path in ["/abs/new/dir", "/up/other"] {
            ensure_in(root.as_fd(), Path::new(path), Missing::Directory, Links::Inside, None)
                .unwrap();
        }
        assert!(root_path.join("etc/new/dir").is_dir());
        assert!(root_path.join("etc/other").is_dir());
        assert_eq!(std::fs::read_dir(dir.path().join("etc")).unwrap().count(), 0);
        assert!(
            ensure_in(root.as_fd(), Path::new("/dangling/x"), Missing::File, Links::Inside, None)
                .is_err()
        );
        assert!(
            ensure_in(root.as_fd(), Path::new("/abs"), Missing::Directory, Links::Refuse, None)
                .is_err()
        );
    }

    #[test]
    fn a_missing_file_is_made_empty_with_its_directories() {
        let dir = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(dir.path()).unwrap();
        let fd = ensure_in(root.as_fd(), Path::new("/a/b/c"), Missing::File, Links::Inside, None)
            .unwrap();
        assert_eq!(kind_of(fd.as_fd()).unwrap(), FileType::RegularFile);
        assert_eq!(std::fs::read(dir.path().join("a/b/c")).unwrap(), b"");
    }
}
