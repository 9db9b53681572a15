//! A port of a pod and a client, in both directions at once.

use std::fmt;
use std::io;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::carry::{Carry, Output};
use crate::spdy;
use crate::websocket::ChannelReader;
use crate::wire::Source;

/// A connection to a port of a pod: bytes in both directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

enum Kind {
    Tcp(TcpStream),
    Any(Box<dyn Socket>),
}

/// A connection to a port of a pod. What comes on one of TCP is handed on without being copied, where it can be.
pub struct Port(Kind);

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").finish_non_exhaustive()
    }
}

impl From<TcpStream> for Port {
    fn from(socket: TcpStream) -> Self {
        Self(Kind::Tcp(socket))
    }
}

impl Port {
    /// Any other connection.
    pub fn new(socket: impl Socket + 'static) -> Self {
        Self(Kind::Any(Box::new(socket)))
    }

    fn split(self) -> (Source, Box<dyn AsyncWrite + Send + Unpin>) {
        match self.0 {
            Kind::Tcp(socket) => {
                let (read, write) = socket.into_split();
                (Source::tcp(read), Box::new(write))
            }
            Kind::Any(socket) => {
                let (read, write) = tokio::io::split(socket);
                (Source::any(read), Box::new(write))
            }
        }
    }
}

/// What a client sends to a port.
pub(super) enum FromClient {
    Spdy(spdy::Reader),
    WebSocket(ChannelReader),
}

impl FromClient {
    /// Hands the next bytes on; whether there were any, or the client has ended its direction.
    async fn hand_on(&mut self, to: &mut (dyn AsyncWrite + Send + Unpin)) -> io::Result<bool> {
        match self {
            Self::Spdy(reader) => {
                let bytes = reader.fill_buf().await?;
                let count = bytes.len();
                if count == 0 {
                    return Ok(false);
                }
                to.write_all(bytes).await?;
                reader.consume(count);
            }
            Self::WebSocket(channel) => {
                let Some(bytes) = channel.receive().await else { return Ok(false) };
                to.write_all(&bytes).await?;
            }
        }
        to.flush().await?;
        Ok(true)
    }
}

/// Connects both sides until both directions have ended, each as TCP ends them, or one is broken.
///
/// What goes to the client is never let go in the middle of a frame: others use the connection, too. So it ends by
/// itself, and is told between two frames. What a port had said before it broke still goes to the client.
pub(super) async fn connect(port: Port, from: FromClient, to: Output) -> io::Result<()> {
    let (source, mut write) = port.split();
    let (is_refused, is_lost) = (CancellationToken::new(), CancellationToken::new());
    // Both halves are let go as soon as this direction has ended: what the client still sends is passed over.
    let up = async {
        let mut from = from;
        let sent = async move {
            while from.hand_on(&mut *write).await? {}
            write.shutdown().await
        };
        let done = tokio::select! {
            done = sent => done,
            () = is_lost.cancelled() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        if done.is_err() {
            is_refused.cancel();
        }
        done
    };
    let down = async {
        let done = down(to.carry(source), &is_refused).await;
        if done.is_err() {
            is_lost.cancel();
        }
        done
    };
    let (up, down) = tokio::join!(up, down);
    down.and(up)
}

async fn down(mut carry: Carry, is_refused: &CancellationToken) -> io::Result<()> {
    loop {
        let taken = tokio::select! {
            biased;
            taken = carry.take() => taken?,
            () = is_refused.cancelled() => return Err(io::ErrorKind::ConnectionReset.into()),
        };
        if taken == 0 {
            return carry.end().await;
        }
        carry.send().await?;
    }
}
