//! One stream: a reader and a writer that are closed one by one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::connection::{Command, Piece, Shared};
use super::frame::{Frame, MAX_DATA, data_head};
use super::headers::Headers;
use super::window::Window;

/// RST_STREAM's status for a stream that nobody wants any more.
pub(super) const CANCEL: u32 = 5;
/// So many bytes are read before the peer is told that there is room for them.
pub(super) const TELL_AFTER: u32 = 64 << 10;

/// What both halves of a stream and its connection know of it.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) id: u32,
    pub(super) window: Window,
    /// It was reset, or its connection has ended before it.
    pub(super) is_broken: AtomicBool,
    /// The peer has ended its direction: what was read is all there is.
    pub(super) is_whole: AtomicBool,
}

/// A stream of a connection.
#[derive(Debug)]
pub struct Stream {
    /// Its number.
    pub id: u32,
    /// What it was opened with.
    pub headers: Headers,
    /// What the peer sends.
    pub reader: Reader,
    /// What is sent to the peer.
    pub writer: Writer,
}

impl Stream {
    /// The value of the header `name`, which is lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Reads what the peer sends on a stream, to the peer's end of it. When it is dropped before, the rest is
/// read and forgotten.
#[derive(Debug)]
pub struct Reader {
    pub(super) state: Arc<StreamState>,
    pub(super) shared: Arc<Shared>,
    pub(super) pieces: mpsc::UnboundedReceiver<Piece>,
    pub(super) piece: Piece,
    pub(super) untold: u32,
}

impl Reader {
    /// Whether the stream ended before the peer had said all.
    fn is_cut(&self) -> bool {
        self.state.is_broken.load(Ordering::Acquire) && !self.state.is_whole.load(Ordering::Acquire)
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.piece.bytes.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.piece = piece,
                None if self.is_cut() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => return Poll::Ready(Ok(())),
            }
        }
        let now = out.remaining().min(self.piece.bytes.len());
        out.put_slice(&self.piece.bytes[..now]);
        self.piece.bytes.advance(now);
        self.untold = self.untold.saturating_add(u32::try_from(now).unwrap_or(u32::MAX));
        if self.untold >= TELL_AFTER {
            let told = std::mem::take(&mut self.untold);
            self.shared.tell_room(self.state.id, told);
        }
        Poll::Ready(Ok(()))
    }
}

/// Writes to the peer. `shutdown` ends this direction; dropped without it, the stream is reset.
#[derive(Debug)]
pub struct Writer {
    pub(super) state: Arc<StreamState>,
    pub(super) shared: Arc<Shared>,
    pub(super) commands: PollSender<Command>,
    pub(super) is_finished: bool,
    pub(super) finishes_on_drop: bool,
}

impl Writer {
    /// The same, but dropped without `shutdown` it ends this direction instead of resetting the stream.
    #[must_use]
    pub fn finishing(self) -> Self {
        let mut writer = self;
        writer.finishes_on_drop = true;
        writer
    }

    fn broken(&self) -> Option<io::Error> {
        (self.is_finished || self.state.is_broken.load(Ordering::Acquire))
            .then(|| io::ErrorKind::BrokenPipe.into())
    }
}

fn gone<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for Writer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let wanted = bytes.len().min(MAX_DATA);
        let room = ready!(self.state.window.poll_room(cx, wanted));
        let room = ready!(self.shared.window().poll_room(cx, room));
        ready!(self.commands.poll_reserve(cx)).map_err(gone)?;
        if let Some(error) = self.broken() {
            self.commands.abort_send();
            return Poll::Ready(Err(error));
        }
        self.state.window.spend(room);
        self.shared.window().spend(room);
        let mut frame = BytesMut::with_capacity(8 + room);
        data_head(&mut frame, self.state.id, false, room);
        frame.extend_from_slice(&bytes[..room]);
        self.commands.send_item(Command::Encoded(frame.freeze())).map_err(gone)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.broken().is_some() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.commands.poll_reserve(cx)).map_err(gone)?;
        let fin = Frame::Data { stream: self.state.id, fin: true, bytes: Bytes::new() };
        self.commands.send_item(Command::Frame(fin)).map_err(gone)?;
        self.is_finished = true;
        self.shared.write_closed(self.state.id);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.broken().is_some() {
            return;
        }
        if self.finishes_on_drop {
            self.shared.finish(self.state.id);
        } else {
            self.shared.reset(self.state.id, CANCEL);
        }
    }
}
