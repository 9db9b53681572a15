//! One pass over a blob: counted, hashed and decompressed by one thread, hashed again and unpacked by
//! another, so that a single large layer keeps two processors busy.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use flate2::bufread::MultiGzDecoder;
use model::Digest;
use oci_image::{Compression, Descriptor, Hasher};

use crate::error::LayerError;
use crate::frame::Recorder;
use crate::tar::{Entry, Kind, Writer};
use crate::types::{Check, Form};

/// Bytes that any blob may become: what is below costs nothing, and a small archive of zeros is common.
const FREE: u64 = 64 << 20;
const BUFFER: usize = 128 << 10;
/// Bytes that are decompressed ahead of the unpacking, in pieces of [`BUFFER`]: 1 MiB. Past it the
/// decompression waits, and with it the network.
pub(crate) const PIECES_AHEAD: usize = 8;

/// A piece of the archive; `Err` where it breaks off. Why, the decompressing side says at its end.
pub(crate) type Piece = Result<Vec<u8>, BrokenOff>;

/// The archive ends too early.
#[derive(Debug)]
pub(crate) struct BrokenOff;

/// The blob's bytes as they come.
struct Source<'a, R> {
    inner: R,
    /// `None` where the reader itself compares the digest.
    hasher: Option<Hasher>,
    count: u64,
    expected: u64,
    /// The failure behind an error that passed through the decompressor.
    fault: Option<LayerError>,
    progress: &'a AtomicU64,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.inner.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.fault.get_or_insert(LayerError::Read(e));
                    return Err(io::Error::other("the source failed"));
                }
                Ok(n) => break n,
            }
        };
        self.count += n as u64;
        if self.count > self.expected {
            let (found, expected) = (self.expected.saturating_add(1), self.expected);
            self.fault.get_or_insert(LayerError::Size { found, expected });
            return Err(io::Error::other("the blob is too long"));
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..n]);
        }
        self.progress.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

enum Decoder<R: Read> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<R>>>),
}

impl<R: Read> Decoder<R> {
    fn new(source: R, compression: Compression) -> Result<Self, LayerError> {
        let buffered = |source| BufReader::with_capacity(BUFFER, source);
        Ok(match compression {
            Compression::None => Self::Plain(source),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(source)))),
            Compression::Zstd => {
                let mut decoder =
                    zstd::Decoder::with_buffer(buffered(source)).map_err(LayerError::Decompress)?;
                // 128 MiB, what the zstd program itself takes; a frame may ask for gigabytes.
                decoder.window_log_max(27).map_err(LayerError::Decompress)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(d) => d.read(buffer),
            Self::Gzip(d) => d.read(buffer),
            Self::Zstd(d) => d.read(buffer),
        }
    }

    fn source(&self) -> &R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(gzip) => gzip.get_ref().get_ref(),
            Self::Zstd(zstd) => zstd.get_ref().get_ref(),
        }
    }

    fn into_source(self) -> R {
        match self {
            Self::Plain(source) => source,
            Self::Gzip(gzip) => gzip.into_inner().into_inner(),
            Self::Zstd(zstd) => zstd.finish().into_inner(),
        }
    }
}

/// Reads the blob that `descriptor` describes from `inner` to its end, sends the archive in it to
/// `pieces`, whose memory comes back, and says whether the blob is the right one. Ends early, and well,
/// when nobody takes the pieces any more.
pub(crate) fn decompress(
    inner: impl Read,
    descriptor: &Descriptor,
    (form, check): (&Form, Check),
    ratio: u64,
    pieces: (&SyncSender<Piece>, &Receiver<Vec<u8>>),
    progress: &AtomicU64,
) -> Result<(), LayerError> {
    let (pieces, used) = pieces;
    let (compression, around) = match form {
        Form::Archive(compression) => (*compression, None),
        Form::File(name) => (Compression::None, Some(around(name, descriptor.size)?)),
    };
    let (before, after) = around.unzip();
    if let Some(before) = before
        && pieces.send(Ok(before)).is_err()
    {
        return Ok(());
    }
    let source = Source {
        inner,
        hasher: (check == Check::Here).then(|| Hasher::like(&descriptor.digest)),
        count: 0,
        expected: descriptor.size,
        fault: None,
        progress,
    };
    let mut decoder = Decoder::new(source, compression)?;
    let mut out = 0;
    loop {
        // A piece that was used comes back: a new one each time would cost the kernel a page fault for
        // each of its pages.
        let mut piece = used.try_recv().unwrap_or_default();
        piece.resize(BUFFER, 0);
        match fill(&mut decoder, &mut piece) {
            Ok(0) => break,
            Ok(n) => {
                piece.truncate(n);
                out += n as u64;
                if out > FREE && out / decoder.source().count.max(1) > ratio {
                    let _ = pieces.send(Err(BrokenOff));
                    return Err(LayerError::TooBig { what: "times its own size", limit: ratio });
                }
            }
            Err(e) => {
                // Nobody may be there to hear it.
                let _ = pieces.send(Err(BrokenOff));
                let fault = decoder.into_source().fault;
                return Err(fault.unwrap_or(LayerError::Decompress(e)));
            }
        }
        if pieces.send(Ok(piece)).is_err() {
            return Ok(());
        }
    }
    let source = match finish(decoder.into_source()) {
        Ok(source) => source,
        Err(e) => return Err(broken(e, after.is_some(), pieces)),
    };
    if source.count != descriptor.size {
        let e = LayerError::Size { found: source.count, expected: descriptor.size };
        return Err(broken(e, after.is_some(), pieces));
    }
    if let Some(found) = source.hasher.map(Hasher::finish)
        && found != descriptor.digest
    {
        return Err(broken(LayerError::Digest { found }, after.is_some(), pieces));
    }
    if let Some(after) = after {
        // Nobody may take it any more; why, the other side says.
        let _ = pieces.send(Ok(after));
    }
    Ok(())
}

/// The failure; an archive that is made here would otherwise seem to end in the middle.
fn broken(error: LayerError, is_made: bool, pieces: &SyncSender<Piece>) -> LayerError {
    if is_made {
        let _ = pieces.send(Err(BrokenOff));
    }
    error
}

/// What makes an archive of one file out of its bytes: what stands before and after them.
fn around(name: &str, size: u64) -> Result<(Vec<u8>, Vec<u8>), LayerError> {
    let entry = Entry {
        path: name.as_bytes().to_vec(),
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: (0, 0),
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        segments: None,
    };
    let mut writer = Writer::new(Vec::new());
    writer.head(&entry).map_err(LayerError::Decompress)?;
    let padding = usize::try_from(size.next_multiple_of(512) - size).unwrap_or(0);
    Ok((writer.into_inner(), vec![0; padding + 1024]))
}

/// Fills the buffer as far as the archive goes: decoders give a little at a time.
fn fill<R: Read>(decoder: &mut Decoder<R>, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match decoder.read(&mut buffer[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Reads what follows: a decompressor stops at its end mark, and the rest is the blob's too.
fn finish<R: Read>(mut source: Source<'_, R>) -> Result<Source<'_, R>, LayerError> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(source),
            Ok(_) => {}
            Err(e) => return Err(source.fault.take().unwrap_or(LayerError::Read(e))),
        }
    }
}

/// The archive that a blob holds, as it is unpacked.
#[derive(Debug)]
pub(crate) struct LayerStream {
    pieces: Receiver<Piece>,
    /// Where pieces go back to.
    used: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
    hasher: Option<Hasher>,
    frame: Option<Recorder>,
    count: u64,
    limit: u64,
}

impl LayerStream {
    /// The archive whose pieces come from `pieces`, of `limit` bytes at most, to be compared with
    /// `diff_id` where there is one; what is no file's goes to `frame`.
    pub fn new(
        (pieces, used): (Receiver<Piece>, SyncSender<Vec<u8>>),
        diff_id: Option<&Digest>,
        frame: Option<Recorder>,
        limit: u64,
    ) -> Self {
        let hasher = diff_id.map(Hasher::like);
        Self { pieces, used, piece: Vec::new(), at: 0, hasher, frame, count: 0, limit }
    }

    /// The next `size` bytes are those of the layer's file `path`.
    pub fn is_file(&mut self, path: &Path, size: u64) {
        if let Some(frame) = &mut self.frame {
            frame.file(path, size);
        }
    }

    /// Whether reading failed because there is more than the limit.
    pub fn is_too_long(&self) -> bool {
        self.count > self.limit
    }

    /// Reads to the end and compares.
    pub fn verify(mut self, diff_id: &Digest) -> Result<(), StreamEnd> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if self.is_too_long() => return Err(StreamEnd::TooLong),
                Err(_) => return Err(StreamEnd::BrokenOff),
            }
        }
        match self.hasher.map(Hasher::finish) {
            Some(found) if found != *diff_id => Err(StreamEnd::Other(found)),
            Some(_) | None => {
                if let Some(frame) = self.frame {
                    frame.finish();
                }
                Ok(())
            }
        }
    }
}

/// How a stream ends that does not end well.
#[derive(Debug)]
pub(crate) enum StreamEnd {
    /// The decompressing side knows why.
    BrokenOff,
    /// It has more bytes than the limit.
    TooLong,
    /// It is another archive, with this digest.
    Other(Digest),
}

impl Read for LayerStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            match self.pieces.recv() {
                Ok(Ok(piece)) => {
                    let used = std::mem::replace(&mut self.piece, piece);
                    self.at = 0;
                    // Nobody may want it any more.
                    let _ = self.used.try_send(used);
                }
                Ok(Err(BrokenOff)) => return Err(io::Error::other("the archive breaks off")),
                // The other side is done.
                Err(_) => return Ok(0),
            }
            self.count += self.piece.len() as u64;
            if self.is_too_long() {
                return Err(io::Error::other("the archive is too long"));
            }
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.piece);
            }
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        if let Some(frame) = &mut self.frame {
            frame.pass(&buffer[..n]);
        }
        Ok(n)
    }
}
