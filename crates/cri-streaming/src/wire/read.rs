//! The side of a connection that is read.

use std::fmt;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::tcp::OwnedReadHalf;

use super::buffers::Buffers;

enum From {
    Tcp(OwnedReadHalf),
    Any(Box<dyn AsyncRead + Send + Unpin>),
}

/// Reads a connection.
pub(crate) struct ReadSide {
    from: From,
    /// What has been read by whoever had the connection before.
    ahead: Bytes,
    buffers: Buffers,
}

impl fmt::Debug for ReadSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadSide").field("ahead", &self.ahead.len()).finish_non_exhaustive()
    }
}

impl ReadSide {
    pub(super) fn tcp(socket: OwnedReadHalf, ahead: Bytes) -> Self {
        Self { from: From::Tcp(socket), ahead, buffers: Buffers::default() }
    }

    pub(super) fn any(socket: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self { from: From::Any(socket), ahead: Bytes::new(), buffers: Buffers::default() }
    }

    /// The next bytes, as many as have come; none at the end. A caller that does not wait for them loses none.
    ///
    /// # Errors
    /// The socket's.
    pub(crate) async fn more(&mut self) -> io::Result<BytesMut> {
        if !self.ahead.is_empty() {
            return Ok(BytesMut::from(std::mem::take(&mut self.ahead)));
        }
        if let From::Tcp(socket) = &self.from {
            // Memory is taken only when there is something to be read.
            socket.readable().await?;
        }
        let mut buffer = self.buffers.spare();
        match &mut self.from {
            From::Tcp(socket) => socket.read_buf(&mut buffer).await?,
            From::Any(socket) => socket.read_buf(&mut buffer).await?,
        };
        Ok(self.buffers.back(buffer))
    }
}
