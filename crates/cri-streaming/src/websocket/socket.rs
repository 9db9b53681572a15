//! Messages over a socket: pings are answered, a closing is answered, a peer that is gone is noticed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf,
};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::frame::{Decoder, Head, Kind, Side, encode_head, mask};

const READ_FIRST: usize = 2 << 10;
const READ_MOST: usize = 64 << 10;
/// A closing that does not go out in this time does not go out.
const CLOSING: Duration = Duration::from_secs(10);

/// A message of the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message; whether it is UTF-8 has not been looked at.
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
}

/// Reads messages.
#[derive(Debug)]
pub struct Receiver<S> {
    socket: ReadHalf<S>,
    sender: Sender<S>,
    decoder: Decoder,
    idle: Duration,
    ping: Option<Duration>,
    at_once: usize,
    is_over: bool,
}

/// Writes messages, one at a time; clones share the socket.
#[derive(Debug)]
pub struct Sender<S> {
    socket: Arc<Mutex<WriteHalf<S>>>,
    side: Side,
}

impl<S> Clone for Sender<S> {
    fn clone(&self) -> Self {
        Self { socket: Arc::clone(&self.socket), side: self.side }
    }
}

/// Speaks WebSocket over `socket`, as `side`, from behind the handshake on. A connection on which nothing comes
/// for `idle` is ended; the peer is asked every `ping` whether it is there.
pub fn split<S>(
    socket: S,
    side: Side,
    idle: Duration,
    ping: Option<Duration>,
) -> (Receiver<S>, Sender<S>)
where
    S: AsyncRead + AsyncWrite,
{
    let (read, write) = tokio::io::split(socket);
    let sender = Sender { socket: Arc::new(Mutex::new(write)), side };
    let peer = if side == Side::Client { Side::Server } else { Side::Client };
    let receiver = Receiver {
        socket: read,
        sender: sender.clone(),
        decoder: Decoder::new(peer),
        idle,
        ping,
        at_once: READ_FIRST,
        is_over: false,
    };
    (receiver, sender)
}

impl<S: AsyncRead + AsyncWrite> Receiver<S> {
    /// The next message; `None` when the peer has closed.
    ///
    /// # Errors
    /// A peer that does not keep to the protocol, is gone, or has been silent for too long.
    pub async fn receive(&mut self) -> io::Result<Option<Message>> {
        while !self.is_over {
            let taken =
                self.decoder.take().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            match taken {
                Some((Kind::Text, bytes)) => return Ok(Some(Message::Text(bytes))),
                Some((Kind::Binary, bytes)) => return Ok(Some(Message::Binary(bytes))),
                Some((Kind::Ping, bytes)) => self.sender.write(Kind::Pong, &bytes).await?,
                Some((Kind::Pong | Kind::Continuation, _)) => {}
                Some((Kind::Close, bytes)) => {
                    self.is_over = true;
                    // The peer has said all; whether it hears the answer is its own matter.
                    let _ = timeout(CLOSING, self.sender.write(Kind::Close, &bytes)).await;
                }
                None => self.read_more().await?,
            }
        }
        Ok(None)
    }

    async fn read_more(&mut self) -> io::Result<()> {
        if self.decoder.buffer().is_empty() && self.at_once == READ_FIRST {
            *self.decoder.buffer() = BytesMut::new();
        }
        self.decoder.buffer().reserve(self.at_once);
        let count = self.read_once().await?;
        if count == 0 {
            self.is_over = true;
        }
        let is_full = count >= self.at_once;
        self.at_once = if is_full {
            (self.at_once * 2).min(READ_MOST)
        } else {
            READ_FIRST.max(self.at_once / 2)
        };
        Ok(())
    }

    async fn read_once(&mut self) -> io::Result<usize> {
        let every = self.ping.unwrap_or(self.idle).min(self.idle);
        let mut silent = Duration::ZERO;
        let mut unanswered = 0;
        loop {
            match timeout(every, self.socket.read_buf(self.decoder.buffer())).await {
                Ok(count) => return count,
                Err(_) if self.ping.is_some() && unanswered < 2 => {
                    unanswered += 1;
                    silent += every;
                    self.sender.write(Kind::Ping, &[]).await?;
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

impl<S: AsyncRead + AsyncWrite> Sender<S> {
    /// Sends a binary message that consists of `first` and `rest`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn binary(&self, first: &[u8], rest: &[u8]) -> io::Result<()> {
        self.frame(Kind::Binary, first, rest).await
    }

    /// Sends a text message that consists of `first` and `rest`.
    ///
    /// # Errors
    /// The socket's.
    pub async fn text(&self, first: &[u8], rest: &[u8]) -> io::Result<()> {
        self.frame(Kind::Text, first, rest).await
    }

    /// Says that nothing more comes, with a status of RFC 6455 section 7.4.1, and closes this direction.
    ///
    /// # Errors
    /// The socket's, or a peer that does not read.
    pub async fn close(&self, status: u16) -> io::Result<()> {
        let closing = async {
            self.write(Kind::Close, &status.to_be_bytes()).await?;
            self.socket.lock().await.shutdown().await
        };
        timeout(CLOSING, closing).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn write(&self, kind: Kind, bytes: &[u8]) -> io::Result<()> {
        self.frame(kind, &[], bytes).await
    }

    async fn frame(&self, kind: Kind, first: &[u8], rest: &[u8]) -> io::Result<()> {
        let frame = self.encoded(kind, first, rest)?;
        self.write_frame(&frame).await
    }

    /// The frame of a binary message that consists of `first` and `rest`.
    pub(super) fn encoded_binary(&self, first: &[u8], rest: &[u8]) -> io::Result<BytesMut> {
        self.encoded(Kind::Binary, first, rest)
    }

    /// The frame of a text message that consists of `first` and `rest`.
    pub(super) fn encoded_text(&self, first: &[u8], rest: &[u8]) -> io::Result<BytesMut> {
        self.encoded(Kind::Text, first, rest)
    }

    fn encoded(&self, kind: Kind, first: &[u8], rest: &[u8]) -> io::Result<BytesMut> {
        let length = first.len() + rest.len();
        let key = match self.side {
            Side::Client => {
                let mut key = [0; 4];
                getrandom::fill(&mut key).map_err(io::Error::other)?;
                Some(key)
            }
            Side::Server => None,
        };
        let mut frame = BytesMut::with_capacity(14 + length);
        encode_head(&mut frame, &Head { fin: true, kind, mask: key, length });
        let head = frame.len();
        frame.extend_from_slice(first);
        frame.extend_from_slice(rest);
        if let Some(key) = key {
            mask(&mut frame[head..], key);
        }
        Ok(frame)
    }

    /// Writes a frame that was made before.
    pub(super) async fn write_frame(&self, frame: &[u8]) -> io::Result<()> {
        // A frame is written whole or the connection is of no use: nobody else writes in between.
        let mut socket = self.socket.lock().await;
        socket.write_all(frame).await?;
        socket.flush().await
    }
}
