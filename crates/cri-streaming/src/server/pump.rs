//! Between a runtime's byte streams and a client's messages.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

use super::io::{SIZES_AHEAD, Size, Sizes};
use crate::websocket::{ChannelReader, ChannelWriter};

/// Bytes that wait between a runtime and its client's socket.
const AHEAD: usize = 64 << 10;
const MESSAGE: usize = 32 << 10;

/// The bytes of a channel, message after message.
#[derive(Debug)]
pub(super) struct ChannelBytes {
    channel: ChannelReader,
    chunk: Bytes,
}

impl ChannelBytes {
    pub(super) fn new(channel: ChannelReader) -> Self {
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

/// A writer whose bytes go out as messages of a channel. The future moves them; it ends when the writer has.
pub(super) fn channel_output<S: AsyncRead + AsyncWrite>(
    channel: ChannelWriter<S>,
) -> (DuplexStream, impl Future<Output = io::Result<()>>) {
    let (runtimes, mut ours) = duplex(AHEAD);
    let pump = async move {
        let mut buffer = vec![0; MESSAGE];
        loop {
            match ours.read(&mut buffer).await? {
                0 => return Ok(()),
                count => channel.send(&buffer[..count]).await?,
            }
        }
    };
    (runtimes, pump)
}

/// The sizes that a resize stream says, and the future that reads them.
pub(super) fn sizes(
    stream: impl AsyncRead + Send + Unpin + 'static,
) -> (mpsc::Receiver<Size>, impl Future<Output = ()> + Send) {
    let (sender, receiver) = mpsc::channel(SIZES_AHEAD);
    let pump = async move {
        let mut stream = stream;
        let mut sizes = Sizes::default();
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            let Some(new) = sizes.push(&buffer[..count]) else { return };
            for size in new {
                if sender.send(size).await.is_err() {
                    return;
                }
            }
        }
    };
    (receiver, pump)
}

/// No sizes: there is no terminal.
pub(super) fn no_sizes() -> mpsc::Receiver<Size> {
    mpsc::channel(1).1
}
