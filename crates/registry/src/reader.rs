//! A blob for code that reads and does not await.

use std::io::{self, Read};

use bytes::{Buf as _, Bytes};
use tokio::runtime::Handle;

use crate::blob::BlobStream;

/// Reads a [`BlobStream`] from a thread that may block (`spawn_blocking`), never from a task.
///
/// An error of the registry comes as [`io::Error`] with the [`crate::RegistryError`] inside
/// (`get_ref` and `downcast_ref`).
#[derive(Debug)]
pub struct BlobReader {
    stream: BlobStream,
    runtime: Handle,
    rest: Bytes,
}

impl BlobReader {
    /// A reader of `stream` that waits on `runtime`.
    #[must_use]
    pub const fn new(stream: BlobStream, runtime: Handle) -> Self {
        Self { stream, runtime, rest: Bytes::new() }
    }
}

impl Read for BlobReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(Ok(bytes)) => self.rest = bytes,
                Some(Err(e)) => return Err(io::Error::other(e)),
                None => return Ok(0),
            }
        }
        let n = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..n]);
        Ok(n)
    }
}
