//! A port of a pod and a client, in both directions at once.

use std::fmt;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::carry::Output;
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
                let Some(bytes) = reader.piece().await? else { return Ok(false) };
                let count = bytes.len();
                to.write_all(bytes).await?;
                reader.wrote(count);
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
pub(super) async fn connect(port: Port, from: FromClient, to: Output) -> io::Result<()> {
    let (source, mut write) = port.split();
    let mut from = from;
    let broken = CancellationToken::new();
    let up = async {
        let done = async {
            while from.hand_on(&mut *write).await? {}
            write.shutdown().await
        };
        let done = done.await;
        if done.is_err() {
            broken.cancel();
        }
        done
    };
    let down = async {
        let mut carry = to.carry(source);
        loop {
            // Never in the middle of a frame: others use the connection, too.
            let taken = tokio::select! {
                taken = carry.take() => taken?,
                () = broken.cancelled() => return Err(io::ErrorKind::ConnectionReset.into()),
            };
            if taken == 0 {
                return carry.end().await;
            }
            carry.send().await?;
        }
    };
    tokio::try_join!(up, down).map(|_| ())
}
