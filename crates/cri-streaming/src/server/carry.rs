//! Bytes on their way to a client: taken from where they come, sent as they are.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::spdy;
use crate::websocket::ChannelOutput;
use crate::wire::{Held, Source};

enum To {
    Spdy(spdy::Writer),
    WebSocket(ChannelOutput),
    Any(Box<dyn AsyncWrite + Send + Unpin>),
}

/// Bytes to a client. Dropped, it ends.
///
/// It can be written like anything else; what comes from a pipe or from a connection goes faster by
/// [`Output::carry`], which copies nothing where it need not.
pub struct Output(To);

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match &self.0 {
            To::Spdy(_) => "SPDY",
            To::WebSocket(_) => "WebSocket",
            To::Any(_) => "any",
        };
        f.debug_tuple("Output").field(&to).finish()
    }
}

impl Output {
    /// Writes to `to`.
    pub fn new(to: impl AsyncWrite + Send + Unpin + 'static) -> Self {
        Self(To::Any(Box::new(to)))
    }

    pub(crate) fn spdy(writer: spdy::Writer) -> Self {
        Self(To::Spdy(writer))
    }

    pub(crate) fn websocket(channel: ChannelOutput) -> Self {
        Self(To::WebSocket(channel))
    }

    /// Carries what comes from `source`.
    #[must_use]
    pub fn carry(self, source: Source) -> Carry {
        Carry { source, to: self }
    }

    fn splices(&self) -> bool {
        match &self.0 {
            To::Spdy(writer) => writer.splices(),
            To::WebSocket(output) => output.direct().is_some_and(|channel| channel.splices()),
            To::Any(_) => false,
        }
    }

    async fn send(&mut self, held: &mut Held) -> io::Result<()> {
        let to: &mut (dyn AsyncWrite + Send + Unpin) = match &mut self.0 {
            To::Spdy(writer) => return writer.send_held(held).await,
            To::WebSocket(output) => match output.direct() {
                Some(channel) => return channel.send_held(held).await,
                None => output,
            },
            To::Any(to) => to,
        };
        let count = held.len();
        to.write_all(held.in_memory(count)?).await?;
        held.wrote(count);
        to.flush().await
    }

    fn inner(&mut self) -> Pin<&mut (dyn AsyncWrite + Send + Unpin)> {
        match &mut self.0 {
            To::Spdy(writer) => Pin::new(writer),
            To::WebSocket(output) => Pin::new(output),
            To::Any(to) => Pin::new(to.as_mut()),
        }
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}

/// Carries bytes from a source to a client, one step after the other.
///
/// At most 512 KiB are on their way: a client that does not read stops the source.
#[derive(Debug)]
pub struct Carry {
    source: Source,
    to: Output,
}

impl Carry {
    /// Takes what has come, and waits until something has; how many bytes were taken, none at the end. Whoever
    /// does not wait for it loses nothing.
    ///
    /// # Errors
    /// The source's.
    pub async fn take(&mut self) -> io::Result<usize> {
        self.source.take(self.to.splices()).await
    }

    /// Sends what was taken. Whoever does not wait for its end ends the client's connection.
    ///
    /// # Errors
    /// The client's connection's.
    pub async fn send(&mut self) -> io::Result<()> {
        if self.source.held.len() == 0 {
            return Ok(());
        }
        self.to.send(&mut self.source.held).await
    }

    /// Carries everything to the end of the source, and ends the client's stream.
    ///
    /// # Errors
    /// Of either side.
    pub async fn all(mut self) -> io::Result<()> {
        while self.take().await? > 0 {
            self.send().await?;
        }
        self.end().await
    }

    /// Ends the client's stream.
    ///
    /// # Errors
    /// The client's connection's.
    pub async fn end(mut self) -> io::Result<()> {
        self.to.shutdown().await
    }
}
