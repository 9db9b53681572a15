//! Streams in the messages of one WebSocket: the first byte of a message says whose it is.
//!
//! Always: what waits for the reader of a channel is bounded; past that the socket is not read, so a slow
//! reader stops the peer. Nothing waits to be written: whoever writes waits for the socket.

use std::collections::HashMap;
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

use super::socket::{Message, Receiver, Sender};

/// Messages that wait for the reader of a channel.
const AHEAD: usize = 8;
/// The longest message that a writer makes, in bytes.
const MESSAGE: usize = 64 << 10;
/// In version 5, the channel whose messages name a channel that is closed.
const CLOSE: u8 = 255;

/// The channels that are read, each with its number.
pub type Channels = HashMap<u8, ChannelReader>;

/// What the peer sends on a channel, message by message, to its end.
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
#[derive(Debug)]
pub struct ChannelWriter<S> {
    sender: Sender<S>,
    channel: u8,
    encoding: Encoding,
}

impl<S> Clone for ChannelWriter<S> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), ..*self }
    }
}

/// Reads the peer's messages into channels `numbers` until the connection ends; channels that nobody reads are
/// passed over. With `has_close`, version 5's message that closes a channel is understood. The future must be
/// driven; the readers end when it does.
pub fn open_channels<S>(
    mut receiver: Receiver<S>,
    numbers: &[u8],
    encoding: Encoding,
    has_close: bool,
) -> (Channels, impl Future<Output = io::Result<()>> + use<S>)
where
    S: AsyncRead + AsyncWrite,
{
    let mut senders = HashMap::new();
    let mut channels = Channels::new();
    for number in numbers {
        let (sender, channel) = mpsc::channel(AHEAD);
        senders.insert(*number, sender);
        channels.insert(*number, ChannelReader(channel));
    }
    let pump = async move {
        while let Some(message) = receiver.receive().await? {
            let (channel, bytes) = decode(message, encoding)?;
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

fn decode(message: Message, encoding: Encoding) -> io::Result<(u8, Bytes)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut bytes = match message {
        Message::Binary(bytes) | Message::Text(bytes) => bytes,
    };
    if bytes.is_empty() {
        return Err(invalid("a message without a channel"));
    }
    let channel = bytes.split_to(1)[0];
    match encoding {
        Encoding::Binary => Ok((channel, bytes)),
        Encoding::Base64 => {
            let channel = channel.wrapping_sub(b'0');
            let plain =
                STANDARD.decode(&bytes).map_err(|_| invalid("a message that is not Base64"))?;
            Ok((channel, plain.into()))
        }
    }
}

impl<S: AsyncRead + AsyncWrite> ChannelWriter<S> {
    /// Writes on `channel` with `sender`.
    #[must_use]
    pub fn new(sender: Sender<S>, channel: u8, encoding: Encoding) -> Self {
        Self { sender, channel, encoding }
    }

    /// Sends `bytes` as one message.
    ///
    /// # Errors
    /// The socket's.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        self.sender.write_frame(&self.encoded(bytes)?).await
    }

    /// `bytes` as one message, to be written later.
    fn encoded(&self, bytes: &[u8]) -> io::Result<BytesMut> {
        match self.encoding {
            Encoding::Binary => self.sender.encoded_binary(&[self.channel], bytes),
            Encoding::Base64 => {
                let digit = b'0'.wrapping_add(self.channel);
                self.sender.encoded_text(&[digit], STANDARD.encode(bytes).as_bytes())
            }
        }
    }

    /// The channel as a writer. What is written goes out as messages while the future is driven, which ends when
    /// the writer has; bytes are copied once, and at most two messages wait.
    pub fn output(self) -> (ChannelOutput<S>, impl Future<Output = io::Result<()>>) {
        let (frames, mut waiting) = mpsc::channel::<BytesMut>(1);
        let sender = self.sender.clone();
        let pump = async move {
            while let Some(frame) = waiting.recv().await {
                sender.write_frame(&frame).await?;
            }
            Ok(())
        };
        (ChannelOutput { channel: self, frames: PollSender::new(frames) }, pump)
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
pub struct ChannelOutput<S> {
    channel: ChannelWriter<S>,
    frames: PollSender<BytesMut>,
}

impl<S: AsyncRead + AsyncWrite> AsyncWrite for ChannelOutput<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        ready!(self.frames.poll_reserve(cx)).map_err(gone)?;
        let now = bytes.len().min(MESSAGE);
        let frame = self.channel.encoded(&bytes[..now])?;
        self.frames.send_item(frame).map_err(gone)?;
        Poll::Ready(Ok(now))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.close();
        Poll::Ready(Ok(()))
    }
}

fn gone<E>(_: E) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// The bytes of a channel, message after message.
#[derive(Debug)]
pub struct ChannelBytes {
    channel: ChannelReader,
    chunk: Bytes,
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

    #[test]
    fn a_message_names_its_channel_by_byte_or_by_digit() {
        let binary =
            decode(Message::Binary(Bytes::from_static(b"\x02abc")), Encoding::Binary).unwrap();
        assert_eq!(binary, (2, Bytes::from_static(b"abc")));
        let text = decode(Message::Text(Bytes::from_static(b"2YWJj")), Encoding::Base64).unwrap();
        assert_eq!(text, (2, Bytes::from_static(b"abc")));
        assert!(decode(Message::Binary(Bytes::new()), Encoding::Binary).is_err());
        assert!(decode(Message::Text(Bytes::from_static(b"0?")), Encoding::Base64).is_err());
    }
}
