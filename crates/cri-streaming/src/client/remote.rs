//! Exec and attach.

use std::io;
use std::pin::Pin;

use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::connect::{ClientError, ClientTls, Transport, upgrade};
use crate::protocol::{Encoding, RemoteCommand, WEBSOCKET_REMOTE_COMMAND};
use crate::server::{Input, Output, Size, Streams};
use crate::spdy::{Connection, Limits, Opener, Over, Role, Stream};
use crate::status::Outcome;
use crate::websocket::{self as ws, ChannelBytes, ChannelWriter, Side};
use crate::wire::Wire;

/// Bytes that wait between the caller and the socket.
const AHEAD: usize = 64 << 10;
/// The longest outcome that is read.
const LONGEST: u64 = 64 << 10;

/// A command that runs at the other end.
pub struct Session {
    /// To its standard input; shut down, it ends.
    pub stdin: Option<Output>,
    /// From its standard output, or its terminal.
    pub stdout: Option<Input>,
    /// From its standard error.
    pub stderr: Option<Input>,
    /// Changes its terminal's size.
    pub resizer: Option<Resizer>,
    /// How it ends; an error when the connection ends before it is told.
    pub outcome: Pin<Box<dyn Future<Output = io::Result<Outcome>> + Send>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Changes a terminal's size.
pub struct Resizer(Output);

impl std::fmt::Debug for Resizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resizer").finish_non_exhaustive()
    }
}

impl Resizer {
    /// Tells the new size.
    ///
    /// # Errors
    /// The connection's.
    pub async fn resize(&mut self, size: Size) -> io::Result<()> {
        let text = serde_json::to_vec(&size)?;
        self.0.write_all(&text).await?;
        self.0.flush().await
    }
}

/// Connects to the URL of an exec or an attach.
///
/// # Errors
/// [`ClientError`].
pub async fn remote_command(
    url: &str,
    streams: Streams,
    transport: Transport,
    tls: Option<&ClientTls>,
) -> Result<Session, ClientError> {
    let unreachable =
        |source| ClientError::Unreachable { authority: "its address".to_owned(), source };
    match transport {
        Transport::Spdy => {
            let names: Vec<&str> =
                RemoteCommand::ALL.iter().map(|version| version.name()).collect();
            let (wire, chosen) = upgrade(url, transport, &names, tls).await?;
            let version = RemoteCommand::ALL.into_iter().find(|version| version.name() == chosen);
            spdy(wire, streams, version.unwrap_or(RemoteCommand::V1)).await.map_err(unreachable)
        }
        Transport::WebSocket | Transport::WebSocketV5 => {
            let least = match transport {
                Transport::WebSocketV5 => RemoteCommand::V5,
                Transport::WebSocket | Transport::Spdy => RemoteCommand::V1,
            };
            let binary = WEBSOCKET_REMOTE_COMMAND.iter().filter(|(_, version, encoding)| {
                *encoding == Encoding::Binary && *version >= least
            });
            let names: Vec<&str> = binary.map(|(name, ..)| *name).collect();
            let (wire, chosen) = upgrade(url, transport, &names, tls).await?;
            let known = WEBSOCKET_REMOTE_COMMAND.iter().find(|(name, ..)| *name == chosen);
            Ok(websocket(
                wire,
                streams,
                known.map_or(RemoteCommand::V1, |(_, version, _)| *version),
            ))
        }
    }
}

async fn open(opener: &Opener, kind: &str) -> io::Result<Stream> {
    opener.open(vec![("streamtype".to_owned(), kind.to_owned())]).await
}

async fn spdy(wire: Wire, streams: Streams, version: RemoteCommand) -> io::Result<Session> {
    let connection = Connection::start(Over::Wire(wire), Role::Client, Limits::default());
    let opener = connection.opener.clone();
    let error = open(&opener, "error").await?;
    let stdin = if streams.stdin { Some(open(&opener, "stdin").await?) } else { None };
    let stdout = if streams.stdout { Some(open(&opener, "stdout").await?) } else { None };
    let stderr = if streams.stderr { Some(open(&opener, "stderr").await?) } else { None };
    let resize = if streams.tty && version.has_resize() {
        Some(open(&opener, "resize").await?)
    } else {
        None
    };
    let mut kept = Vec::new();
    let mut input = |stream: Option<Stream>| {
        stream.map(|s| {
            kept.push(s.writer.finishing());
            Box::new(s.reader.ending_by_reset()) as Input
        })
    };
    let (stdout, stderr) = (input(stdout), input(stderr));
    let outcome = Box::pin(async move {
        // The connection lives until the outcome is known, and so do the directions that nothing is said in.
        let _kept = (connection, kept);
        // The whole stream: a writer that is dropped here would reset it.
        let Stream { reader, writer: _writer, .. } = error;
        let mut bytes = Vec::new();
        reader.ending_by_reset().take(LONGEST).read_to_end(&mut bytes).await?;
        outcome_of(&bytes, version)
    });
    Ok(Session {
        stdin: stdin.map(|s| Output::new(s.writer.finishing())),
        stdout,
        stderr,
        resizer: resize.map(|s| Resizer(Output::new(s.writer.finishing()))),
        outcome,
    })
}

/// What was said on the error stream. Where a status belongs there, silence is no success.
fn outcome_of(said: &[u8], version: RemoteCommand) -> io::Result<Outcome> {
    if said.is_empty() && version.has_status() {
        let message = "the connection ended without an outcome";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
    }
    Ok(Outcome::parse(said))
}

fn websocket(wire: Wire, streams: Streams, version: RemoteCommand) -> Session {
    let (receiver, sender) =
        ws::split(wire, Side::Client, Limits::default().idle, Limits::default().ping);
    let (mut channels, pump) = ws::open_channels(receiver, &[1, 2, 3], Encoding::Binary, false);
    let reading = Reading(tokio::spawn(pump));
    let has_close = version >= RemoteCommand::V5;
    let writer = |channel: u8| {
        write_channel(ChannelWriter::new(sender.clone(), channel, Encoding::Binary), has_close)
    };
    let mut reader = |channel: u8, wanted: bool| {
        let channel = channels.remove(&channel).filter(|_| wanted)?;
        Some(Box::new(ChannelBytes::new(channel)) as Input)
    };
    let stdout = reader(1, streams.stdout);
    let stderr = reader(2, streams.stderr);
    let error = channels.remove(&3);
    let outcome = Box::pin(async move {
        let mut bytes = Vec::new();
        if let Some(mut error) = error {
            while let Some(chunk) = error.receive().await {
                bytes.extend_from_slice(&chunk);
                // It is one message, which may come in pieces.
                let is_whole = serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
                if (version.has_status() && is_whole) || bytes.len() as u64 > LONGEST {
                    break;
                }
            }
        }
        let outcome = outcome_of(&bytes, version)?;
        // What is still on its way to the caller is read on.
        reading.detach();
        Ok(outcome)
    });
    Session {
        stdin: streams.stdin.then(|| Output::new(writer(0))),
        stdout,
        stderr,
        resizer: (streams.tty && version.has_resize()).then(|| Resizer(Output::new(writer(4)))),
        outcome,
    }
}

/// The task that reads; it ends when nobody waits for the outcome any more.
struct Reading(JoinHandle<io::Result<()>>);

impl Reading {
    fn detach(mut self) {
        // The task ends with its connection; the handle that is dropped instead belongs to nothing.
        self.0 = tokio::spawn(async { Ok(()) });
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn write_channel(
    channel: ChannelWriter,
    has_close: bool,
) -> impl AsyncWrite + Send + Unpin + use<> {
    let (callers, mut ours): (DuplexStream, _) = duplex(AHEAD);
    tokio::spawn(async move {
        let mut buffer = vec![0; 32 << 10];
        while let Ok(count @ 1..) = ours.read(&mut buffer).await {
            if channel.send(&buffer[..count]).await.is_err() {
                return;
            }
        }
        if has_close {
            let _ = channel.close().await;
        }
    });
    callers
}
