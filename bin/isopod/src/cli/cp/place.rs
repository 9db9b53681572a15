//! Where files from a container go.
//!
//! Always: everything is made beneath one directory, by its descriptor; no symbolic link below it is
//! followed, whoever made it (openat2(2), RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use image_store::tar::{Entry, Kind, Reader};
use rustix::fs::{
    AtFlags, Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, futimens, linkat, mkdirat,
    open, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;

const LONGEST_PATH: usize = 4096;

/// A directory that an archive is unpacked into, its one top name replaced by another.
#[derive(Debug)]
pub struct Place {
    directory: OwnedFd,
    old: String,
    new: String,
    /// What directories are to be at the end: while they are filled, they must be writable.
    modes: Vec<(OwnedFd, Mode)>,
}

impl Place {
    /// Beneath `directory`; what the archive calls `old` is called `new`.
    pub fn open(directory: &Path, old: String, new: String) -> Result<Self, String> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open(directory, flags, Mode::empty());
        let directory = opened
            .map_err(|error| format!("{}: {}", directory.display(), io::Error::from(error)))?;
        Ok(Self { directory, old, new, modes: Vec::new() })
    }

    /// Unpacks an archive; how many entries were no files, directories or links.
    pub fn fill(mut self, archive: impl Read) -> Result<u64, String> {
        let mut reader = Reader::new(archive, LONGEST_PATH);
        let mut skipped = 0;
        while let Some(entry) = reader.next_entry().map_err(|error| model::with_causes(&error))? {
            let path = self.inside(&entry.path)?;
            match entry.kind {
                Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => skipped += 1,
                Kind::File | Kind::HardLink | Kind::Symlink | Kind::Directory => {
                    self.make(&path, &entry, &mut reader)
                        .map_err(|error| format!("{}: {error}", path.display()))?;
                }
            }
        }
        for (directory, mode) in self.modes.iter().rev() {
            fchmod(directory, *mode).map_err(|error| io::Error::from(error).to_string())?;
        }
        Ok(skipped)
    }

    /// Where a name of the archive is, beneath the directory.
    fn inside(&self, name: &[u8]) -> Result<PathBuf, String> {
        let refused = |why: &str| {
            let name: String = String::from_utf8_lossy(name).chars().take(300).collect();
            format!("the archive has the name {name:?}, which {why}; nothing more is taken")
        };
        let text = std::str::from_utf8(name).map_err(|_| refused("is not UTF-8"))?;
        let mut path = PathBuf::new();
        for component in Path::new(text).components() {
            match component {
                Component::CurDir => {}
                Component::Normal(part) if path.as_os_str().is_empty() => {
                    if part != self.old.as_str() {
                        return Err(refused("was not asked for"));
                    }
                    path.push(&self.new);
                }
                Component::Normal(part) => path.push(part),
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(refused("leaves the target"));
                }
            }
        }
        if path.as_os_str().is_empty() {
            return Err(refused("was not asked for"));
        }
        Ok(path)
    }

    fn make(&mut self, path: &Path, entry: &Entry, data: &mut impl Read) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        match entry.kind {
            Kind::Directory => {
                match mkdirat(&parent, &name, Mode::RWXU) {
                    Err(error) if error != Errno::EXIST => return Err(error.into()),
                    Ok(()) | Err(_) => {}
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat2(&parent, &name, flags, Mode::empty(), beneath())?;
                self.modes.push((made, mode));
            }
            Kind::File => {
                remove(&parent, &name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let mut file = File::from(openat2(&parent, &name, flags, mode, beneath())?);
                let count = io::copy(&mut data.take(entry.size), &mut file)?;
                if count < entry.size {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                fchmod(&file, mode)?;
                let time = Timespec {
                    tv_sec: entry.mtime.0,
                    tv_nsec: i64::from(entry.mtime.1.min(999_999_999)),
                };
                futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
            }
            Kind::Symlink => {
                remove(&parent, &name)?;
                symlinkat(&entry.link[..], &parent, &name)?;
            }
            Kind::HardLink => {
                let target = self.inside(&entry.link).map_err(io::Error::other)?;
                let (target_parent, target_name) = self.parent(&target)?;
                remove(&parent, &name)?;
                linkat(&target_parent, &target_name, &parent, &name, AtFlags::empty())?;
            }
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {}
        }
        Ok(())
    }

    /// The directory that `path` is in, and its name there.
    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let opened = openat2(&self.directory, parent, flags, Mode::empty(), beneath())?;
        Ok((opened, name.into()))
    }
}

fn beneath() -> ResolveFlags {
    ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS
}

/// Takes away what has a file's name, so that nothing is written through it.
fn remove(parent: &OwnedFd, name: &Path) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use image_store::tar::Writer;

    use super::*;

    fn entry(path: &str, kind: Kind, data: &[u8], link: &str) -> Entry {
        Entry {
            path: path.into(),
            kind,
            mode: if kind == Kind::Directory { 0o500 } else { 0o4640 },
            uid: 0,
            gid: 0,
            size: data.len() as u64,
            mtime: (1_000_000_000, 0),
            link: link.into(),
            device: (0, 0),
            xattrs: Vec::new(),
            segments: None,
        }
    }

    fn archive(entries: &[(&str, Kind, &[u8], &str)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, kind, data, link) in entries {
            writer.entry(&entry(path, *kind, data, link), *data).unwrap();
        }
        writer.finish().unwrap()
    }

    fn fill(directory: &Path, bytes: &[u8]) -> Result<u64, String> {
        Place::open(directory, "top".to_owned(), "new".to_owned()).unwrap().fill(bytes)
    }

    #[test]
    fn a_tree_arrives_under_its_new_name() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let bytes = archive(&[
            ("./top", Kind::Directory, b"", ""),
            ("./top/file", Kind::File, b"text", ""),
            ("./top/again", Kind::HardLink, b"", "./top/file"),
            ("./top/link", Kind::Symlink, b"", "/etc/passwd"),
            ("./top/null", Kind::CharDevice, b"", ""),
        ]);
        assert_eq!(fill(directory.path(), &bytes), Ok(1));
        let at = |name: &str| directory.path().join("new").join(name);
        assert_eq!(std::fs::read(at("again")).unwrap(), b"text");
        assert_eq!(std::fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(std::fs::metadata(at("file")).unwrap().permissions().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::metadata(at("")).unwrap().permissions().mode() & 0o7777, 0o500);
        assert!(!at("null").exists());
    }

    #[test]
    fn what_leaves_the_target_is_refused() {
        for bad in [
            &[("../evil", Kind::File, &b"x"[..], "")][..],
            &[("/evil", Kind::File, b"x", "")],
            &[("top/../../evil", Kind::File, b"x", "")],
            &[("evil", Kind::File, b"x", "")],
            &[("top", Kind::Symlink, b"", "/tmp"), ("top/evil", Kind::File, b"x", "")],
            &[("top", Kind::Symlink, b"", ".."), ("top/evil", Kind::Directory, b"", "")],
            &[("top", Kind::HardLink, b"", "../secret")],
            &[(".", Kind::Directory, b"", "")],
        ] {
            let outer = tempfile::tempdir().unwrap();
            std::fs::write(outer.path().join("secret"), "s").unwrap();
            let directory = outer.path().join("target");
            std::fs::create_dir(&directory).unwrap();
            assert!(fill(&directory, &archive(bad)).is_err(), "{bad:?}");
            assert!(!outer.path().join("evil").exists() && !Path::new("/tmp/evil").exists());
        }
    }

    #[test]
    fn a_link_that_has_a_files_name_is_replaced_and_not_written_through() {
        let outer = tempfile::tempdir().unwrap();
        let secret = outer.path().join("secret");
        std::fs::write(&secret, "s").unwrap();
        let directory = outer.path().join("target");
        std::fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(&secret, directory.join("new")).unwrap();
        fill(&directory, &archive(&[("top", Kind::File, b"x", "")])).unwrap();
        assert_eq!(std::fs::read(&secret).unwrap(), b"s");
        assert_eq!(std::fs::read(directory.join("new")).unwrap(), b"x");
    }
}
