//! A layer becomes an archive again.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use model::Digest;
use oci_image::{Hasher, OPAQUE_MARKER, WHITEOUT_PREFIX};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, readlinkat, statat,
};

use crate::copy::xattrs;
use crate::error::{ImageStoreError, at};
use crate::frame::{self, Stop};
use crate::layout::{self, FRAME, FS};
use crate::merged::open_file;
use crate::overlay;
use crate::store::ImageStore;
use crate::tar::{Entry, Kind, Writer};

/// Directories inside each other that are written: each takes a descriptor while it is.
const MAX_DEPTH: usize = 512;

impl ImageStore {
    /// Writes the archive that a layer came in, without compression and byte for byte, and returns `out`;
    /// `None` where the layer does not give it any more. `out` has a part of something then.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; what cannot be written.
    pub fn rebuild_layer<W: Write>(
        &self,
        chain_id: &Digest,
        out: W,
    ) -> Result<Option<W>, ImageStoreError> {
        let Some(held) = self.hold_layer(chain_id) else {
            let needed_by = "an export".to_owned();
            return Err(ImageStoreError::NoLayer { chain_id: chain_id.clone(), needed_by });
        };
        let layout = &self.inner.layout;
        let path = layout.root.join("layers").join(chain_id.hex());
        let dir = layout::open_dir(&layout.layers_fd, chain_id.hex())
            .map_err(at("open", path.clone()))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A layer of an older daemon has no frame.
        let Ok(frame) = openat(&dir, FRAME, flags, Mode::empty()) else { return Ok(None) };
        let root = layout::open_dir(&dir, FS).map_err(at("open", path.join(FS)))?;
        let diff_id = &held.info().diff_id;
        let mut out = Hashed { inner: out, hasher: Hasher::like(diff_id) };
        match frame::write(frame.into(), &root, &mut out) {
            Ok(()) if out.hasher.finish() == *diff_id => Ok(Some(out.inner)),
            Ok(()) | Err(Stop::Useless) => Ok(None),
            Err(Stop::Write(e)) => Err(at("export", path)(e)),
        }
    }

    /// Writes a layer as a new tar archive without compression, names sorted, and returns `out`. Its
    /// digest is not the one that the layer came with, unless it was packed like that: the order and the
    /// padding of the first archive are not in it.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; what cannot be read or written.
    pub fn export_layer<W: Write>(&self, chain_id: &Digest, out: W) -> Result<W, ImageStoreError> {
        let Some(_held) = self.hold_layer(chain_id) else {
            let needed_by = "an export".to_owned();
            return Err(ImageStoreError::NoLayer { chain_id: chain_id.clone(), needed_by });
        };
        let layout = &self.inner.layout;
        let path = layout.layer_fs(chain_id);
        let root = layout::open_dir(&layout.layers_fd, chain_id.hex())
            .and_then(|dir| layout::open_dir(&dir, FS))
            .map_err(at("open", path.clone()))?;
        let mut export = Export { writer: Writer::new(out), links: HashMap::new() };
        export
            .directory(&root, Path::new(""), 0)
            .and_then(|()| export.writer.finish())
            .map_err(at("export", path))
    }
}

/// Hashes what is written.
struct Hashed<W> {
    inner: W,
    hasher: Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct Export<W> {
    writer: Writer<W>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Export<W> {
    fn directory(&mut self, fd: &OwnedFd, path: &Path, depth: usize) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("the tree is too deep to be written"));
        }
        let mut entry = entry(Kind::Directory, path, &fstat(fd)?);
        entry.path.push(b'/');
        if path.as_os_str().is_empty() {
            entry.path = b"./".to_vec();
        }
        entry.xattrs = xattrs(fd)?;
        self.writer.entry(&entry, io::empty())?;
        if overlay::is_opaque(fd)? {
            self.marker(path, OPAQUE_MARKER.as_ref())?;
        }
        for name in layout::names(fd)? {
            let stat = statat(fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            let full = path.join(&name);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                self.directory(&layout::open_dir(fd, &name)?, &full, depth + 1)?;
            } else {
                self.other(fd, path, &name, &stat)?;
            }
        }
        Ok(())
    }

    fn other(&mut self, fd: &OwnedFd, dir: &Path, name: &OsStr, stat: &Stat) -> io::Result<()> {
        let full = dir.join(name);
        if stat.st_nlink > 1 {
            let first = self.links.get(&(stat.st_dev, stat.st_ino));
            if let Some(first) = first.cloned() {
                let mut entry = entry(Kind::HardLink, &full, stat);
                entry.link = first.into_os_string().into_encoded_bytes();
                return self.writer.entry(&entry, io::empty());
            }
            self.links.insert((stat.st_dev, stat.st_ino), full.clone());
        }
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let mut entry = entry(Kind::File, &full, stat);
                let Some(file) = open_file(fd, name)? else { return Ok(()) };
                entry.size = u64::try_from(stat.st_size).unwrap_or(0);
                let file = OwnedFd::from(file);
                entry.xattrs = xattrs(&file)?;
                return self.writer.entry(&entry, std::fs::File::from(file));
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => {
                let mut marker = OsString::from(WHITEOUT_PREFIX);
                marker.push(name);
                return self.marker(dir, &marker);
            }
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::Fifo => Kind::Fifo,
            FileType::Symlink => Kind::Symlink,
            // Archives have no sockets, so no layer has one.
            FileType::Directory | FileType::Socket | FileType::Unknown => return Ok(()),
        };
        let mut entry = entry(kind, &full, stat);
        if kind == Kind::Symlink {
            entry.link = readlinkat(fd, name, Vec::new())?.into_bytes();
        } else if kind != Kind::Fifo {
            entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        self.writer.entry(&entry, io::empty())
    }

    fn marker(&mut self, dir: &Path, name: &OsStr) -> io::Result<()> {
        let entry = Entry {
            path: dir.join(name).into_os_string().into_encoded_bytes(),
            kind: Kind::File,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: (0, 0),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            segments: None,
        };
        self.writer.entry(&entry, io::empty())
    }
}

fn entry(kind: Kind, path: &Path, stat: &Stat) -> Entry {
    Entry {
        path: path.as_os_str().as_bytes().to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid.into(),
        gid: stat.st_gid.into(),
        size: 0,
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        segments: None,
    }
}
