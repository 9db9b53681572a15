//! The side of a connection that is written.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;

use rustix::net::{SendFlags, send};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use super::held::Held;

enum To {
    Tcp(OwnedWriteHalf),
    Any(Box<dyn AsyncWrite + Send + Unpin>),
}

/// What follows the head of a frame.
pub(crate) enum Body<'b> {
    /// These bytes.
    Bytes(&'b [u8]),
    /// So many of those that are held.
    Held(&'b mut Held, usize),
}

impl Body<'_> {
    /// Bytes in it.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Held(_, count) => *count,
        }
    }
}

/// Writes a connection, frame by frame.
pub(crate) struct WriteSide {
    to: To,
    /// A frame was begun and not ended: whatever came next would be taken for its rest.
    is_torn: bool,
}

impl fmt::Debug for WriteSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteSide").field("is_torn", &self.is_torn).finish_non_exhaustive()
    }
}

impl WriteSide {
    pub(super) fn tcp(socket: OwnedWriteHalf) -> Self {
        Self { to: To::Tcp(socket), is_torn: false }
    }

    pub(super) fn any(socket: Box<dyn AsyncWrite + Send + Unpin>) -> Self {
        Self { to: To::Any(socket), is_torn: false }
    }

    /// Whether pages that a pipe holds can be handed on.
    pub(crate) fn splices(&self) -> bool {
        matches!(self.to, To::Tcp(_))
    }

    /// Writes `head` and then `body`, whole. Whoever does not wait for its end ends the connection.
    ///
    /// # Errors
    /// The socket's, or a frame before that was torn.
    pub(crate) async fn write(&mut self, head: &[u8], body: Body<'_>) -> io::Result<()> {
        if std::mem::replace(&mut self.is_torn, true) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match (&mut self.to, body) {
            (To::Tcp(socket), Body::Bytes(body)) => both(socket, head, body).await?,
            (To::Tcp(socket), Body::Held(held, count)) if held.in_pipe > 0 => {
                pages(socket.as_ref(), head, held, count).await?;
            }
            (To::Tcp(socket), Body::Held(held, count)) => {
                both(socket, head, held.in_memory(count)?).await?;
                held.wrote(count);
            }
            (To::Any(socket), body) => {
                match body {
                    Body::Bytes(body) => both(socket, head, body).await?,
                    Body::Held(held, count) => {
                        both(socket, head, held.in_memory(count)?).await?;
                        held.wrote(count);
                    }
                }
                socket.flush().await?;
            }
        }
        self.is_torn = false;
        Ok(())
    }

    /// Says that nothing more comes.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn shutdown(&mut self) -> io::Result<()> {
        match &mut self.to {
            To::Tcp(socket) => socket.shutdown().await,
            To::Any(socket) => socket.shutdown().await,
        }
    }
}

/// By one call, if the socket has room.
async fn both<W>(to: &mut W, head: &[u8], body: &[u8]) -> io::Result<()>
where
    W: AsyncWrite + Unpin,
{
    let mut slices = [IoSlice::new(head), IoSlice::new(body)];
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    while !left.is_empty() {
        let count = to.write_vectored(left).await?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut left, count);
    }
    Ok(())
}

/// The head, and then pages as they are.
async fn pages(to: &TcpStream, head: &[u8], held: &mut Held, count: usize) -> io::Result<()> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let mut head = head;
    while !head.is_empty() {
        let sent = to.async_io(Interest::WRITABLE, || Ok(send(to, head, flags)?)).await?;
        head = &head[sent..];
    }
    let mut left = count;
    while left > 0 {
        let moved = to.async_io(Interest::WRITABLE, || held.splice_to(to.as_fd(), left)).await?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left -= moved;
    }
    Ok(())
}
