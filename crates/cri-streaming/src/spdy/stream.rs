//! One stream: a reader and a writer that are closed one by one.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::PollSender;

use super::connection::{Command, Piece, Role, Shared};
use super::frame::{MAX_DATA, data_head};
use super::headers::Headers;
use super::window::{OFFERED_MOST, Window};
use super::writing::{Head, fin};
use crate::wire::{Body, Held};

/// RST_STREAM's status for a stream that nobody wants any more.
pub(super) const CANCEL: u32 = 5;

/// What both halves of a stream and its connection know of it.
#[derive(Debug)]
pub(super) struct StreamState {
    pub(super) id: u32,
    pub(super) window: Window,
    /// It was reset, or its connection has ended before it.
    pub(super) is_broken: AtomicBool,
    /// The peer has reset it.
    pub(super) is_reset: AtomicBool,
    /// The peer has ended its direction: what was read is all there is.
    pub(super) is_whole: AtomicBool,
    /// Room for what waits to be read.
    pub(super) unread: Arc<Semaphore>,
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
    /// What the peer may send before any of it is read.
    pub(super) offered: u32,
    pub(super) ends_by_reset: bool,
}

impl Reader {
    /// The same, but where the peer resets the stream, it has ended. Kubernetes' own server ends the streams of an
    /// exec and of an attach so once it has said all.
    #[must_use]
    pub fn ending_by_reset(self) -> Self {
        Self { ends_by_reset: true, ..self }
    }

    /// Resets the stream, unless both sides have ended it.
    pub(crate) fn reset(&self) {
        self.shared.reset(self.state.id, CANCEL);
    }

    /// Whether the stream ended before the peer had said all.
    fn is_cut(&self) -> bool {
        let has_ended = |by: &AtomicBool| by.load(Ordering::Acquire);
        let is_whole = has_ended(&self.state.is_whole)
            || self.ends_by_reset && has_ended(&self.state.is_reset);
        has_ended(&self.state.is_broken) && !is_whole
    }

    /// Sees to it that there is a piece with bytes in it; there is none at the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.piece.bytes.is_empty() {
            match ready!(self.pieces.poll_recv(cx)) {
                Some(piece) => self.piece = piece,
                None if self.is_cut() => {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                None => return Poll::Ready(Ok(false)),
            }
        }
        Poll::Ready(Ok(true))
    }

    /// What a reader that keeps up has its peer given beyond what it has read.
    fn grown(&mut self) -> u32 {
        if self.shared.role == Role::Server
            || self.offered >= OFFERED_MOST
            || !self.pieces.is_empty()
        {
            return 0;
        }
        let more = self.offered.min(OFFERED_MOST - self.offered);
        // As much again for what it costs to keep the pieces: see UNREAD.
        self.state.unread.add_permits(2 * more as usize);
        self.offered += more;
        more
    }

    /// The peer is told of so much room, sooner or later.
    fn has_read(&mut self, bytes: usize) {
        self.untold = self.untold.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
        if self.untold < self.offered / 2 {
            return;
        }
        let more = self.grown();
        let told = std::mem::take(&mut self.untold).saturating_add(more);
        self.shared.tell_room(self.state.id, told);
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !ready!(self.poll_piece(cx))? {
            return Poll::Ready(Ok(()));
        }
        let now = out.remaining().min(self.piece.bytes.len());
        out.put_slice(&self.piece.bytes[..now]);
        self.consume(now);
        Poll::Ready(Ok(()))
    }
}

/// The bytes as they lie in memory: whoever hands them on copies none. Until they are consumed they take the peer's
/// room.
impl AsyncBufRead for Reader {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let reader = self.get_mut();
        let is_there = ready!(reader.poll_piece(cx))?;
        Poll::Ready(Ok(if is_there { &reader.piece.bytes } else { &[] }))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        let reader = self.get_mut();
        reader.piece.bytes.advance(count);
        if reader.piece.bytes.is_empty() {
            // Its memory can be read into again.
            reader.piece = Piece::default();
        }
        reader.has_read(count);
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
    /// Something was written by way of the queue.
    pub(super) has_queued: bool,
}

impl Writer {
    /// The same, but dropped without `shutdown` it ends this direction instead of resetting the stream.
    #[must_use]
    pub fn finishing(self) -> Self {
        let mut writer = self;
        writer.finishes_on_drop = true;
        writer
    }

    /// Whether pages that are held can be handed on: not behind what waits to be written.
    pub(crate) fn splices(&self) -> bool {
        !self.has_queued && self.shared.splices
    }

    /// Sends what is held, past the queue: nobody else has a hand in it.
    ///
    /// # Errors
    /// A stream or a connection that is over.
    pub(crate) async fn send_held(&mut self, held: &mut Held) -> io::Result<()> {
        if self.has_queued {
            while held.len() > 0 {
                let count = self.write(held.in_memory(usize::MAX)?).await?;
                held.wrote(count);
            }
            return Ok(());
        }
        while held.len() > 0 {
            let state = Arc::clone(&self.state);
            let wanted = held.len();
            let has_room = poll_fn(|cx| {
                let room = ready!(state.window.poll_room(cx, wanted));
                self.shared.window().poll_room(cx, room)
            });
            has_room.await;
            let mut line = self.shared.line.lock().await;
            if let Some(error) = self.broken() {
                return Err(error);
            }
            // Others have had the line meanwhile, and room of the connection with it.
            let room = self.shared.window().room(self.state.window.room(wanted));
            if room == 0 {
                continue;
            }
            self.state.window.spend(room);
            self.shared.window().spend(room);
            let head = Head { stream: self.state.id, length: room };
            line.data(&self.shared, head, Body::Held(held, room)).await?;
        }
        Ok(())
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
        self.has_queued = true;
        self.commands.send_item(Command::Encoded(frame.freeze())).map_err(gone)?;
        self.shared.has_work.notify_one();
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
        let id = self.state.id;
        self.commands.send_item(fin(id)).map_err(gone)?;
        self.shared.has_work.notify_one();
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
