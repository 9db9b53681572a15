//! Streams in the messages of one WebSocket: the first byte of a message says whose it is.
//!
//! Always: what waits for the reader of a channel is bounded; past that the socket is not read, so a slow
//! reader stops the peer. Nothing waits to be written: whoever writes waits for the socket.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::protocol::Encoding;

use super::frame::Kind;
use super::socket::{Piece, Receiver, Sender};
use crate::wire::{Body, Held};

/// Pieces of messages that wait for the reader of a channel; each keeps at most what is read at once.
const AHEAD: usize = 8;
/// The longest message that a writer makes, in bytes.
const MESSAGE: usize = 64 << 10;
/// In version 5, the channel whose messages name a channel that is closed.
const CLOSE: u8 = 255;

/// The channels that are read, each with its number.
pub type Channels = HashMap<u8, ChannelReader>;

/// What the peer sends on a channel, piece by piece as it comes, to its end.
#[derive(Debug)]
pub struct ChannelReader(mpsc::Receiver<Bytes>);

impl ChannelReader {
    /// As [`Self::receive`], for implementations of futures.
    pub fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.poll_recv(cx)
    }

    /// The next bytes; `None` when the channel or the connection has ended.
    pub async fn receive(&mut self) -> Option<Bytes> {
        self.0.recv().await
    }
}

/// Writes on a channel.
#[derive(Debug, Clone)]
pub struct ChannelWriter {
    sender: Sender,
    channel: u8,
    encoding: Encoding,
}

/// Reads the peer's messages into channels `numbers` until the connection ends; channels that nobody reads are
/// passed over. With `has_close`, version 5's message that closes a channel is understood. The future must be
/// driven; the readers end when it does.
pub fn open_channels(
    mut receiver: Receiver,
    numbers: &[u8],
    encoding: Encoding,
    has_close: bool,
) -> (Channels, impl Future<Output = io::Result<()>> + use<>) {
    let mut senders = HashMap::new();
    let mut channels = Channels::new();
    for number in numbers {
        let (sender, channel) = mpsc::channel(AHEAD);
        senders.insert(*number, sender);
        channels.insert(*number, ChannelReader(channel));
    }
    let pump = async move {
        let mut messages = Messages::new(encoding);
        while let Some(piece) = receiver.piece().await? {
            let Some((channel, bytes)) = messages.push(piece)? else { continue };
            if channel == CLOSE && has_close {
                if let Some(closed) = bytes.first() {
                    senders.remove(closed);
                }
                continue;
            }
            if let Some(sender) = senders.get(&channel)
                && !bytes.is_empty()
                && sender.send(bytes).await.is_err()
            {
                senders.remove(&channel);
            }
        }
        Ok(())
    };
    (channels, pump)
}

/// Says of each piece of a message whose it is.
#[derive(Debug)]
struct Messages {
    encoding: Encoding,
    /// The channel of the message that is coming.
    channel: Option<u8>,
    /// What has come of a message in Base64, which is decoded when it is whole.
    text: BytesMut,
}

impl Messages {
    fn new(encoding: Encoding) -> Self {
        Self { encoding, channel: None, text: BytesMut::new() }
    }

    /// The channel and the bytes of `piece`; `None` where more has to come.
    fn push(&mut self, piece: Piece) -> io::Result<Option<(u8, Bytes)>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Piece { is_text: _, ends, mut bytes } = piece;
        let channel = match self.channel {
            Some(channel) => channel,
            None if !bytes.is_empty() => bytes.split_to(1)[0],
            None if ends => return Err(invalid("a message without a channel")),
            None => return Ok(None),
        };
        self.channel = (!ends).then_some(channel);
        if self.encoding == Encoding::Binary {
            return Ok(Some((channel, bytes)));
        }
        self.text.extend_from_slice(&bytes);
        if !ends {
            return Ok(None);
        }
        let text = std::mem::take(&mut self.text);
        let plain = STANDARD.decode(&text).map_err(|_| invalid("a message that is not Base64"))?;
        Ok(Some((channel.wrapping_sub(b'0'), plain.into())))
    }
}

impl ChannelWriter {
    /// Writes on `channel` with `sender`.
    #[must_use]
    pub fn new(sender: Sender, channel: u8, encoding: Encoding) -> Self {
        Self { sender, channel, encoding }
    }

    /// Sends `bytes` as one message.
    ///
    /// # Errors
    /// The socket's.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self.encoding {
            Encoding::Binary => self.sender.binary(&[self.channel], bytes).await,
            Encoding::Base64 => {
                let digit = b'0'.wrapping_add(self.channel);
                self.sender.text(&[digit], STANDARD.encode(bytes).as_bytes()).await
            }
        }
    }

    /// Whether pages that are held can be handed on.
    pub(crate) fn splices(&self) -> bool {
        self.encoding == Encoding::Binary && self.sender.splices()
    }

    /// Sends what is held as one message.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn send_held(&self, held: &mut Held) -> io::Result<()> {
        let count = held.len();
        match self.encoding {
            Encoding::Binary => {
                self.sender.frame(Kind::Binary, &[self.channel], Body::Held(held, count)).await
            }
            Encoding::Base64 => {
                self.send(held.in_memory(count)?).await?;
                held.wrote(count);
                Ok(())
            }
        }
    }

    /// The channel as a writer. What is written goes out as messages while the future is driven, which ends when
    /// the writer has; bytes are copied once, and at most two messages wait.
    pub fn output(self) -> (ChannelOutput, impl Future<Output = io::Result<()>>) {
        let (messages, mut waiting) = mpsc::channel::<Bytes>(1);
        let channel = self.clone();
        let pump = async move {
            while let Some(message) = waiting.recv().await {
                channel.send(&message).await?;
            }
            Ok(())
        };
        let messages = PollSender::new(messages);
        (ChannelOutput { channel: self, messages, has_written: false }, pump)
    }

    /// Tells the peer that nothing more comes on this channel; version 5 alone knows this.
    ///
    /// # Errors
    /// The socket's.
    pub async fn close(&self) -> io::Result<()> {
        self.sender.binary(&[CLOSE], &[self.channel]).await
    }
}

/// Writes bytes on a channel; see [`ChannelWriter::output`]. Dropped, or shut down, it says nothing more.
#[derive(Debug)]
pub struct ChannelOutput {
    channel: ChannelWriter,
    messages: PollSender<Bytes>,
    has_written: bool,
}

impl ChannelOutput {
    /// The channel, if nothing waits to be written on it.
    pub(crate) fn direct(&self) -> Option<&ChannelWriter> {
        (!self.has_written).then_some(&self.channel)
    }
}

impl AsyncWrite for ChannelOutput {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.messages.poll_reserve(cx)).map_err(gone)?;
        let now = bytes.len().min(MESSAGE);
        self.has_written = true;
        self.messages.send_item(Bytes::copy_from_slice(&bytes[..now])).map_err(gone)?;
        Poll::Ready(Ok(now))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.messages.close();
        Poll::Ready(Ok(()))
    }
}

fn gone<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// The bytes of a channel, one after another.
pub struct ChannelBytes {
    channel: ChannelReader,
    chunk: Bytes,
}

impl fmt::Debug for ChannelBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBytes").field("chunk", &self.chunk.len()).finish_non_exhaustive()
    }
}

impl ChannelBytes {
    /// Those of `channel`.
    #[must_use]
    pub fn new(channel: ChannelReader) -> Self {
        Self { channel, chunk: Bytes::new() }
    }
}

impl AsyncRead for ChannelBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.chunk.is_empty() {
            match ready!(self.channel.poll_receive(cx)) {
                Some(chunk) => self.chunk = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let now = out.remaining().min(self.chunk.len());
        out.put_slice(&self.chunk[..now]);
        self.chunk.advance(now);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(
        encoding: Encoding,
        pieces: &[(&'static [u8], bool)],
    ) -> io::Result<Vec<(u8, Bytes)>> {
        let mut messages = Messages::new(encoding);
        let mut got = Vec::new();
        for (bytes, ends) in pieces {
            let bytes = Bytes::from_static(bytes);
            let piece = Piece { is_text: false, ends: *ends, bytes };
            got.extend(messages.push(piece)?);
        }
        Ok(got)
    }

    #[test]
    fn a_message_names_its_channel_by_byte_or_by_digit_in_however_many_pieces() {
        let (first, rest) = (Bytes::from_static(b"abc"), Bytes::from_static(b"de"));
        let binary = pieces(Encoding::Binary, &[(b"", false), (b"\x02abc", false), (b"de", true)]);
        assert_eq!(binary.unwrap(), [(2, first.clone()), (2, rest)]);
        let text = pieces(Encoding::Base64, &[(b"2YW", false), (b"Jj", true)]);
        assert_eq!(text.unwrap(), [(2, first)]);
        assert!(pieces(Encoding::Binary, &[(b"", true)]).is_err());
        assert!(pieces(Encoding::Base64, &[(b"0?", true)]).is_err());
        let two = pieces(Encoding::Binary, &[(b"\x01", true), (b"\x02", true)]).unwrap();
        assert_eq!(two, [(1, Bytes::new()), (2, Bytes::new())]);
    }
}
