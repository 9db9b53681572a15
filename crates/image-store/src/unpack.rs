//! A blob becomes a layer, in one pass.

use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use oci_image::{Compression, LayerEntry, layer_entry};
use rustix::fs::{Mode, OFlags, fchmod, fsync, openat, renameat, renameat_with};

use crate::error::{ImageStoreError, LayerError};
use crate::frame::Recorder;
use crate::layout::{self, FRAME, FS, IMPLIED, SUMS};
use crate::measure::measure;
use crate::options::Limits;
use crate::pending::Pending;
use crate::records::{self, LayerRecord};
use crate::steps::Step;
use crate::store::{HeldLayer, ImageStore, Inner};
use crate::stream::{LayerStream, PIECES_AHEAD, StreamEnd, decompress};
use crate::sums::Sums;
use crate::tar::{BadArchive, Kind, Reader, TarError, shown};
use crate::trash::{self, Area};
use crate::tree::{Below, Fault, Tree};
use crate::types::{Check, Form, LayerInfo, LayerJob};

/// Bytes after which the disk is told to begin with them. Much more, and the end waits for it; much less, and the
/// file system writes the same blocks of its own again and again.
const WRITE_BACK: u64 = 32 << 20;
/// What an entry costs beside its bytes.
const ENTRY: u64 = 4 << 10;

impl ImageStore {
    /// Reads a layer's blob, checks it and unpacks it, in one pass; `progress` counts the bytes read.
    /// A layer that is here already, or that another call brings meanwhile, is not read again.
    ///
    /// # Errors
    /// [`ImageStoreError::Layer`]; nothing of the layer is left then.
    pub fn unpack_layer(
        &self,
        job: &LayerJob,
        compression: Compression,
        reader: impl Read + Send,
        progress: &AtomicU64,
    ) -> Result<HeldLayer, ImageStoreError> {
        self.bring_layer(job, (&Form::Archive(compression), Check::Here), reader, progress)
    }

    /// As [`ImageStore::unpack_layer`], of any form, and without hashing what the reader hashes.
    ///
    /// # Errors
    /// As there.
    pub fn bring_layer(
        &self,
        job: &LayerJob,
        blob: (&Form, Check),
        reader: impl Read + Send,
        progress: &AtomicU64,
    ) -> Result<HeldLayer, ImageStoreError> {
        let _turn = self.inner.chains.take(&job.chain_id);
        if let Some(here) = self.hold_layer(&job.chain_id) {
            return Ok(here);
        }
        let inner = &self.inner;
        inner
            .unpack(job, blob, reader, progress)
            .and_then(|staged| inner.add(staged))
            .map(|info| HeldLayer::counted(Arc::clone(inner), info))
            .map_err(|source| {
                inner.make_room(&source);
                of_layer(job, source)
            })
    }
}

/// The failure of a layer.
pub(crate) fn of_layer(job: &LayerJob, source: LayerError) -> ImageStoreError {
    ImageStoreError::Layer { digest: job.descriptor.digest.clone(), source }
}

/// A layer whose data reached the disk, and that has no place yet.
pub(crate) struct Staged<'a> {
    pub staging: Staging<'a>,
    pub info: LayerInfo,
    pub is_settled: bool,
}

impl Inner {
    /// Unpacks a layer beside the others.
    pub(crate) fn unpack(
        &self,
        job: &LayerJob,
        blob: (&Form, Check),
        reader: impl Read + Send,
        progress: &AtomicU64,
    ) -> Result<Staged<'_>, LayerError> {
        let mark = self.syncer.mark();
        let staging = Staging::make(self)?;
        let below = if job.parent.is_some() { Below::Something } else { Below::Nothing };
        let tree = Tree::new(staging.fs()?, below, Sums::new(staging.file(SUMS)?));
        // Where there can be none, the layer is as good without.
        let frame = matches!(blob.0, Form::Archive(_)).then(|| staging.file(FRAME)).transpose()?;
        let frame = frame.and_then(|file| Recorder::new(file).ok());
        let pending = self.pass(job, blob, reader, progress, (tree, frame))?;
        let is_settled = job.parent.is_none() || pending.is_empty();
        staging.write_pending(&pending)?;
        self.hook(Step::Sync, "bring the layer to the disk")?;
        self.syncer.sync(mark).map_err(store("bring the layer to the disk"))?;
        let usage = measure(&staging.dir).map_err(store("measure the layer"))?;
        let info = LayerInfo {
            chain_id: job.chain_id.clone(),
            parent: job.parent.clone(),
            diff_id: job.diff_id.clone(),
            blob: job.descriptor.digest.clone(),
            blob_size: job.descriptor.size,
            usage,
        };
        Ok(Staged { staging, info, is_settled })
    }

    /// Gives a new layer its place and its record; with one use counted.
    fn add(&self, staged: Staged<'_>) -> Result<LayerInfo, LayerError> {
        let Staged { staging, info, is_settled } = staged;
        staging.place(info.chain_id.hex())?;
        if let Err(e) = self.record_layer(&info, is_settled) {
            // Without its record the layer is an orphan: it goes now, or at the next start.
            let layers = &self.layout.layers_fd;
            let hex = info.chain_id.hex().as_ref();
            let _ = trash::trash(&self.layout, &*self.options.steps, Area::Images, layers, hex);
            return Err(e);
        }
        let mut tables = self.tables();
        tables.insert_layer(info.clone(), is_settled, Instant::now());
        // It was put in under the same lock, so it is there.
        let _ = tables.use_layers(std::slice::from_ref(&info.chain_id));
        Ok(info)
    }

    pub(crate) fn record_layer(
        &self,
        info: &LayerInfo,
        is_settled: bool,
    ) -> Result<(), LayerError> {
        self.hook(Step::RecordLayer, "record the layer")?;
        self.layer_records
            .put(&records::key(&info.chain_id), &LayerRecord::new(info, is_settled))
            .map_err(LayerError::Record)
    }

    /// The one pass. A second thread decompresses; it ends before this does.
    fn pass(
        &self,
        job: &LayerJob,
        blob: (&Form, Check),
        reader: impl Read + Send,
        progress: &AtomicU64,
        (tree, frame): (Tree, Option<Recorder>),
    ) -> Result<Pending, LayerError> {
        let (sender, pieces) = sync_channel(PIECES_AHEAD);
        let (give_back, used) = sync_channel(PIECES_AHEAD + 2);
        let (limit, ratio) = (self.options.limits.bytes, self.options.limits.ratio);
        // An archive that is made here from a file has no digest of its own.
        let diff_id = match blob.0 {
            Form::Archive(_) => Some(&job.diff_id),
            Form::File(_) => None,
        };
        let stream = LayerStream::new((pieces, give_back), diff_id, frame, limit);
        let descriptor = &job.descriptor;
        let (blob, unpacked) = std::thread::scope(|scope| {
            let other = scope.spawn(move || {
                let pieces = (&sender, &used);
                decompress(reader, descriptor, blob, ratio, pieces, progress)
            });
            let unpacked = self.write_entries(job, stream, tree);
            (other.join(), unpacked)
        });
        let blob = blob.unwrap_or_else(|_| {
            let source = std::io::Error::other("the decompressing thread panicked");
            Err(LayerError::Store { action: "decompress the layer", source })
        });
        match (blob, unpacked) {
            (Ok(()), Ok(pending)) => Ok(pending),
            (Err(e), Ok(_) | Err(Failed::Stream(StreamEnd::BrokenOff | StreamEnd::Other(_)))) => {
                Err(e)
            }
            // What is no archive is most often a blob that was damaged: its digest tells, if it does.
            (Err(e), Err(Failed::Entry(LayerError::Archive(_)))) => Err(e),
            (_, Err(Failed::Entry(e))) => Err(e),
            (_, Err(Failed::Stream(StreamEnd::TooLong))) => {
                Err(LayerError::TooBig { what: "bytes", limit })
            }
            (Ok(()), Err(Failed::Stream(StreamEnd::Other(found)))) => {
                Err(LayerError::DiffId { found, expected: job.diff_id.clone() })
            }
            (Ok(()), Err(Failed::Stream(StreamEnd::BrokenOff))) => {
                Err(LayerError::Decompress(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))
            }
        }
    }

    fn write_entries(
        &self,
        job: &LayerJob,
        stream: LayerStream,
        mut tree: Tree,
    ) -> Result<Pending, Failed> {
        let Limits { entries: most, path_bytes, .. } = self.options.limits;
        let mut reader = Reader::new(stream, path_bytes);
        let (mut count, mut unwritten) = (0, 0_u64);
        let failed = loop {
            let entry = match reader.next_entry() {
                Ok(Some(entry)) => entry,
                Ok(None) => break None,
                Err(e) => break Some(e),
            };
            count += 1;
            if count > most {
                return Err(LayerError::TooBig { what: "entries", limit: most }.into());
            }
            self.hook(Step::Entry, "write an entry")?;
            if let (Kind::File, None) = (entry.kind, &entry.segments)
                && entry.size > 0
                && let Ok(LayerEntry::Content(path)) = layer_entry(&entry.path)
            {
                reader.inner_mut().is_file(&path, entry.size);
            }
            match tree.apply(&entry, &mut reader) {
                Ok(()) => {}
                Err(Fault::Source(e)) => break Some(TarError::Io(e)),
                Err(fault) => return Err(blame(shown(&entry.path), fault).into()),
            }
            unwritten = entry.size.saturating_add(ENTRY).saturating_add(unwritten);
            if unwritten >= WRITE_BACK {
                unwritten = 0;
                self.syncer.begin();
            }
        };
        let stream = reader.into_inner();
        match failed {
            Some(TarError::Io(_)) if stream.is_too_long() => {
                return Err(Failed::Stream(StreamEnd::TooLong));
            }
            Some(TarError::Io(_)) => return Err(Failed::Stream(StreamEnd::BrokenOff)),
            Some(TarError::Bad(bad)) => {
                stream.verify(&job.diff_id).map_err(Failed::Stream)?;
                return Err(LayerError::Archive(bad).into());
            }
            None => stream.verify(&job.diff_id).map_err(Failed::Stream)?,
        }
        Ok(tree.finish().map_err(|fault| blame(String::new(), fault))?)
    }

    pub(crate) fn hook(&self, step: Step, action: &'static str) -> Result<(), LayerError> {
        self.options.steps.before(step).map_err(store(action))
    }
}

/// Why a layer was not unpacked.
enum Failed {
    Stream(StreamEnd),
    Entry(LayerError),
}

impl From<LayerError> for Failed {
    fn from(error: LayerError) -> Self {
        Self::Entry(error)
    }
}

fn blame(entry: String, fault: Fault) -> LayerError {
    match fault {
        Fault::Bad(problem) => {
            LayerError::Archive(BadArchive { entry, problem: problem.to_owned() })
        }
        Fault::Write { action, source } => LayerError::Write { entry, action, source },
        Fault::Source(source) => LayerError::Read(source),
    }
}

fn store<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> LayerError {
    move |e| LayerError::Store { action, source: e.into() }
}

/// A layer in the making. Dropped before it has its place, it is deleted.
pub(crate) struct Staging<'a> {
    inner: &'a Inner,
    name: String,
    dir: OwnedFd,
    is_placed: std::cell::Cell<bool>,
}

impl<'a> Staging<'a> {
    fn make(inner: &'a Inner) -> Result<Self, LayerError> {
        inner.hook(Step::Stage, "make a staging directory")?;
        let name = inner.layout.unique();
        let dir = layout::ensure_dir(&inner.layout.staging_fd, &name)
            .map_err(store("make a staging directory"))?;
        Ok(Self { inner, name, dir, is_placed: std::cell::Cell::new(false) })
    }

    /// The directory of the layer's files, as a root is by default.
    fn fs(&self) -> Result<OwnedFd, LayerError> {
        let fd = layout::ensure_dir(&self.dir, FS).map_err(store("make the layer's directory"))?;
        fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(store("make the layer's directory"))?;
        Ok(fd)
    }

    /// A new file beside the layer's.
    fn file(&self, name: &str) -> Result<std::fs::File, LayerError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)
            .map(std::fs::File::from)
            .map_err(store("make a file beside the layer"))
    }

    fn write_pending(&self, pending: &Pending) -> Result<(), LayerError> {
        self.file(IMPLIED)?
            .write_all(&pending.to_bytes())
            .map_err(store("write what the layer implies"))
    }

    /// The layer's own directory.
    pub(crate) fn dir(&self) -> &OwnedFd {
        &self.dir
    }

    /// Changes places with the layer `hex`, which is deleted with this value. That it reaches the disk
    /// is for [`Inner::sync_places`] to see to.
    pub(crate) fn exchange(&self, hex: &str) -> Result<(), NotExchanged> {
        let stays = |cause: LayerError| NotExchanged { cause, is_lost: false };
        self.inner.hook(Step::Place, EXCHANGE).map_err(stays)?;
        let layout = &self.inner.layout;
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        let exchanged =
            renameat_with(&layout.staging_fd, &self.name, &layout.layers_fd, hex, flags);
        if exchanged.is_ok() {
            return Ok(());
        }
        // Not every file system exchanges, and the damaged layer may have lost its directory.
        let steps = &*self.inner.options.steps;
        trash::trash(layout, steps, Area::Images, &layout.layers_fd, hex.as_ref())
            .map_err(|e| stays(LayerError::Store { action: EXCHANGE, source: as_io(e) }))?;
        renameat(&layout.staging_fd, &self.name, &layout.layers_fd, hex)
            .map_err(|e| NotExchanged { cause: store(EXCHANGE)(e), is_lost: true })
    }

    /// Gives the layer its place among the others; what lies there without a record goes away.
    fn place(&self, hex: &str) -> Result<(), LayerError> {
        let action = "put the layer in its place";
        self.inner.hook(Step::Place, action)?;
        let layout = &self.inner.layout;
        let steps = &*self.inner.options.steps;
        trash::trash(layout, steps, Area::Images, &layout.layers_fd, hex.as_ref())
            .map_err(|e| LayerError::Store { action, source: as_io(e) })?;
        renameat(&layout.staging_fd, &self.name, &layout.layers_fd, hex).map_err(store(action))?;
        self.is_placed.set(true);
        fsync(&layout.layers_fd).map_err(store(action))
    }
}

const EXCHANGE: &str = "put the layer in the place of the damaged one";

/// A layer could not be exchanged.
pub(crate) struct NotExchanged {
    pub cause: LayerError,
    /// Whether the one that was here is not in its place any more either.
    pub is_lost: bool,
}

impl Inner {
    /// Brings the names of layers to the disk.
    pub(crate) fn sync_places(&self) -> Result<(), LayerError> {
        fsync(&self.layout.layers_fd).map_err(store(EXCHANGE))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if self.is_placed.get() {
            return;
        }
        let layout = &self.inner.layout;
        let steps = &*self.inner.options.steps;
        match trash::trash(layout, steps, Area::Images, &layout.staging_fd, self.name.as_ref()) {
            Ok(Some(name)) => self.inner.delete(Area::Images, &[name]),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a staging directory stays until the next start"),
        }
    }
}

/// The same failure as an I/O error, whose kind still says what class it has.
fn as_io(error: ImageStoreError) -> std::io::Error {
    let kind = if let ImageStoreError::Io { source, .. } = &error {
        source.kind()
    } else {
        std::io::ErrorKind::Other
    };
    std::io::Error::new(kind, error)
}
