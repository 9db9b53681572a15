//! Compressed blobs on disk: those that are half here, and those that are kept.
//!
//! Always: a blob that came in part is a beginning of the right one or is found out by its digest; a
//! kept one was verified and reached the disk before it got its name, and goes with the last layer that
//! was unpacked from it.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use model::Digest;
use oci_image::Descriptor;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, flock, openat, renameat, statat, unlinkat,
};

use crate::error::{ImageStoreError, at};
use crate::layout;
use crate::store::{ImageStore, Inner};

impl ImageStore {
    /// A place for the blob of `descriptor` while it comes, with what came of it before. `None` for a
    /// blob that is too small to be worth it, for one that somebody else brings now, and where the disk
    /// does not have it: a pull goes on without.
    #[must_use]
    pub fn partial(&self, descriptor: &Descriptor) -> Option<Partial> {
        let options = &self.inner.options;
        let keep = options.keep_blobs;
        let is_worth_it =
            !options.keep_partial.is_zero() && descriptor.size >= options.partial_from;
        if !keep && !is_worth_it {
            return None;
        }
        let name = descriptor.digest.hex().to_owned();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let mut file =
            openat(&self.inner.layout.partial_fd, &name, flags, mode).map(File::from).ok()?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
        // Whoever had the lock before may have taken the file away.
        let here = rustix::fs::fstat(&file).ok()?;
        let named = statat(&self.inner.layout.partial_fd, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        if (here.st_dev, here.st_ino) != (named.st_dev, named.st_ino) {
            return None;
        }
        let mut have = u64::try_from(here.st_size).ok()?;
        if have > descriptor.size || (have > 0 && !is_worth_it) {
            file.set_len(0).ok()?;
            have = 0;
        }
        file.seek(SeekFrom::Start(0)).ok()?;
        let inner = Arc::clone(&self.inner);
        Some(Partial { inner, digest: descriptor.digest.clone(), name, file, have, keep })
    }

    /// The blob, if it is kept. Whoever reads it checks its digest.
    #[must_use]
    pub fn kept_blob(&self, digest: &Digest) -> Option<File> {
        self.inner.tables().kept_size(digest)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.inner.layout.blobs_fd, digest.hex(), flags, Mode::empty()).map(File::from).ok()
    }

    /// Where the blob is, if it is kept.
    #[must_use]
    pub fn kept_blob_path(&self, digest: &Digest) -> Option<PathBuf> {
        self.inner.tables().kept_size(digest)?;
        Some(self.inner.layout.root.join("blobs").join(digest.hex()))
    }

    /// Removes blobs that came in part and that nobody has gone on with for the configured time; how
    /// many bytes they had.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn sweep_partial(&self, all: bool) -> Result<u64, ImageStoreError> {
        let inner = &self.inner;
        let path = inner.layout.root.join("partial");
        let mut freed = 0;
        for name in layout::names(&inner.layout.partial_fd).map_err(at("read", path))? {
            freed += inner.sweep_one(&name, all).unwrap_or(0);
        }
        Ok(freed)
    }
}

impl Inner {
    fn sweep_one(&self, name: &OsStr, all: bool) -> io::Result<u64> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.layout.partial_fd, name, flags, Mode::empty())?);
        // One that is in use is locked.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let meta = file.metadata()?;
        let age = meta.modified().ok().and_then(|m| SystemTime::now().duration_since(m).ok());
        let is_old = age.is_some_and(|age| age >= self.options.keep_partial);
        if !all && !is_old {
            return Ok(0);
        }
        unlinkat(&self.layout.partial_fd, name, AtFlags::empty())?;
        Ok(meta.len())
    }

    /// Removes a kept blob.
    pub fn drop_blob(&self, digest: &Digest) {
        if let Err(error) = unlinkat(&self.layout.blobs_fd, digest.hex(), AtFlags::empty()) {
            tracing::debug!(%digest, %error, "a kept blob stays until the next start");
        }
    }
}

/// A blob on its way.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    digest: Digest,
    name: String,
    file: File,
    have: u64,
    keep: bool,
}

impl Partial {
    /// How many of its first bytes are here.
    #[must_use]
    pub const fn have(&self) -> u64 {
        self.have
    }

    /// Nothing came; a place that was empty goes.
    pub fn give_up(self) {
        if self.have == 0 {
            let _ = unlinkat(&self.inner.layout.partial_fd, &self.name, AtFlags::empty());
        }
    }

    /// The whole blob: what is here, then `rest`, which is written down as it comes.
    pub fn reader<R: Read>(self, rest: R) -> Resumed<R> {
        Resumed { left: self.have, partial: self, rest, is_kept: true }
    }
}

/// A blob that is read from its place and then from elsewhere.
#[derive(Debug)]
pub struct Resumed<R> {
    partial: Partial,
    /// Bytes that are still to be read from the place.
    left: u64,
    rest: R,
    /// Whether the place has everything that came.
    is_kept: bool,
}

impl<R: Read> Read for Resumed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left > 0 {
            let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
            let n = self.partial.file.read(&mut buffer[..most])?;
            if n == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.left -= n as u64;
            return Ok(n);
        }
        let n = self.rest.read(buffer)?;
        if self.is_kept && self.partial.file.write_all(&buffer[..n]).is_err() {
            // A disk that is full fails the layer, not the memory of it.
            self.is_kept = false;
            let _ = self.partial.file.set_len(0);
        }
        Ok(n)
    }
}

/// How the reading of a blob ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is whole and verified.
    Whole,
    /// It broke off.
    BrokeOff,
    /// It is not what it should be, or there is no room for it.
    Wrong,
}

impl<R> Resumed<R> {
    /// Ends it: what broke off stays for the next pull, what is whole is kept where blobs are.
    pub fn end(self, how: Ended) {
        let Partial { inner, digest, name, file, keep, .. } = self.partial;
        let stays = match how {
            Ended::Whole if keep && self.is_kept => {
                inner.keep_blob(&digest, &name, &file);
                return;
            }
            Ended::BrokeOff => self.is_kept && !inner.options.keep_partial.is_zero(),
            Ended::Whole | Ended::Wrong => false,
        };
        if !stays {
            let _ = unlinkat(&inner.layout.partial_fd, &name, AtFlags::empty());
        }
    }
}

impl Inner {
    /// Gives a whole, verified blob its name. That it fails costs nothing but a later download.
    fn keep_blob(&self, digest: &Digest, name: &str, file: &File) {
        let kept = file.sync_all().and_then(|()| {
            let size = file.metadata()?.len();
            renameat(&self.layout.partial_fd, name, &self.layout.blobs_fd, digest.hex())?;
            rustix::fs::fsync(&self.layout.blobs_fd)?;
            Ok(size)
        });
        match kept {
            Ok(size) => self.tables().keep_blob(digest.clone(), size),
            Err(error) => tracing::warn!(%digest, %error, "a blob cannot be kept"),
        }
    }
}

/// Kept blobs that are there, by digest; those of no layer are removed.
pub(crate) fn load(
    layout: &layout::Layout,
    wanted: impl Iterator<Item = Digest>,
) -> io::Result<HashMap<Digest, u64>> {
    let by_name: HashMap<String, Digest> = wanted.map(|d| (d.hex().to_owned(), d)).collect();
    let mut kept = HashMap::new();
    for name in layout::names(&layout.blobs_fd)? {
        let stat = statat(&layout.blobs_fd, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        match name.to_str().and_then(|n| by_name.get(n)) {
            Some(digest) => {
                kept.insert(digest.clone(), u64::try_from(stat.st_size).unwrap_or(0));
            }
            None => unlinkat(&layout.blobs_fd, &name, AtFlags::empty())?,
        }
    }
    Ok(kept)
}
