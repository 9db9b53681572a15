//! The task that reads a connection's frames and deals them out.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::connection::{By, Command, Limits, Piece, Role, Shared, UNREAD};
use super::frame::{BadFrame, Decoder, Frame};
use super::headers::{BadHeaders, Decompressor, Headers};
use super::stream::Stream;
use super::window::MORE;
use crate::websocket as ws;
use crate::wire::ReadSide;

/// RST_STREAM: it refers to a stream that is not there.
const INVALID_STREAM: u32 = 2;
/// RST_STREAM: the stream was refused before anything was done.
const REFUSED: u32 = 3;

/// What it costs to keep a piece, beyond its bytes.
const PIECE: usize = 64;
/// Pieces up to this length are copied: they would keep all that was read with them.
const SMALL: usize = 4 << 10;

/// What a connection is read from.
#[derive(Debug)]
pub(super) enum Incoming {
    Socket(ReadSide),
    /// Binary messages; what they hold is one stream of bytes.
    Tunnel(Box<ws::Receiver>),
}

impl Incoming {
    /// The next bytes, as many as have come; none at the end.
    async fn more(&mut self) -> io::Result<Bytes> {
        match self {
            Self::Socket(socket) => Ok(socket.more().await?.freeze()),
            Self::Tunnel(receiver) => loop {
                match receiver.piece().await? {
                    None => return Ok(Bytes::new()),
                    Some(piece) if piece.is_text => {
                        let message = "a text message in a tunnel";
                        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                    }
                    Some(piece) if piece.bytes.is_empty() => {}
                    Some(piece) => return Ok(piece.bytes),
                }
            },
        }
    }
}

/// Why a connection ended that should not have.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] BadFrame),
    #[error(transparent)]
    Headers(#[from] BadHeaders),
    #[error("nothing has moved on it for {0:?}")]
    Idle(Duration),
    #[error("the peer does not answer")]
    Dead,
}

/// What the reading task knows.
pub(super) struct Reading {
    shared: Arc<Shared>,
    limits: Limits,
    streams: mpsc::Sender<Stream>,
    decompressor: Decompressor,
    /// Bytes that have come on the connection and that the peer has not been told of. They are told as they come,
    /// whoever reads them: the windows of the streams bound what waits.
    untold: u32,
}

impl Reading {
    pub(super) fn new(shared: Arc<Shared>, limits: Limits, streams: mpsc::Sender<Stream>) -> Self {
        Self { shared, limits, streams, decompressor: Decompressor::default(), untold: 0 }
    }

    /// Nothing comes and nothing goes any more.
    pub(super) fn end(&self) {
        self.shared.end();
    }

    pub(super) async fn run(&mut self, mut incoming: Incoming) -> Result<(), Broken> {
        let mut decoder = Decoder::default();
        loop {
            let more = self.read(&mut incoming).await?;
            if more.is_empty() {
                return Ok(());
            }
            decoder.give(more);
            while let Some(frame) = decoder.take()? {
                self.handle(frame).await?;
            }
        }
    }

    /// Reads, and sees to it that a peer that is gone is noticed.
    async fn read(&self, incoming: &mut Incoming) -> Result<Bytes, Broken> {
        let mut last_written = self.shared.written.load(Ordering::Relaxed);
        let mut idle_from = Instant::now();
        let mut unanswered = 0;
        // One read from beginning to end: a tunnel may be answering a ping in the middle of it.
        let more = incoming.more();
        tokio::pin!(more);
        loop {
            let idle_end = idle_from + self.limits.idle;
            let wake_at =
                self.limits.ping.map_or(idle_end, |every| idle_end.min(Instant::now() + every));
            tokio::select! {
                biased;
                more = &mut more => return Ok(more?),
                () = self.shared.ended() => return Ok(Bytes::new()),
                () = sleep_until(wake_at) => {}
            }
            let written = self.shared.written.load(Ordering::Relaxed);
            if written > last_written + unanswered {
                idle_from = Instant::now();
            } else if Instant::now() >= idle_end {
                return Err(Broken::Idle(self.limits.idle));
            }
            last_written = written;
            // A peer that has not read what was said before cannot answer, and that it is there, TCP has to know.
            if self.limits.ping.is_some() && self.shared.line.try_lock().is_ok() {
                if unanswered >= 2 {
                    return Err(Broken::Dead);
                }
                unanswered += 1;
                let id = if self.shared.role == Role::Client { 1 } else { 2 };
                let _ = self.shared.commands.try_send(Command::Frame(Frame::Ping { id }));
                self.shared.has_work.notify_one();
            }
        }
    }

    async fn handle(&mut self, frame: Frame) -> Result<(), Broken> {
        match frame {
            Frame::Data { stream, fin, bytes } => self.data(stream, fin, bytes).await,
            Frame::SynStream { stream, fin, headers } => {
                let headers = self.decompressor.headers(&headers)?;
                self.opened(stream, fin, headers).await?;
            }
            Frame::SynReply { stream, fin, headers } => {
                self.decompressor.headers(&headers)?;
                let replied =
                    self.shared.table().streams.get_mut(&stream).and_then(|e| e.replied.take());
                if let Some(replied) = replied {
                    let _ = replied.send(());
                }
                if fin {
                    self.shared.read_closed(stream);
                }
            }
            Frame::Headers { stream, fin, headers } => {
                self.decompressor.headers(&headers)?;
                if fin {
                    self.shared.read_closed(stream);
                }
            }
            Frame::RstStream { stream, .. } => {
                self.shared.break_stream(stream, By::Peer);
            }
            Frame::Settings { initial_window } => self.settings(initial_window),
            Frame::WindowUpdate { stream, delta } => self.window_update(stream, delta),
            Frame::Ping { id } => {
                let is_ours = (id % 2 == 1) == (self.shared.role == Role::Client);
                if !is_ours {
                    self.shared.command(Command::Frame(Frame::Ping { id })).await?;
                }
            }
            Frame::GoAway { .. } | Frame::Ignored { .. } => {}
        }
        Ok(())
    }

    async fn opened(&mut self, id: u32, fin: bool, headers: Headers) -> Result<(), Broken> {
        let stream = {
            let mut table = self.shared.table();
            if table.is_over {
                // Nobody would end it again, and nothing can be said of it.
                return Ok(());
            }
            let is_peers = (id % 2 == 1) == (self.shared.role == Role::Server);
            if !is_peers || id <= table.last_peer_id || table.streams.len() >= self.limits.streams {
                None
            } else {
                table.last_peer_id = id;
                Some(self.shared.new_stream(&mut table, id, headers, None, fin))
            }
        };
        let Some(stream) = stream else {
            let refused = Frame::RstStream { stream: id, status: REFUSED };
            return Ok(self.shared.command(Command::Frame(refused)).await?);
        };
        self.shared.command(Command::Reply { stream: id }).await?;
        // If nobody takes streams any more, this one is reset by being dropped.
        let _ = self.streams.send(stream).await;
        Ok(())
    }

    async fn data(&mut self, id: u32, fin: bool, bytes: Bytes) {
        self.untold = self.untold.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        if self.untold >= MORE / 4 {
            self.shared.tell_room(0, std::mem::take(&mut self.untold));
        }
        let inbound = {
            let table = self.shared.table();
            table
                .streams
                .get(&id)
                .map(|entry| entry.inbound.clone().map(|i| (i, Arc::clone(&entry.state.unread))))
        };
        match inbound {
            // The rest of one that was reset is passed over; one that never was is told so.
            None if id > self.shared.table().last_peer_id
                && (id % 2 == 1) == (self.shared.role == Role::Server) =>
            {
                let unknown = Frame::RstStream { stream: id, status: INVALID_STREAM };
                let _ = self.shared.commands.try_send(Command::Frame(unknown));
                self.shared.has_work.notify_one();
            }
            None | Some(None) => {}
            Some(Some((inbound, room))) => {
                if !bytes.is_empty() {
                    let wanted =
                        u32::try_from((bytes.len() + PIECE).min(UNREAD)).unwrap_or(u32::MAX);
                    // Whoever lets the reader go lets this go, too.
                    let room = tokio::select! {
                        biased;
                        room = room.acquire_many_owned(wanted) => room.ok(),
                        () = inbound.closed() => None,
                    };
                    let bytes =
                        if bytes.len() <= SMALL { Bytes::copy_from_slice(&bytes) } else { bytes };
                    let is_large = bytes.len() > SMALL;
                    // If nobody reads it any more, it is passed over.
                    let _ = inbound.send(Piece { bytes, _room: room });
                    if is_large {
                        // Read right away, it is still in the processor's cache, and its memory is used again.
                        yield_now().await;
                    }
                }
                if fin {
                    drop(inbound);
                    self.shared.read_closed(id);
                }
            }
        }
    }

    fn settings(&self, initial_window: Option<u32>) {
        let mut table = self.shared.table();
        table.peer_counts = true;
        let change = initial_window.map_or(0, |w| i64::from(w) - table.initial_window);
        table.initial_window += change;
        for entry in table.streams.values() {
            entry.state.window.bind();
            entry.state.window.add(change);
        }
    }

    fn window_update(&self, stream: u32, delta: u32) {
        if stream == 0 {
            self.shared.window().bind();
            self.shared.window().add(i64::from(delta));
            return;
        }
        let table = self.shared.table();
        if let Some(entry) = table.streams.get(&stream) {
            entry.state.window.bind();
            entry.state.window.add(i64::from(delta));
        }
    }
}
