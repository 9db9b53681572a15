//! The directories of the store (docs/formats/image-store.md), by descriptor.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use model::{Digest, Timestamp};
use rustix::fs::{CWD, Dir, Mode, OFlags, mkdirat, open, openat};
use rustix::io::Errno;

use crate::error::{ImageStoreError, at};

/// What is in the file `format`.
pub(crate) const FORMAT: &str = "isopod-image-store 1";
/// The directory of a layer's files, inside the layer's directory.
pub(crate) const FS: &str = "fs";
/// The list of directories that a layer only implies, beside its files.
pub(crate) const IMPLIED: &str = "implied";
/// Sizes and checksums of the layer's files, beside them.
pub(crate) const SUMS: &str = "sums";
/// What of the layer's archive is not in its files, beside them.
pub(crate) const FRAME: &str = "frame";
/// The trash of the containers' directory, which may be on another file system.
pub(crate) const CONTAINERS_TRASH: &str = ".trash";

/// The store's directories.
#[derive(Debug)]
pub(crate) struct Layout {
    pub root: PathBuf,
    pub containers: PathBuf,
    pub root_fd: OwnedFd,
    pub layers_fd: OwnedFd,
    pub staging_fd: OwnedFd,
    pub trash_fd: OwnedFd,
    pub partial_fd: OwnedFd,
    pub blobs_fd: OwnedFd,
    pub containers_fd: OwnedFd,
    pub containers_trash_fd: OwnedFd,
    counter: AtomicU64,
}

impl Layout {
    /// Makes what is missing and opens it. Only the daemon's user may enter: layers hold setuid
    /// programs and devices of strangers.
    pub fn open(root: &Path, containers: Option<&Path>) -> Result<Self, ImageStoreError> {
        let make = |path: &Path| std::fs::create_dir_all(path).map_err(at("make", path));
        make(root)?;
        let root = root.canonicalize().map_err(at("resolve", root))?;
        let containers = containers.map_or_else(|| root.join("containers"), Path::to_path_buf);
        make(&containers)?;
        let containers = containers.canonicalize().map_err(at("resolve", &containers))?;
        let top = |path: &Path| -> Result<OwnedFd, ImageStoreError> {
            let fd = open_dir(CWD, path).map_err(at("open", path))?;
            rustix::fs::fchmod(&fd, Mode::RWXU).map_err(at("set the mode of", path))?;
            Ok(fd)
        };
        let (root_fd, containers_fd) = (top(&root)?, top(&containers)?);
        let sub = |fd: &OwnedFd, base: &Path, name: &str| {
            ensure_dir(fd, name).map_err(at("open", base.join(name)))
        };
        Ok(Self {
            layers_fd: sub(&root_fd, &root, "layers")?,
            staging_fd: sub(&root_fd, &root, "staging")?,
            trash_fd: sub(&root_fd, &root, "trash")?,
            partial_fd: sub(&root_fd, &root, "partial")?,
            blobs_fd: sub(&root_fd, &root, "blobs")?,
            containers_trash_fd: sub(&containers_fd, &containers, CONTAINERS_TRASH)?,
            root,
            containers,
            root_fd,
            containers_fd,
            counter: AtomicU64::new(0),
        })
    }

    /// The files of a layer, as overlayfs is told.
    pub fn layer_fs(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("layers").join(chain_id.hex()).join(FS)
    }

    /// The lower directory of an image that has no layers.
    pub fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    pub fn records(&self, kind: &str) -> PathBuf {
        self.root.join("records").join(kind)
    }

    /// A name that nothing in the store has: not after a crash either, because the time is in it.
    pub fn unique(&self) -> String {
        format!("{:x}-{:x}", now().0, self.counter.fetch_add(1, Ordering::Relaxed))
    }
}

/// The time by the wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Opens the directory `name`, which is no link.
pub(crate) fn open_dir(
    parent: impl std::os::fd::AsFd,
    name: impl rustix::path::Arg,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Opens the directory at `path` of the host; links on the way are the administrator's own.
pub(crate) fn open_host_dir(path: &Path) -> Result<OwnedFd, Errno> {
    open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes the directory `name` (mode 0700) if it is missing, and opens it.
pub(crate) fn ensure_dir(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => open_dir(parent, name),
        Err(e) => Err(e),
    }
}

/// Every name in a directory but `.` and `..`, sorted.
pub(crate) fn names(dir: &OwnedFd) -> io::Result<Vec<std::ffi::OsString>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut names = Vec::new();
    for entry in Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
