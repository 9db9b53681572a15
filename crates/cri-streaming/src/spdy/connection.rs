//! A connection: one task that reads, one that writes what is queued, and the table of streams between them.
//!
//! Always: what waits to be written is bounded by [`COMMANDS_AHEAD`] frames, what waits to be read on a
//! stream by [`UNREAD`] bytes, twice the window that the peer is given, and they grow together; past that the socket
//! is not read, so a slow reader stops the peer.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex as Turns, Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::PollSender;

use super::frame::Frame;
use super::headers::Headers;
use super::reading::{Incoming, Reading};
use super::stream::{Reader, Stream, StreamState, Writer};
use super::window::{INITIAL, OFFERED, Window};
use super::writing::{Line, Outgoing, fin, write_queue};
use crate::websocket as ws;
use crate::wire::Wire;

/// Frames that wait to be written; who has one more waits himself.
pub const COMMANDS_AHEAD: usize = 16;
/// Bytes that wait for the reader of a stream, with what it costs to keep them. It is twice the window that a peer is
/// given, with which it grows, so one that counts and sends more than crumbs never comes here; past it the socket is
/// not read.
pub const UNREAD: usize = 1 << 20;
/// Streams that the peer has opened and nobody has taken yet. Past that the socket is not read.
const STREAMS_AHEAD: usize = 64;
/// How long a closed connection waits for its peer to close.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Which side of a connection this is; it decides who has the odd stream numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The side that connected.
    Client,
    /// The side that was connected to.
    Server,
}

/// What a connection may take up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams that are open at the same time; one more is refused.
    pub streams: usize,
    /// A connection on which nothing moves for so long is ended.
    pub idle: Duration,
    /// How often the peer is asked whether it is there. It must have said something since, two times in a row.
    pub ping: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams: 1024,
            idle: Duration::from_secs(4 * 3600),
            ping: Some(Duration::from_secs(30)),
        }
    }
}

/// What the writing task is to write.
#[derive(Debug)]
pub(super) enum Command {
    Frame(Frame),
    Encoded(Bytes),
    Open {
        stream: u32,
        headers: Headers,
        fin: bool,
    },
    Reply {
        stream: u32,
    },
    /// Write what came before and end.
    Close,
}

/// Who resets a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Us,
    Peer,
}

/// A piece of data, and the room that it takes until it has been read.
#[derive(Default)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) _room: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for Piece {
    /// How much it is; what it is belongs to a container and its client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Piece").field(&self.bytes.len()).finish()
    }
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: Arc<StreamState>,
    pub(super) inbound: Option<mpsc::UnboundedSender<Piece>>,
    pub(super) replied: Option<oneshot::Sender<()>>,
    pub(super) is_write_open: bool,
}

#[derive(Debug)]
pub(super) struct Table {
    pub(super) streams: HashMap<u32, Entry>,
    pub(super) next_id: u32,
    pub(super) last_peer_id: u32,
    pub(super) initial_window: i64,
    pub(super) peer_counts: bool,
    pub(super) is_over: bool,
}

/// What the tasks, the streams and the openers of a connection share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) table: Mutex<Table>,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) line: Turns<Line>,
    pub(super) role: Role,
    /// Whether pages that are held can be handed on.
    pub(super) splices: bool,
    /// Something was queued, or is to be told.
    pub(super) has_work: Notify,
    /// Nobody opens streams any more: what is still to be written has a little time.
    pub(super) is_left: Notify,
    pub(super) window: Window,
    pub(super) over: Notify,
    pub(super) all_written: Notify,
    /// Bytes that were read and that the peer has not been told of, by stream.
    pub(super) rooms: Mutex<HashMap<u32, u32>>,
    /// Frames written, to tell whether anything moves.
    pub(super) written: AtomicU64,
    pub(super) is_draining: AtomicBool,
}

/// Opens streams, and ends the connection when the last of its clones is dropped.
#[derive(Debug, Clone)]
pub struct Opener {
    shared: Arc<Shared>,
    _tasks: Arc<Tasks>,
}

#[derive(Debug)]
struct Tasks {
    reader: AbortHandle,
    shared: Arc<Shared>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.reader.abort();
        self.shared.end();
        // One that is full has a peer that does not read; it is left to itself after a while.
        let _ = self.shared.commands.try_send(Command::Close);
        self.shared.has_work.notify_one();
        self.shared.is_left.notify_one();
    }
}

/// What SPDY is spoken over.
#[derive(Debug)]
pub enum Over {
    /// A connection.
    Wire(Wire),
    /// The binary messages of a WebSocket.
    WebSocket(ws::Receiver, ws::Sender),
}

/// A connection and what the peer opens on it.
#[derive(Debug)]
pub struct Connection {
    /// Opens streams.
    pub opener: Opener,
    /// Streams that the peer has opened; they are accepted already. It ends with the connection.
    pub incoming: mpsc::Receiver<Stream>,
}

impl Connection {
    /// Speaks SPDY/3.1 from now on.
    #[must_use]
    pub fn start(over: Over, role: Role, limits: Limits) -> Self {
        let (incoming, outgoing) = match over {
            Over::Wire(Wire { read, write }) => (Incoming::Socket(read), Outgoing::Socket(write)),
            Over::WebSocket(receiver, sender) => {
                (Incoming::Tunnel(Box::new(receiver)), Outgoing::Tunnel(sender))
            }
        };
        let (commands, to_write) = mpsc::channel(COMMANDS_AHEAD);
        let next_id = if role == Role::Client { 1 } else { 2 };
        let shared = Arc::new(Shared {
            table: Mutex::new(Table {
                streams: HashMap::new(),
                next_id,
                last_peer_id: 0,
                initial_window: INITIAL,
                peer_counts: false,
                is_over: false,
            }),
            commands,
            role,
            splices: outgoing.splices(),
            line: Turns::new(Line::new(outgoing, to_write)),
            has_work: Notify::new(),
            is_left: Notify::new(),
            window: Window::new(INITIAL, false),
            over: Notify::new(),
            all_written: Notify::new(),
            rooms: Mutex::default(),
            written: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
        });
        let (streams, opened) = mpsc::channel(STREAMS_AHEAD);
        let writing = Arc::clone(&shared);
        tokio::spawn(async move {
            match write_queue(&writing).await {
                // The peer may still have something to say, which is read until it closes too.
                Ok(()) => writing.all_written.notify_one(),
                Err(error) => {
                    tracing::debug!(%error, "writing to a SPDY connection");
                    writing.all_written.notify_one();
                    writing.end();
                }
            }
        });
        let mut reading = Reading::new(Arc::clone(&shared), limits, streams);
        let reader = tokio::spawn(async move {
            if let Err(error) = reading.run(incoming).await {
                tracing::debug!(%error, "a SPDY connection has ended");
            }
            reading.end();
        });
        let tasks = Arc::new(Tasks { reader: reader.abort_handle(), shared: Arc::clone(&shared) });
        Self { opener: Opener { shared, _tasks: tasks }, incoming: opened }
    }
}

impl Opener {
    /// Opens a stream and waits until the peer has accepted it.
    ///
    /// # Errors
    /// A connection that has ended, or a peer that refuses the stream.
    pub async fn open(&self, headers: Headers) -> io::Result<Stream> {
        let (replied, reply) = oneshot::channel();
        let place = self.shared.commands.reserve().await;
        let place = place.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        let stream = {
            let mut table = self.shared.table();
            if table.is_over {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let id = table.next_id;
            table.next_id = id.checked_add(2).ok_or(io::ErrorKind::QuotaExceeded)?;
            let stream =
                self.shared.new_stream(&mut table, id, headers.clone(), Some(replied), false);
            // Under the lock: a peer refuses a number that comes behind a higher one.
            place.send(Command::Open { stream: id, headers, fin: false });
            self.shared.has_work.notify_one();
            stream
        };
        reply.await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        Ok(stream)
    }

    /// Waits for the connection's end.
    pub async fn ended(&self) {
        self.shared.ended().await;
    }

    /// Writes what waits to be written, closes this side, and waits a little for the peer to close its own: a
    /// socket that is closed before the peer has sent all can take from it what it has not read yet.
    pub async fn close(&self) {
        if self.shared.is_draining.swap(true, Ordering::AcqRel) {
            return self.ended().await;
        }
        let last_stream = self.shared.table().last_peer_id;
        let bye = Command::Frame(Frame::GoAway { last_stream, status: 0 });
        let closing = async {
            self.shared.command(bye).await?;
            self.shared.command(Command::Close).await?;
            self.shared.all_written.notified().await;
            self.ended().await;
            Ok::<_, io::Error>(())
        };
        // A peer that does not close in time is left.
        let _ = tokio::time::timeout(LINGER, closing).await;
    }
}

impl Shared {
    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        // The table is whole between any two statements.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nothing comes and nothing goes any more.
    pub(super) async fn ended(&self) {
        loop {
            let over = self.over.notified();
            if self.table().is_over {
                return;
            }
            over.await;
        }
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) async fn command(&self, command: Command) -> io::Result<()> {
        let sent = self.commands.send(command).await;
        self.has_work.notify_one();
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    pub(super) fn new_stream(
        self: &Arc<Self>,
        table: &mut Table,
        id: u32,
        headers: Headers,
        replied: Option<oneshot::Sender<()>>,
        peer_is_done: bool,
    ) -> Stream {
        let window = Window::new(table.initial_window, table.peer_counts);
        let state = Arc::new(StreamState {
            id,
            window,
            is_broken: AtomicBool::new(false),
            is_reset: AtomicBool::new(false),
            is_whole: AtomicBool::new(peer_is_done),
            unread: Arc::new(Semaphore::new(UNREAD)),
        });
        let (inbound, pieces) = mpsc::unbounded_channel();
        let inbound = (!peer_is_done).then_some(inbound);
        let entry = Entry { state: Arc::clone(&state), inbound, replied, is_write_open: true };
        table.streams.insert(id, entry);
        let reader = Reader {
            state: Arc::clone(&state),
            shared: Arc::clone(self),
            pieces,
            piece: Piece::default(),
            untold: 0,
            offered: OFFERED,
            ends_by_reset: false,
        };
        let commands = PollSender::new(self.commands.clone());
        let writer = Writer {
            state,
            shared: Arc::clone(self),
            commands,
            is_finished: false,
            finishes_on_drop: false,
            has_queued: false,
        };
        Stream { id, headers, reader, writer }
    }

    /// Has the peer told that `bytes` were read. It never waits and is never lost: a peer that counts would wait
    /// for it for ever.
    pub(super) fn tell_room(&self, stream: u32, bytes: u32) {
        {
            let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
            let room = rooms.entry(stream).or_default();
            *room = room.saturating_add(bytes);
        }
        self.has_work.notify_one();
    }

    pub(super) fn take_rooms(&self) -> HashMap<u32, u32> {
        std::mem::take(&mut *self.rooms.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This side's direction of a stream has ended.
    pub(super) fn write_closed(&self, id: u32) {
        let mut table = self.table();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.is_write_open = false;
            if entry.inbound.is_none() {
                table.streams.remove(&id);
            }
        }
    }

    /// The peer's direction of a stream has ended.
    pub(super) fn read_closed(&self, id: u32) {
        let mut table = self.table();
        if let Some(entry) = table.streams.get_mut(&id) {
            entry.state.is_whole.store(true, Ordering::Release);
            entry.inbound = None;
            if !entry.is_write_open {
                table.streams.remove(&id);
            }
        }
    }

    /// Ends a stream at once, in both directions, unless both have ended.
    pub(super) fn reset(self: &Arc<Self>, id: u32, status: u32) {
        if self.break_stream(id, By::Us) {
            self.command_later(Command::Frame(Frame::RstStream { stream: id, status }));
        }
    }

    /// Ends this side's direction of a stream, whose writer is gone.
    pub(super) fn finish(self: &Arc<Self>, id: u32) {
        self.command_later(fin(id));
        self.write_closed(id);
    }

    /// Has a frame written from where nothing can wait, as long as the connection is not over.
    fn command_later(self: &Arc<Self>, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(command)) = self.commands.try_send(command)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let shared = Arc::clone(self);
            runtime.spawn(async move {
                tokio::select! {
                    _ = shared.command(command) => {}
                    () = shared.ended() => {}
                }
            });
        }
        self.has_work.notify_one();
    }

    /// Whether there was such a stream.
    pub(super) fn break_stream(&self, id: u32, by: By) -> bool {
        let entry = self.table().streams.remove(&id);
        let Some(entry) = entry else { return false };
        entry.state.is_reset.store(by == By::Peer, Ordering::Release);
        entry.state.is_broken.store(true, Ordering::Release);
        entry.state.window.wake_all();
        true
    }

    /// Nothing comes and nothing goes any more.
    pub(super) fn end(&self) {
        let streams = {
            let mut table = self.table();
            table.is_over = true;
            std::mem::take(&mut table.streams)
        };
        for entry in streams.into_values() {
            entry.state.is_broken.store(true, Ordering::Release);
            entry.state.window.wake_all();
        }
        self.window.wake_all();
        self.over.notify_waiters();
    }
}
