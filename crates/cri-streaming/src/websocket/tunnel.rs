//! A byte stream in the binary messages of a WebSocket, for SPDY/3.1 inside of it.

use std::io;

use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex,
};

use super::socket::{Message, Receiver, Sender};

/// Bytes that wait in each direction.
const AHEAD: usize = 64 << 10;
/// The largest message that is sent.
const MESSAGE: usize = 32 << 10;
/// RFC 6455 section 7.4.1: a normal end.
const NORMAL: u16 = 1000;

/// The stream inside.
pub type Tunnel = DuplexStream;

/// The stream that the messages of a WebSocket carry. The future moves the bytes and must be driven; it ends
/// when both directions have, or with the first that fails.
pub fn tunnel<S>(
    mut receiver: Receiver<S>,
    sender: Sender<S>,
) -> (Tunnel, impl Future<Output = io::Result<()>>)
where
    S: AsyncRead + AsyncWrite,
{
    let (inside, outside) = duplex(AHEAD);
    let (mut from_inside, mut to_inside) = tokio::io::split(outside);
    let inward = async move {
        while let Some(message) = receiver.receive().await? {
            match message {
                Message::Binary(bytes) => to_inside.write_all(&bytes).await?,
                Message::Text(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "a text message in a tunnel",
                    ));
                }
            }
        }
        to_inside.shutdown().await
    };
    let outward = async move {
        let mut buffer = vec![0; MESSAGE];
        loop {
            match from_inside.read(&mut buffer).await? {
                0 => return sender.close(NORMAL).await,
                count => sender.binary(&[], &buffer[..count]).await?,
            }
        }
    };
    let pump = async move { tokio::try_join!(inward, outward).map(|_| ()) };
    (inside, pump)
}
