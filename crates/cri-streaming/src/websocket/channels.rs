//! Streams in the messages of one WebSocket: the first byte of a message says whose it is.
//!
//! Always: what waits for the reader of a channel is bounded; past that the socket is not read, so a slow
//! reader stops the peer. Nothing waits to be written: whoever writes waits for the socket.

use std::collections::HashMap;
use std::io;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use crate::protocol::Encoding;

use super::socket::{Message, Receiver, Sender};

/// Messages that wait for the reader of a channel.
const AHEAD: usize = 8;
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
        match self.encoding {
            Encoding::Binary => self.sender.binary(&[self.channel], bytes).await,
            Encoding::Base64 => {
                let digit = b'0'.wrapping_add(self.channel);
                self.sender.text(&[digit], STANDARD.encode(bytes).as_bytes()).await
            }
        }
    }

    /// Tells the peer that nothing more comes on this channel; version 5 alone knows this.
    ///
    /// # Errors
    /// The socket's.
    pub async fn close(&self) -> io::Result<()> {
        self.sender.binary(&[CLOSE], &[self.channel]).await
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
