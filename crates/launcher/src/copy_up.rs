//! `tmpcopyup`: a tmpfs that begins with what the image has at its place.
//!
//! Not of the runtime specification, but runc and crun know it, and podman asks for it. Directories, files and links
//! are copied with owners and modes; devices, pipes and sockets, times and extended attributes are not. What the
//! image has there is not trusted: nothing is followed, and what the tmpfs cannot hold is an error.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, mkdirat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

use crate::error::Failure;

/// The deepest directory that is copied.
const DEEPEST: usize = 64;

/// Copies what is in the directory `from` into the new file system `to`. Where `keeps_mode` does not hold, the top
/// gets mode and owner of `from` too.
pub(crate) fn copy_up(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    keeps_mode: bool,
) -> Result<(), Failure> {
    let copy = || -> io::Result<()> {
        let from = open(from, c".", OFlags::DIRECTORY)?;
        let to = open(to, c".", OFlags::DIRECTORY)?;
        if !keeps_mode {
            own(to.as_fd(), &rustix::fs::fstat(&from)?)?;
        }
        directory(&from, &to, DEEPEST)
    };
    copy().map_err(Failure::at("copy into it what the image has there"))
}

fn open(at: BorrowedFd<'_>, name: &CStr, kind: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | kind;
    openat(at, name, flags, Mode::empty())
}

fn own(file: BorrowedFd<'_>, stat: &Stat) -> rustix::io::Result<()> {
    fchown(file, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner, whose change takes the set-user-ID bit away.
    fchmod(file, Mode::from_raw_mode(stat.st_mode & 0o7777))
}

fn directory(from: &OwnedFd, to: &OwnedFd, deepest: usize) -> io::Result<()> {
    let Some(deepest) = deepest.checked_sub(1) else {
        return Err(Errno::NAMETOOLONG.into());
    };
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let inner = open(from.as_fd(), name, OFlags::DIRECTORY)?;
                mkdirat(to, name, Mode::RWXU)?;
                let copy = open(to.as_fd(), name, OFlags::DIRECTORY)?;
                directory(&inner, &copy, deepest)?;
                own(copy.as_fd(), &stat)?;
            }
            FileType::RegularFile => {
                let mut inner = File::from(open(from.as_fd(), name, OFlags::empty())?);
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut copy = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
                io::copy(&mut inner, &mut copy)?;
                own(copy.as_fd(), &stat)?;
            }
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new())?;
                symlinkat(&target, to, name)?;
                let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn fd(path: &std::path::Path) -> OwnedFd {
        OwnedFd::from(File::open(path).unwrap())
    }

    #[test]
    fn a_tree_is_copied_with_modes_and_without_following_anything() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("sub/file"), "text").unwrap();
        fs::set_permissions(from.join("sub/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        symlink("/etc/passwd", from.join("link")).unwrap();
        fs::set_permissions(&from, fs::Permissions::from_mode(0o1777)).unwrap();
        copy_up(fd(&from).as_fd(), fd(&to).as_fd(), false).unwrap();
        assert_eq!(fs::read_to_string(to.join("sub/file")).unwrap(), "text");
        assert_eq!(fs::metadata(to.join("sub/file")).unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(fs::read_link(to.join("link")).unwrap(), std::path::Path::new("/etc/passwd"));
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o7777, 0o1777);
    }

    #[test]
    fn a_tree_without_end_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(from.join("d/".repeat(DEEPEST + 1))).unwrap();
        fs::create_dir(&to).unwrap();
        assert!(copy_up(fd(&from).as_fd(), fd(&to).as_fd(), true).is_err());
    }
}
