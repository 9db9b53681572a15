//! The connection beneath a protocol, and how bytes get from a descriptor into it.
//!
//! Owns: what is read at once, and how a frame gets onto the wire: its head and its bytes by one call, or, where
//! the connection is plain TCP and the bytes come from a pipe or a socket, its head and then the very pages that
//! the kernel has (splice(2)), which no program copies. Always: what is read ahead and what is held before it is
//! written is bounded, an idle connection holds next to nothing, and after a frame that was torn nothing is
//! written any more. Callers: the protocols of this crate.

mod buffers;
mod held;
mod read;
mod source;
mod write;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub(crate) use held::Held;
pub(crate) use read::ReadSide;
pub use source::Source;
pub(crate) use write::{Body, WriteSide};

/// A connection that a protocol is spoken over.
#[derive(Debug)]
pub struct Wire {
    pub(crate) read: ReadSide,
    pub(crate) write: WriteSide,
}

impl Wire {
    /// A TCP connection and nothing around it.
    #[must_use]
    pub fn tcp(socket: TcpStream) -> Self {
        Self::plain(socket, Bytes::new())
    }

    /// Any other connection.
    pub fn any<S>(socket: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read, write) = tokio::io::split(socket);
        let write: Box<dyn AsyncWrite + Send + Unpin> = Box::new(write);
        Self { read: ReadSide::any(Box::new(read)), write: WriteSide::any(write) }
    }

    /// What an HTTP request was upgraded to.
    pub(crate) fn upgraded(upgraded: Upgraded) -> Self {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(parts) => Self::plain(parts.io.into_inner(), parts.read_buf),
            Err(other) => Self::any(TokioIo::new(other)),
        }
    }

    fn plain(socket: TcpStream, ahead: Bytes) -> Self {
        let (read, write) = socket.into_split();
        // Even with nothing in it, it would keep the buffer that the request was read into.
        let ahead = Bytes::copy_from_slice(&ahead);
        Self { read: ReadSide::tcp(read, ahead), write: WriteSide::tcp(write) }
    }
}
