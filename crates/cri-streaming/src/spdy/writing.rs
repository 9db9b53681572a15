//! The line to the peer: what waits in the queue, and who comes with bytes of his own, one at a time.
//!
//! Always: whoever has the line writes first what was queued before, so frames go out in their order and several
//! at once; a stream's bytes are handed on by the task that has them, past the queue.

use std::io;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::connection::{Command, LINGER, Shared};
use super::frame::{Frame, data_head};
use super::headers::{BadHeaders, Compressor, Headers};
use super::window::{MORE, OFFERED};
use crate::websocket::{self as ws, Kind};
use crate::wire::{Body, WriteSide};

/// RFC 6455 section 7.4.1: a normal end.
const NORMAL: u16 = 1000;

/// What a connection is written to.
#[derive(Debug)]
pub(super) enum Outgoing {
    Socket(WriteSide),
    /// Binary messages; what they hold is one stream of bytes.
    Tunnel(ws::Sender),
    Nobody,
}

impl Outgoing {
    pub(super) fn splices(&self) -> bool {
        match self {
            Self::Socket(socket) => socket.splices(),
            Self::Tunnel(sender) => sender.splices(),
            Self::Nobody => false,
        }
    }

    async fn write(&mut self, head: &[u8], body: Body<'_>) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.write(head, body).await,
            Self::Tunnel(sender) => sender.frame(Kind::Binary, head, body).await,
            Self::Nobody => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Socket(socket) => socket.shutdown().await,
            Self::Tunnel(sender) => sender.close(NORMAL).await,
            Self::Nobody => Ok(()),
        }
    }
}

/// Of a data frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) stream: u32,
    pub(super) length: usize,
}

/// The line. Whoever has it writes.
#[derive(Debug)]
pub(super) struct Line {
    outgoing: Outgoing,
    commands: mpsc::Receiver<Command>,
    compressor: Compressor,
    /// Frames that are written with the next one.
    out: BytesMut,
    is_over: bool,
}

impl Line {
    pub(super) fn new(outgoing: Outgoing, commands: mpsc::Receiver<Command>) -> Self {
        let (compressor, mut out) = Default::default();
        // Said before anything else, so that a peer that counts does so from the first byte on; others pass it over.
        Frame::Settings { initial_window: Some(OFFERED) }.encode(&mut out);
        Frame::WindowUpdate { stream: 0, delta: MORE }.encode(&mut out);
        Self { outgoing, commands, compressor, out, is_over: false }
    }

    /// Writes a data frame behind what was queued before.
    pub(super) async fn data(
        &mut self,
        shared: &Shared,
        head: Head,
        body: Body<'_>,
    ) -> io::Result<()> {
        let written = async {
            self.queued(shared).await?;
            if self.is_over {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            data_head(&mut self.out, head.stream, false, head.length);
            shared.written.fetch_add(1, Ordering::Relaxed);
            self.outgoing.write(&self.out.split(), body).await
        };
        let written = written.await;
        if written.is_err() {
            self.give_up();
            shared.end();
        }
        written
    }

    /// Takes what is queued now, and no more: others wait for the line. Frames that are small are left in `out`.
    async fn queued(&mut self, shared: &Shared) -> io::Result<()> {
        let invalid = |e: BadHeaders| io::Error::new(io::ErrorKind::InvalidInput, e);
        for (stream, delta) in shared.take_rooms() {
            Frame::WindowUpdate { stream, delta }.encode(&mut self.out);
        }
        for _ in 0..self.commands.len() {
            let Ok(command) = self.commands.try_recv() else { break };
            match command {
                Command::Encoded(bytes) => {
                    self.outgoing.write(&self.out.split(), Body::Bytes(&bytes)).await?;
                }
                Command::Frame(frame) => frame.encode(&mut self.out),
                Command::Open { stream, headers, fin } => {
                    let headers = self.compressor.block(&headers).map_err(invalid)?;
                    Frame::SynStream { stream, fin, headers }.encode(&mut self.out);
                }
                Command::Reply { stream } => {
                    let headers = self.compressor.block(&accepted()).map_err(invalid)?;
                    Frame::SynReply { stream, fin: false, headers }.encode(&mut self.out);
                }
                Command::Close => {
                    self.flush().await?;
                    let closed = self.outgoing.shutdown().await;
                    self.give_up();
                    return closed;
                }
            }
            shared.written.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.outgoing.write(&self.out.split(), Body::Bytes(&[])).await
    }

    /// Nothing is written any more; the socket is let go.
    fn give_up(&mut self) {
        self.is_over = true;
        self.commands.close();
        self.outgoing = Outgoing::Nobody;
    }
}

/// Writes what is queued until the connection is closed or broken.
pub(super) async fn write_queue(shared: &Shared) -> io::Result<()> {
    let last_words = async {
        shared.is_left.notified().await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        written = work(shared) => written,
        () = last_words => {
            // Whoever has the line is about to find out.
            shared.line.lock().await.give_up();
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

async fn work(shared: &Shared) -> io::Result<()> {
    loop {
        let mut line = shared.line.lock().await;
        let written = async {
            line.queued(shared).await?;
            line.flush().await
        };
        if let Err(error) = written.await {
            line.give_up();
            return Err(error);
        }
        if line.is_over {
            return Ok(());
        }
        let has_more = !line.commands.is_empty();
        drop(line);
        if !has_more {
            shared.has_work.notified().await;
        }
    }
}

/// What SPDY (section 2.6.2) has every reply say. Kubernetes' own clients do without; others insist on it.
fn accepted() -> Headers {
    [(":status", "200 OK"), (":version", "HTTP/1.1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// For the last piece of data that nobody waits for.
pub(super) fn fin(stream: u32) -> Command {
    Command::Frame(Frame::Data { stream, fin: true, bytes: Bytes::new() })
}
