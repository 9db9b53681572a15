//! Giving a volume the label of the container that is to use it (SELinux).

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use model::Class;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, XattrFlags, lgetxattr, lsetxattr, openat, statat,
};
use rustix::io::Errno;

use crate::error::Cause;
use crate::pods::file_failed;

/// Where labels are kept (security.selinux of xattr(7)).
pub(super) const LABEL: &str = "security.selinux";

/// Trees whose labels the whole system lives by.
const NEVER: [&str; 14] = [
    "/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/root", "/sbin",
    "/sys", "/usr", "/var",
];
/// Directories inside of one another that are gone into.
const DEEPEST: usize = 200;

/// Labels `path` and all below it on the same file system; links are labelled and not followed. What has the
/// label already is left alone. Blocks, and hangs with the file system.
///
/// # Errors
/// A tree that must keep its labels, and what the kernel says. A file system without labels is no error.
pub(super) fn relabel(path: &Path, attribute: &str, label: &str) -> Result<(), Cause> {
    if NEVER.iter().any(|tree| path == Path::new(tree)) {
        let message = format!("{} belongs to the system and cannot be relabelled", path.display());
        return Err(Cause::other(Class::InvalidArgument, message));
    }
    let value = CString::new(label).map_err(io::Error::from);
    let label_all = || -> io::Result<()> {
        let value = value.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
        let walk = Walk { attribute, value: value.as_bytes_with_nul() };
        let stat = statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)?;
        walk.label(path)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let dir = open_directory(CWD, path)?;
            walk.below(&dir, stat.st_dev, 0)?;
        }
        Ok(())
    };
    match label_all() {
        Err(e) if e.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => Ok(()),
        other => other.map_err(file_failed("relabel", path)),
    }
}

struct Walk<'a> {
    attribute: &'a str,
    value: &'a [u8],
}

impl Walk<'_> {
    fn label(&self, path: &Path) -> io::Result<()> {
        let mut now = vec![0; self.value.len() + 1];
        if lgetxattr(path, self.attribute, &mut now[..]).is_ok_and(|n| now[..n] == *self.value) {
            return Ok(());
        }
        match lsetxattr(path, self.attribute, self.value, XattrFlags::empty()) {
            // It has gone meanwhile.
            Err(Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }

    fn below(&self, dir: &OwnedFd, device: u64, depth: usize) -> io::Result<()> {
        if depth > DEEPEST {
            return Err(io::Error::other(format!("more than {DEEPEST} directories deep")));
        }
        for entry in Dir::read_from(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                other => other?,
            };
            if stat.st_dev != device {
                continue;
            }
            // There is no setxattrat before Linux 6.13; the descriptor in proc leads to the same place, whatever
            // its directory is renamed to.
            let place = place_of(dir, name);
            self.label(&place)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let below = match open_directory(dir, name) {
                    // Somebody has put something else there.
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                    other => other?,
                };
                self.below(&below, device, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// A path that leads to `name` in `dir`.
fn place_of(dir: &OwnedFd, name: &CStr) -> PathBuf {
    let below = Path::new("/proc/self/fd").join(dir.as_raw_fd().to_string());
    below.join(OsStr::from_bytes(name.to_bytes()))
}

fn open_directory<P: rustix::path::Arg>(at: impl AsFd, path: P) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(at, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// What a test may set on files of any file system.
    const OTHER: &str = "trusted.isopod-test";

    fn label_of(path: &Path) -> Option<String> {
        let mut value = [0; 64];
        let length = lgetxattr(path, OTHER, &mut value[..]).ok()?;
        Some(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
    }

    #[test]
    fn a_tree_is_labelled_and_what_its_links_lead_to_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        let outside = dir.path().join("outside");
        fs::create_dir_all(volume.join("a/b")).unwrap();
        fs::write(volume.join("a/b/file"), "").unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "").unwrap();
        symlink(&outside, volume.join("link")).unwrap();
        for _ in 0..2 {
            relabel(&volume, OTHER, "u:r:t:s0").unwrap();
        }
        for path in ["", "a", "a/b", "a/b/file"] {
            assert_eq!(label_of(&volume.join(path)).as_deref(), Some("u:r:t:s0"), "{path:?}");
        }
        assert_eq!((label_of(&outside), label_of(&outside.join("kept"))), (None, None));
        relabel(&volume.join("a/b/file"), OTHER, "other").unwrap();
        assert_eq!(label_of(&volume.join("a/b/file")).as_deref(), Some("other"));
    }

    #[test]
    fn the_systems_own_trees_are_never_relabelled() {
        for tree in ["/", "/etc", "/usr"] {
            let error = relabel(Path::new(tree), OTHER, "x").unwrap_err();
            assert!(error.to_string().contains("cannot be relabelled"), "{error}");
        }
        assert!(relabel(Path::new("/no/such/volume"), OTHER, "x").is_err());
    }
}
