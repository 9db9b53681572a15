//! LoadImage and SaveImage: archives between a stream of messages and a thread that may block.
//!
//! Always: at most [`PIECES_AHEAD`] pieces wait; past that the slower side makes the other one wait. A load
//! whose caller goes away fails; one that has all its bytes goes on.

use std::io::{self, Read, Write};

use admin_api::MAX_CHUNK_BYTES;
use admin_api::v1;
use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::stream::Streamed;
use crate::{Services, code};

/// Pieces between the two sides.
const PIECES_AHEAD: usize = 4;

pub(super) async fn load(
    services: &Services,
    mut given: Streaming<v1::LoadChunk>,
) -> Result<Response<v1::LoadReply>, Status> {
    let Some(first) = given.message().await? else {
        return Err(Status::invalid_argument("the archive is empty"));
    };
    let hint = Some(first.name_hint).filter(|hint| !hint.is_empty());
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let images = services.images.clone();
    tokio::spawn(async move {
        let mut next = Some(Ok(first.data));
        while let Some(piece) = next {
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                return;
            }
            next = given.next().await.map(|message| match message {
                Ok(chunk) => Ok(chunk.data),
                Err(status) => Err(io::Error::other(status.message().to_owned())),
            });
        }
    });
    let work = tokio::spawn(async move {
        images.load(Incoming { receiver, piece: Bytes::new() }, hint.as_deref()).await
    });
    let loaded = work
        .await
        .map_err(|_| Status::internal("the load ended without an answer"))?
        .map_err(|error| code::status(&error))?;
    let images = loaded
        .into_iter()
        .map(|one| v1::LoadedImage { id: one.id.to_string(), names: one.names })
        .collect();
    Ok(Response::new(v1::LoadReply { images }))
}

/// The archive, as a thread that may block reads it.
struct Incoming {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

pub(super) fn save(
    services: &Services,
    request: v1::SaveRequest,
) -> Result<Response<Streamed<v1::SaveChunk>>, Status> {
    if request.images.is_empty() {
        return Err(Status::invalid_argument("images is missing: it is required"));
    }
    let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
    let images = services.images.clone();
    tokio::spawn(async move {
        let out = Outgoing { sender: sender.clone(), piece: Vec::new() };
        if let Err(error) = images.save(&request.images, out).await {
            // Nobody is there any more to be told, then.
            let _ = sender.send(Err(code::status(&error))).await;
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// The archive, as a thread that may block writes it.
struct Outgoing {
    sender: mpsc::Sender<Result<v1::SaveChunk, Status>>,
    piece: Vec<u8>,
}

impl Outgoing {
    fn pass_on(&mut self) -> io::Result<()> {
        let data = Bytes::from(std::mem::take(&mut self.piece));
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the caller went away");
        self.sender.blocking_send(Ok(v1::SaveChunk { data })).map_err(|_| gone())
    }
}

impl Write for Outgoing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(MAX_CHUNK_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..length]);
        if self.piece.len() == MAX_CHUNK_BYTES {
            self.pass_on()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { self.pass_on() }
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // A writer that was not flushed has failed, and its caller is told that.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn pieces_are_read_in_order_and_a_broken_stream_is_an_error() {
        let (sender, receiver) = mpsc::channel(PIECES_AHEAD);
        for piece in [&b"ab"[..], b"", b"cde"] {
            sender.send(Ok(Bytes::from_static(piece))).await.unwrap();
        }
        sender.send(Err(io::Error::other("reset"))).await.unwrap();
        drop(sender);
        let mut incoming = Incoming { receiver, piece: Bytes::new() };
        let read = tokio::task::spawn_blocking(move || {
            let mut five = [0; 5];
            incoming.read_exact(&mut five).unwrap();
            (five, incoming.read(&mut [0; 1]).unwrap_err().to_string())
        });
        assert_eq!(read.await.unwrap(), (*b"abcde", "reset".to_owned()));
    }

    #[tokio::test]
    async fn what_is_written_comes_in_pieces_of_bounded_size() {
        let (sender, mut receiver) = mpsc::channel(PIECES_AHEAD);
        let write = tokio::task::spawn_blocking(move || {
            let mut out = Outgoing { sender, piece: Vec::new() };
            out.write_all(&vec![7; MAX_CHUNK_BYTES + 10]).unwrap();
        });
        let mut sizes = Vec::new();
        while let Some(piece) = receiver.recv().await {
            sizes.push(piece.unwrap().data.len());
        }
        write.await.unwrap();
        assert_eq!(sizes, [MAX_CHUNK_BYTES, 10]);
    }
}
