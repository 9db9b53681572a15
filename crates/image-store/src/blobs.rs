//! Compressed blobs on disk: those that are half here, and those that are kept.
//!
//! Always: a blob that came in part is a beginning of the right one or is found out by its digest; all
//! beginnings together are bounded, and go when the disk is full; a kept one is whole: it was read to its
//! end, was verified and reached the disk before it got its name, and goes with the last layer that was
//! unpacked from it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
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
use crate::types::Usage;

/// The most beginnings, whatever their sizes. Past it the oldest go.
const MOST_PARTIAL: usize = 256;

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
        // The size is somebody's word only, as the digest is: what another manifest says of the same
        // digest must not spoil this beginning.
        let name = format!("{}.{}", descriptor.digest.hex(), descriptor.size);
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
        let (inner, wanted) = (Arc::clone(&self.inner), descriptor.clone());
        Some(Partial { inner, wanted, name, file, have, keep })
    }

    /// As [`Self::partial`], for a blob that comes from this node; `None` unless blobs are kept.
    #[must_use]
    pub fn place_to_keep(&self, descriptor: &Descriptor) -> Option<Partial> {
        self.inner.options.keep_blobs.then(|| self.partial(descriptor)).flatten()
    }

    /// The blob of `descriptor`, if it is kept with this size. Whoever reads it checks its digest.
    #[must_use]
    pub fn kept_blob(&self, descriptor: &Descriptor) -> Option<File> {
        self.is_kept(descriptor).then_some(())?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let hex = descriptor.digest.hex();
        openat(&self.inner.layout.blobs_fd, hex, flags, Mode::empty()).map(File::from).ok()
    }

    /// Where the blob of `descriptor` is, if it is kept with this size.
    #[must_use]
    pub fn kept_blob_path(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        let path = self.inner.layout.root.join("blobs").join(descriptor.digest.hex());
        self.is_kept(descriptor).then_some(path)
    }

    fn is_kept(&self, descriptor: &Descriptor) -> bool {
        self.inner.tables().kept_size(&descriptor.digest) == Some(descriptor.size)
    }

    /// Removes blobs that came in part and that nobody has gone on with for the configured time, then
    /// the oldest of those that are too many; or all but those that come now. How many bytes they had.
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
        Ok(freed + inner.bound_partial())
    }
}

/// A beginning, by its age.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Beginning {
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    name: OsString,
    size: u64,
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

    /// All beginnings, the oldest first; none where they cannot be read.
    fn beginnings(&self) -> Vec<Beginning> {
        let partial = &self.layout.partial_fd;
        let look = |name: OsString| {
            let stat = statat(partial, &name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
            let modified = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0));
            Some(Beginning { modified, name, size: u64::try_from(stat.st_size).unwrap_or(0) })
        };
        let names = layout::names(partial).unwrap_or_default();
        let mut all: Vec<_> = names.into_iter().filter_map(look).collect();
        all.sort_unstable();
        all
    }

    /// What all beginnings take.
    pub fn partial_usage(&self) -> Usage {
        let mut sum = Usage::default();
        for one in self.beginnings() {
            sum += Usage { bytes: one.size, inodes: 1 };
        }
        sum
    }

    /// Removes the oldest of the beginnings that are too many; how many bytes they had. Those that come
    /// now stay, and count.
    fn bound_partial(&self) -> u64 {
        let all = self.beginnings();
        let (mut count, mut bytes) = (all.len(), all.iter().map(|one| one.size).sum::<u64>());
        let mut freed = 0;
        for one in all {
            if count <= MOST_PARTIAL && bytes <= self.options.partial_total {
                break;
            }
            if self.sweep_one(&one.name, true).is_ok() {
                count -= 1;
                bytes = bytes.saturating_sub(one.size);
                freed += one.size;
            }
        }
        freed
    }

    /// Where `error` says that the disk is full, beginnings go: they are worth less than anything else
    /// that is to be written.
    pub fn make_room(&self, error: &(dyn std::error::Error + 'static)) {
        if !is_full(error) {
            return;
        }
        let mut freed = 0;
        for one in self.beginnings() {
            freed += self.sweep_one(&one.name, true).unwrap_or(0);
        }
        tracing::warn!(freed, "the disk is full: beginnings of layers that broke off are removed");
    }

    /// Removes a kept blob.
    pub fn drop_blob(&self, digest: &Digest) {
        if let Err(error) = unlinkat(&self.layout.blobs_fd, digest.hex(), AtFlags::empty()) {
            tracing::debug!(%digest, %error, "a kept blob stays until the next start");
        }
    }
}

/// Whether a file system or a quota that is full is behind `error`.
fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// A blob on its way.
#[derive(Debug)]
pub struct Partial {
    inner: Arc<Inner>,
    wanted: Descriptor,
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

    /// The whole blob from `all`, which is written down as it comes; what is here does not count.
    pub fn reader_anew<R: Read>(mut self, all: R) -> Resumed<R> {
        let is_empty = self.have == 0 || self.file.set_len(0).is_ok();
        self.have = 0;
        Resumed { is_kept: is_empty, ..self.reader(all) }
    }

    /// The whole blob: what is here, then `rest`, which is written down as it comes.
    pub fn reader<R: Read>(self, rest: R) -> Resumed<R> {
        let have = self.have;
        Resumed { left: have, here: have, partial: self, rest, is_kept: true, is_over: false }
    }
}

/// A blob that is read from its place and then from elsewhere.
#[derive(Debug)]
pub struct Resumed<R> {
    partial: Partial,
    /// Bytes that are still to be read from the place.
    left: u64,
    rest: R,
    /// Bytes that the place has.
    here: u64,
    /// Whether the place has everything that came.
    is_kept: bool,
    /// Whether everything was read, the end too.
    is_over: bool,
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
        self.is_over |= n == 0 && !buffer.is_empty();
        if self.is_kept {
            match self.partial.file.write_all(&buffer[..n]) {
                Ok(()) => self.here += n as u64,
                Err(error) => {
                    // A disk that is full fails the layer, not the memory of it.
                    self.is_kept = false;
                    let _ = self.partial.file.set_len(0);
                    self.partial.inner.make_room(&error);
                }
            }
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
    /// Ends it: what broke off stays for the next pull, what is whole is kept where blobs are. A layer may
    /// have come another way meanwhile: then nobody read this blob to its end, and nobody verified it.
    pub fn end(self, how: Ended) {
        let Partial { inner, wanted, name, file, keep, .. } = self.partial;
        let is_here = self.is_kept && self.is_over && self.here == wanted.size;
        let stays = match how {
            Ended::Whole if keep && is_here => {
                inner.keep_blob(&wanted, &name, &file);
                return;
            }
            Ended::BrokeOff => self.is_kept && !inner.options.keep_partial.is_zero(),
            Ended::Whole | Ended::Wrong => false,
        };
        if stays {
            // It may be one of those that go.
            drop(file);
            inner.bound_partial();
        } else {
            let _ = unlinkat(&inner.layout.partial_fd, &name, AtFlags::empty());
        }
    }
}

impl Inner {
    /// Gives a whole, verified blob its name. That it fails costs nothing but a later download.
    fn keep_blob(&self, wanted: &Descriptor, name: &str, file: &File) {
        let digest = &wanted.digest;
        let kept = file.sync_all().and_then(|()| {
            let size = file.metadata()?.len();
            if size != wanted.size {
                let _ = unlinkat(&self.layout.partial_fd, name, AtFlags::empty());
                let problem = format!("it has {size} bytes on the disk, not {}", wanted.size);
                return Err(io::Error::other(problem));
            }
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
