//! A layer's files, written below a directory that nothing leads out of.
//!
//! Owns: the directory while the layer is unpacked. Always: every step is one name relative to a
//! descriptor and follows no link by itself; links in the middle of a path are resolved here, inside
//! the root; what a later entry replaces is gone with all that is known of it.

mod walk;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use oci_image::{LayerEntry, layer_entry};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, chownat, futimens, linkat, mkdirat, openat, symlinkat,
    utimensat,
};
use rustix::io::Errno;

use self::walk::open_below;
use self::write::{attributes, node, owner, times};
use crate::delete::delete_tree;
use crate::layout::open_dir;
use crate::overlay::{self, Existing, existing};
use crate::pending::Pending;
use crate::sums::{Sum, Sums};
use crate::tar::{Entry, Kind};

const COPY_BUFFER: usize = 128 << 10;

/// Why an entry cannot be written.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The archive is to blame.
    Bad(&'static str),
    /// The archive's data cannot be read.
    Source(io::Error),
    /// The file system is to blame.
    Write { action: &'static str, source: io::Error },
}

fn cannot<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Fault {
    move |e| Fault::Write { action, source: e.into() }
}

/// A directory of the layer.
#[derive(Debug)]
struct Place {
    fd: OwnedFd,
    path: PathBuf,
}

/// Whether a directory that is missing is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

/// Whether there is a layer below that something can be hidden of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Below {
    /// The lowest layer: what hides something is left out.
    Nothing,
    /// Another layer.
    Something,
}

/// The tree that is written.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    below: Below,
    last: Option<(PathBuf, Rc<Place>)>,
    times: BTreeMap<PathBuf, (i64, u32)>,
    /// Paths with a whiteout; a directory that the layer puts there shows nothing of those below.
    hidden: BTreeSet<PathBuf>,
    pending: Pending,
    sums: Sums<File>,
    buffer: Vec<u8>,
}

impl Tree {
    /// Writes below `root`, an empty directory; checksums of files go to `sums`.
    pub fn new(root: OwnedFd, below: Below, sums: Sums<File>) -> Self {
        let mut pending = Pending::default();
        pending.implied.insert(PathBuf::new());
        let buffer = vec![0; COPY_BUFFER];
        Self {
            root,
            below,
            last: None,
            times: BTreeMap::new(),
            hidden: BTreeSet::new(),
            pending,
            sums,
            buffer,
        }
    }

    /// Writes an entry; of a file, the data that `data` has.
    pub fn apply(&mut self, entry: &Entry, data: &mut impl Read) -> Result<(), Fault> {
        match layer_entry(&entry.path).map_err(|e| Fault::Bad(e.reason))? {
            LayerEntry::Root if entry.kind == Kind::Directory => self.root_entry(entry),
            LayerEntry::Root => Err(Fault::Bad("it has no name")),
            LayerEntry::Content(path) => self.content(&path, entry, data),
            LayerEntry::Whiteout(path) => self.whiteout(&path),
            LayerEntry::Opaque(path) => self.opaque(&path),
            LayerEntry::Ignored => Ok(()),
        }
    }

    /// Gives directories their times, now that nothing is written into them any more. What only the
    /// layers below can tell is returned.
    pub fn finish(self) -> Result<Pending, Fault> {
        for (path, mtime) in &self.times {
            let fd = match open_below(&self.root, path) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(cannot("open a directory again")(e)),
            };
            futimens(&fd, &times(*mtime)).map_err(cannot("set the time of a directory"))?;
        }
        self.sums.finish().map_err(cannot("write the checksums"))?;
        Ok(self.pending)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Fault> {
        let root = self.root.try_clone().map_err(cannot("duplicate a descriptor"))?;
        attributes(&root, entry)?;
        self.pending.implied.remove(Path::new(""));
        self.times.insert(PathBuf::new(), entry.mtime);
        Ok(())
    }

    fn content(&mut self, path: &Path, entry: &Entry, data: &mut impl Read) -> Result<(), Fault> {
        let name = path.file_name().ok_or(Fault::Bad("it has no name"))?;
        let parent = self.place(path.parent().unwrap_or(Path::new("")), Missing::Make)?;
        let full = parent.path.join(name);
        // Before anything is replaced: the target may be what this entry would replace.
        let target = match entry.kind {
            Kind::HardLink => Some(self.link_target(entry, &full)?),
            Kind::File
            | Kind::Symlink
            | Kind::CharDevice
            | Kind::BlockDevice
            | Kind::Directory
            | Kind::Fifo => None,
        };
        if entry.kind == Kind::File {
            return self.file(&parent, name, &full, entry, data);
        }
        let was = existing(&parent.fd, name).map_err(cannot("look at what is there"))?;
        let is_directory = entry.kind == Kind::Directory;
        match was {
            Existing::Nothing => {}
            Existing::Directory if is_directory => {}
            Existing::Whiteout | Existing::Directory | Existing::Symlink | Existing::Other => {
                self.remove(&parent, name, &full)?
            }
        }
        match entry.kind {
            Kind::Directory => self.directory(&parent, name, full, entry, was),
            // It was made above: most entries are files, and most of them replace nothing.
            Kind::File => Ok(()),
            Kind::HardLink => {
                let Some((from, old)) = target else { return Err(Fault::Bad("it has no target")) };
                linkat(&from.fd, &old, &parent.fd, name, AtFlags::empty())
                    .map_err(cannot("make a hard link"))
            }
            Kind::Symlink => self.symlink(&parent, name, entry),
            Kind::CharDevice => node(&parent, name, entry, FileType::CharacterDevice),
            Kind::BlockDevice => node(&parent, name, entry, FileType::BlockDevice),
            Kind::Fifo => node(&parent, name, entry, FileType::Fifo),
        }
    }

    fn directory(
        &mut self,
        parent: &Place,
        name: &OsStr,
        full: PathBuf,
        entry: &Entry,
        was: Existing,
    ) -> Result<(), Fault> {
        if was != Existing::Directory {
            mkdirat(&parent.fd, name, Mode::RWXU).map_err(cannot("make a directory"))?;
        }
        let fd = open_dir(&parent.fd, name).map_err(cannot("open a directory"))?;
        attributes(&fd, entry)?;
        if was != Existing::Directory && self.hidden.contains(&full) {
            // The layer removes what was there, then puts a directory of its own.
            overlay::set_opaque(&fd).map_err(cannot("mark a directory opaque"))?;
        }
        self.pending.implied.remove(&full);
        self.times.insert(full, entry.mtime);
        Ok(())
    }

    fn file(
        &mut self,
        parent: &Place,
        name: &OsStr,
        full: &Path,
        entry: &Entry,
        data: &mut impl Read,
    ) -> Result<(), Fault> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // With the mode that it is to have, but for what only its owner may give it: mostly that is all.
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let make = || openat(&parent.fd, name, flags, mode);
        let made = match make() {
            Err(Errno::EXIST) => {
                self.remove(parent, name, full)?;
                make()
            }
            made => made,
        };
        let mut file = File::from(made.map_err(cannot("make a file"))?);
        match &entry.segments {
            None => {
                let mut crc = crc32fast::Hasher::new();
                self.copy(data, entry.size, |bytes, _| {
                    crc.update(bytes);
                    file.write_all(bytes)
                })?;
                let sum = Sum { size: entry.size, crc: Some(crc.finalize()) };
                self.sums.file(full, sum).map_err(cannot("write the checksums"))?;
            }
            Some(segments) => {
                for segment in segments {
                    self.copy(data, segment.length, |bytes, at| {
                        file.write_all_at(bytes, segment.offset + at)
                    })?;
                }
                file.set_len(entry.size).map_err(cannot("set the size of a file"))?;
                let sum = Sum { size: entry.size, crc: None };
                self.sums.file(full, sum).map_err(cannot("write the checksums"))?;
            }
        }
        let fd = OwnedFd::from(file);
        attributes(&fd, entry)?;
        futimens(&fd, &times(entry.mtime)).map_err(cannot("set the time of a file"))
    }

    /// Hands `length` bytes of `data` to `write`, each piece with its offset.
    fn copy(
        &mut self,
        data: &mut impl Read,
        length: u64,
        mut write: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> Result<(), Fault> {
        let mut at = 0;
        while at < length {
            let left = usize::try_from(length - at).unwrap_or(usize::MAX);
            let want = left.min(self.buffer.len());
            let n = data.read(&mut self.buffer[..want]).map_err(Fault::Source)?;
            if n == 0 {
                return Err(Fault::Bad("the archive ends in the middle of it"));
            }
            write(&self.buffer[..n], at).map_err(cannot("write a file"))?;
            at += n as u64;
        }
        Ok(())
    }

    fn symlink(&mut self, parent: &Place, name: &OsStr, entry: &Entry) -> Result<(), Fault> {
        if entry.link.is_empty() || entry.link.contains(&0) {
            return Err(Fault::Bad("its link has no target"));
        }
        symlinkat(entry.link.as_slice(), &parent.fd, name).map_err(cannot("make a link"))?;
        self.last = None;
        let (uid, gid) = owner(entry)?;
        chownat(&parent.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("set the owner of a link"))?;
        utimensat(&parent.fd, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(cannot("set the time of a link"))
    }

    /// The place and the name of a hard link's target, which must be in the layer already and is no
    /// directory.
    fn link_target(&mut self, entry: &Entry, link: &Path) -> Result<(Rc<Place>, OsString), Fault> {
        let target = match layer_entry(&entry.link) {
            Ok(LayerEntry::Content(path)) => path,
            Ok(
                LayerEntry::Root
                | LayerEntry::Whiteout(_)
                | LayerEntry::Opaque(_)
                | LayerEntry::Ignored,
            )
            | Err(_) => return Err(Fault::Bad("its hard link leads to no file of the layer")),
        };
        let name = target.file_name().ok_or(Fault::Bad("its hard link has no target"))?;
        let parent = self.place(target.parent().unwrap_or(Path::new("")), Missing::Refuse)?;
        if parent.path.join(name) == link {
            return Err(Fault::Bad("its hard link leads to itself"));
        }
        match existing(&parent.fd, name).map_err(cannot("look at a link's target"))? {
            Existing::Symlink | Existing::Other => Ok((parent, name.to_owned())),
            Existing::Nothing | Existing::Whiteout => {
                Err(Fault::Bad("its hard link leads to nothing in the layer"))
            }
            Existing::Directory => Err(Fault::Bad("its hard link leads to a directory")),
        }
    }

    fn whiteout(&mut self, path: &Path) -> Result<(), Fault> {
        let name = path.file_name().ok_or(Fault::Bad("it whites out nothing"))?;
        let parent = self.place(path.parent().unwrap_or(Path::new("")), Missing::Make)?;
        if self.below == Below::Nothing {
            return Ok(());
        }
        self.hidden.insert(parent.path.join(name));
        match existing(&parent.fd, name).map_err(cannot("look at what is there"))? {
            Existing::Nothing => {
                overlay::make_whiteout(&parent.fd, name).map_err(cannot("make a whiteout"))?;
                self.pending.whiteouts.insert(parent.path.join(name));
                Ok(())
            }
            // What the layer itself has stays; only what lies below is hidden, and a directory of
            // the layer hides that alone when it is opaque.
            Existing::Directory => {
                let fd = open_dir(&parent.fd, name).map_err(cannot("open a directory"))?;
                overlay::set_opaque(&fd).map_err(cannot("mark a directory opaque"))
            }
            Existing::Whiteout | Existing::Symlink | Existing::Other => Ok(()),
        }
    }

    fn opaque(&mut self, path: &Path) -> Result<(), Fault> {
        let place = self.place(path, Missing::Make)?;
        if self.below == Below::Nothing {
            return Ok(());
        }
        if place.path.as_os_str().is_empty() {
            self.pending.is_root_opaque = true;
        }
        overlay::set_opaque(&place.fd).map_err(cannot("mark a directory opaque"))
    }

    /// Removes what an entry replaces, with all that is known about it.
    fn remove(&mut self, parent: &Place, name: &OsStr, full: &Path) -> Result<(), Fault> {
        let text = CString::new(name.as_bytes()).map_err(|_| Fault::Bad("its name has a NUL"))?;
        delete_tree(parent.fd.as_fd(), &text).map_err(cannot("replace what is there"))?;
        self.sums.removed(full).map_err(cannot("write the checksums"))?;
        self.times.retain(|path, _| !path.starts_with(full));
        self.hidden.retain(|path| path == full || !path.starts_with(full));
        self.pending.forget(full);
        self.last = None;
        Ok(())
    }
}
