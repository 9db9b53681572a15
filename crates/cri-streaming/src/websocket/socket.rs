//! Messages over a socket: pings are answered, a closing is answered, a peer that is gone is noticed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::frame::{Decoder, Head, Kind, Part, Side, encode_head, mask};
use crate::wire::{Body, ReadSide, Wire, WriteSide};

/// A closing that does not go out in this time does not go out.
const CLOSING: Duration = Duration::from_secs(10);

/// A piece of a message of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Whether the message is text; it is binary otherwise.
    pub is_text: bool,
    /// Whether the message ends with it.
    pub ends: bool,
    /// Its bytes; there may be none.
    pub bytes: Bytes,
}

/// Reads messages.
#[derive(Debug)]
pub struct Receiver {
    socket: ReadSide,
    sender: Sender,
    decoder: Decoder,
    idle: Duration,
    ping: Option<Duration>,
    is_over: bool,
}

/// Writes messages, one at a time; clones share the socket.
#[derive(Debug, Clone)]
pub struct Sender {
    socket: Arc<Mutex<WriteSide>>,
    side: Side,
    splices: bool,
}

/// Speaks WebSocket over `wire`, as `side`, from behind the handshake on. A connection on which nothing comes for
/// `idle` is ended; the peer is asked every `ping` whether it is there.
#[must_use]
pub fn split(wire: Wire, side: Side, idle: Duration, ping: Option<Duration>) -> (Receiver, Sender) {
    let Wire { read, write } = wire;
    // What a client sends is masked, which takes a copy.
    let splices = write.splices() && side == Side::Server;
    let sender = Sender { socket: Arc::new(Mutex::new(write)), side, splices };
    let peer = if side == Side::Client { Side::Server } else { Side::Client };
    let receiver = Receiver {
        socket: read,
        sender: sender.clone(),
        decoder: Decoder::new(peer),
        idle,
        ping,
        is_over: false,
    };
    (receiver, sender)
}

impl Receiver {
    /// The next piece of a message, as soon as it has come; `None` when the peer has closed.
    ///
    /// # Errors
    /// A peer that does not keep to the protocol, is gone, or has been silent for too long.
    pub async fn piece(&mut self) -> io::Result<Option<Piece>> {
        while !self.is_over {
            let taken =
                self.decoder.part().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            match taken {
                Some(Part::Message { kind, ends, bytes }) => {
                    let is_text = kind == Kind::Text;
                    return Ok(Some(Piece { is_text, ends, bytes }));
                }
                Some(Part::Control(Kind::Ping, bytes)) => {
                    self.sender.frame(Kind::Pong, &[], Body::Bytes(&bytes)).await?;
                }
                Some(Part::Control(Kind::Close, bytes)) => {
                    self.is_over = true;
                    // The peer has said all; whether it hears the answer is its own matter.
                    let answer = self.sender.frame(Kind::Close, &[], Body::Bytes(&bytes));
                    let _ = timeout(CLOSING, answer).await;
                }
                Some(Part::Control(..)) => {}
                None => {
                    let more = self.read_once().await?;
                    self.is_over = more.is_empty();
                    self.decoder.give(more);
                }
            }
        }
        Ok(None)
    }

    async fn read_once(&mut self) -> io::Result<BytesMut> {
        let every = self.ping.unwrap_or(self.idle).min(self.idle);
        let mut silent = Duration::ZERO;
        let mut unanswered = 0;
        loop {
            match timeout(every, self.socket.more()).await {
                Ok(more) => return more,
                Err(_) if self.ping.is_some() && unanswered < 2 => {
                    unanswered += 1;
                    silent += every;
                    self.sender.frame(Kind::Ping, &[], Body::Bytes(&[])).await?;
                }
                Err(_) => silent = self.idle,
            }
            if silent >= self.idle {
                let message = format!("nothing has come for {:?}", every * (unanswered + 1));
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
        }
    }
}

impl Sender {
    /// Sends a binary message that consists of `first` and `rest`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn binary(&self, first: &[u8], rest: &[u8]) -> io::Result<()> {
        self.frame(Kind::Binary, first, Body::Bytes(rest)).await
    }

    /// Sends a text message that consists of `first` and `rest`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn text(&self, first: &[u8], rest: &[u8]) -> io::Result<()> {
        self.frame(Kind::Text, first, Body::Bytes(rest)).await
    }

    /// Says that nothing more comes, with a status of RFC 6455 section 7.4.1, and closes this direction.
    ///
    /// # Errors
    /// The socket's, or a peer that does not read.
    pub async fn close(&self, status: u16) -> io::Result<()> {
        let closing = async {
            self.frame(Kind::Close, &[], Body::Bytes(&status.to_be_bytes())).await?;
            self.socket.lock().await.shutdown().await
        };
        timeout(CLOSING, closing).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Whether pages that are held can be handed on.
    pub(crate) fn splices(&self) -> bool {
        self.splices
    }

    /// Sends a frame that consists of `first` and `body`.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn frame(&self, kind: Kind, first: &[u8], body: Body<'_>) -> io::Result<()> {
        let length = first.len() + body.len();
        let key = match self.side {
            Side::Client => {
                let mut key = [0; 4];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                Some(key)
            }
            Side::Server => None,
        };
        let mut frame =
            BytesMut::with_capacity(14 + if key.is_some() { length } else { first.len() });
        encode_head(&mut frame, &Head { fin: true, kind, mask: key, length });
        let head = frame.len();
        frame.extend_from_slice(first);
        let Some(key) = key else {
            return self.socket.lock().await.write(&frame, body).await;
        };
        match body {
            Body::Bytes(bytes) => frame.extend_from_slice(bytes),
            Body::Held(held, count) => {
                frame.extend_from_slice(held.in_memory(count)?);
                held.wrote(count);
            }
        }
        mask(&mut frame[head..], key);
        self.socket.lock().await.write(&frame, Body::Bytes(&[])).await
    }
}
