//! One pass over a blob: counted and hashed, decompressed, hashed again.

use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use model::Digest;
use oci_image::{Compression, Descriptor, Hasher};

use crate::error::LayerError;

const BUFFER: usize = 128 << 10;

/// What was found out about the blob's bytes, shared with the reader at the bottom of the stack.
#[derive(Debug)]
struct Blob {
    hasher: Hasher,
    count: u64,
    /// The failure behind an error that passed through the decompressor.
    fault: Option<LayerError>,
}

/// The blob's bytes as they come.
#[derive(Debug)]
struct Source<'a, R> {
    inner: R,
    blob: Rc<RefCell<Blob>>,
    expected: u64,
    progress: &'a AtomicU64,
}

impl<R: Read> Read for Source<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.inner.read(buffer) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let placeholder = io::Error::other("the source failed");
                    self.blob.borrow_mut().fault.get_or_insert(LayerError::Read(e));
                    return Err(placeholder);
                }
                Ok(n) => break n,
            }
        };
        let mut blob = self.blob.borrow_mut();
        blob.count += n as u64;
        if blob.count > self.expected {
            let found = self.expected.saturating_add(1);
            blob.fault.get_or_insert(LayerError::Size { found, expected: self.expected });
            return Err(io::Error::other("the blob is too long"));
        }
        blob.hasher.update(&buffer[..n]);
        self.progress.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

enum Decoder<R: Read> {
    Plain(R),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<R>>>),
}

/// The archive that a blob holds.
pub(crate) struct LayerStream<'a, R: Read> {
    decoder: Decoder<Source<'a, R>>,
    blob: Rc<RefCell<Blob>>,
    hasher: Hasher,
    count: u64,
    limit: u64,
}

/// A stream's verdict: what is wrong with it, if anything.
impl<'a, R: Read> LayerStream<'a, R> {
    /// Reads the blob that `descriptor` describes from `inner`; the archive may have `limit` bytes.
    pub fn new(
        inner: R,
        descriptor: &Descriptor,
        diff_id: &Digest,
        compression: Compression,
        limit: u64,
        progress: &'a AtomicU64,
    ) -> Result<Self, LayerError> {
        let hasher = Hasher::like(&descriptor.digest);
        let blob = Rc::new(RefCell::new(Blob { hasher, count: 0, fault: None }));
        let source = Source { inner, blob: Rc::clone(&blob), expected: descriptor.size, progress };
        let decoder = match compression {
            Compression::None => Decoder::Plain(source),
            Compression::Gzip => Decoder::Gzip(Box::new(MultiGzDecoder::new(
                BufReader::with_capacity(BUFFER, source),
            ))),
            Compression::Zstd => {
                let buffered = BufReader::with_capacity(BUFFER, source);
                let mut decoder =
                    zstd::Decoder::with_buffer(buffered).map_err(LayerError::Decompress)?;
                // 128 MiB, what the zstd program itself takes; a frame may ask for gigabytes.
                decoder.window_log_max(27).map_err(LayerError::Decompress)?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Ok(Self { decoder, blob, hasher: Hasher::like(diff_id), count: 0, limit })
    }

    /// Why `error`, which came out of this stream, happened.
    pub fn cause(&self, error: io::Error) -> LayerError {
        if let Some(fault) = self.blob.borrow_mut().fault.take() {
            return fault;
        }
        if self.count > self.limit {
            return LayerError::TooBig { what: "bytes", limit: self.limit };
        }
        LayerError::Decompress(error)
    }

    /// Reads to the end, then compares what came with what was announced.
    pub fn verify(mut self, descriptor: &Descriptor, diff_id: &Digest) -> Result<(), LayerError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => return Err(self.cause(e)),
            }
        }
        let mut source = match self.decoder {
            Decoder::Plain(source) => source,
            Decoder::Gzip(gzip) => gzip.into_inner().into_inner(),
            Decoder::Zstd(zstd) => zstd.finish().into_inner(),
        };
        // A decompressor stops at its end mark; what follows is the blob's too.
        loop {
            match source.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) => {
                    let fault = self.blob.borrow_mut().fault.take();
                    return Err(fault.unwrap_or(LayerError::Read(e)));
                }
            }
        }
        let blob = self.blob.borrow();
        if blob.count != descriptor.size {
            return Err(LayerError::Size { found: blob.count, expected: descriptor.size });
        }
        let found = blob.hasher.clone().finish();
        if found != descriptor.digest {
            return Err(LayerError::Digest { found });
        }
        let found = self.hasher.finish();
        if found != *diff_id {
            return Err(LayerError::DiffId { found, expected: diff_id.clone() });
        }
        Ok(())
    }
}

impl<R: Read> Read for LayerStream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = match &mut self.decoder {
            Decoder::Plain(d) => d.read(buffer),
            Decoder::Gzip(d) => d.read(buffer),
            Decoder::Zstd(d) => d.read(buffer),
        }?;
        self.count += n as u64;
        if self.count > self.limit {
            return Err(io::Error::other("the archive is too long"));
        }
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

impl<R: Read> std::fmt::Debug for LayerStream<'_, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerStream").field("count", &self.count).finish_non_exhaustive()
    }
}
