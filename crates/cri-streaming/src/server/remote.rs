//! Exec and attach: a client's streams are brought together, the runtime works, the error stream says how it
//! ended.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::carry::Output;
use super::io::{Input, Io};
use super::pump::{no_sizes, sizes};
use super::{Request, Runtime, Server, Streams};
use crate::protocol::{Encoding, RemoteCommand};
use crate::spdy::{self, Connection, Over, Role, Stream};
use crate::status::Outcome;
use crate::websocket::{self as ws, ChannelBytes, ChannelWriter, Side};
use crate::wire::Wire;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// RFC 6455 section 7.4.1: a normal end.
const NORMAL: u16 = 1000;
/// How long a client may take to read the last of the output and the outcome.
const LAST_WORDS: Duration = Duration::from_secs(60);

impl Request {
    fn streams(&self) -> Streams {
        match self {
            Self::Exec(exec) => exec.streams,
            Self::Attach(attach) => attach.streams,
            Self::PortForward(_) => {
                Streams { tty: false, stdin: false, stdout: false, stderr: false }
            }
        }
    }
}

async fn carry_out<R: Runtime>(server: &Server<R>, request: Request, io: Io) -> Outcome {
    match request {
        Request::Exec(exec) => server.runtime.exec(exec, io).await,
        Request::Attach(attach) => server.runtime.attach(attach, io).await,
        Request::PortForward(_) => Outcome::Failed("this is no request for a command".to_owned()),
    }
}

fn said(outcome: &Outcome, version: RemoteCommand) -> Vec<u8> {
    if version.has_status() { outcome.to_json() } else { outcome.to_text().into_bytes() }
}

/// The streams that a client has opened.
#[derive(Default)]
struct Opened {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Opened {
    /// Takes streams until all that belong to `wanted` are there.
    async fn all(
        connection: &mut Connection,
        wanted: Streams,
        version: RemoteCommand,
    ) -> Option<Self> {
        let mut opened = Self::default();
        loop {
            let has_all = opened.error.is_some()
                && (opened.stdin.is_some() || !wanted.stdin)
                && (opened.stdout.is_some() || !wanted.stdout)
                && (opened.stderr.is_some() || !wanted.stderr)
                && (opened.resize.is_some() || !(wanted.tty && version.has_resize()));
            if has_all {
                return Some(opened);
            }
            let stream = connection.incoming.recv().await?;
            match stream.header("streamtype") {
                Some("error") => opened.error = Some(stream),
                Some("stdin") => opened.stdin = Some(stream),
                Some("stdout") => opened.stdout = Some(stream),
                Some("stderr") => opened.stderr = Some(stream),
                Some("resize") => opened.resize = Some(stream),
                // Dropping it resets it.
                Some(_) | None => {}
            }
        }
    }
}

pub(super) async fn spdy<R: Runtime>(
    server: &Server<R>,
    version: RemoteCommand,
    request: Request,
    wire: Wire,
) {
    let limits = spdy::Limits {
        streams: server.limits.streams,
        idle: server.limits.idle,
        ping: server.limits.ping,
    };
    let mut connection = Connection::start(Over::Wire(wire), Role::Server, limits);
    let wanted = request.streams();
    let opened =
        timeout(server.limits.stream_creation, Opened::all(&mut connection, wanted, version)).await;
    let Ok(Some(opened)) = opened else {
        tracing::debug!("a client did not open the streams of its request in time");
        return connection.opener.close().await;
    };
    let Opened { error, stdin, stdout, stderr, resize } = opened;
    // A client that sees the other direction of its standard input end stops sending: both stay open to the end.
    let mut kept = Vec::new();
    let mut input = |stream: Option<Stream>| {
        stream.map(|s| {
            kept.push(s.writer.finishing());
            s.reader
        })
    };
    let output = |stream: Option<Stream>| stream.map(|s| Output::spdy(s.writer.finishing()));
    let (resize, read_sizes) = match input(resize) {
        Some(reader) => {
            let (resize, pump) = sizes(reader);
            (resize, Some(tokio::spawn(pump)))
        }
        None => (no_sizes(), None),
    };
    let gone = CancellationToken::new();
    let io = Io {
        stdin: input(stdin).map(|reader| Box::new(reader) as Input),
        stdout: output(stdout),
        stderr: output(stderr),
        resize,
        gone: gone.clone(),
    };
    let watch = {
        let opener = connection.opener.clone();
        tokio::spawn(async move {
            opener.ended().await;
            gone.cancel();
        })
    };
    let outcome = carry_out(server, request, io).await;
    if let Some(mut error) = error {
        let bytes = said(&outcome, version);
        let last_words = async {
            error.writer.write_all(&bytes).await?;
            error.writer.shutdown().await
        };
        if !matches!(timeout(LAST_WORDS, last_words).await, Ok(Ok(()))) {
            tracing::debug!("a client did not wait for the outcome");
        }
    }
    drop(kept);
    connection.opener.close().await;
    watch.abort();
    if let Some(read_sizes) = read_sizes {
        read_sizes.abort();
    }
}

pub(super) async fn websocket<R: Runtime>(
    server: &Server<R>,
    version: RemoteCommand,
    encoding: Encoding,
    request: Request,
    wire: Wire,
) {
    let (receiver, sender) = ws::split(wire, Side::Server, server.limits.idle, server.limits.ping);
    let wanted = request.streams();
    let has_close = version >= RemoteCommand::V5;
    let (mut channels, pump) = ws::open_channels(receiver, &[STDIN, RESIZE], encoding, has_close);
    let gone = CancellationToken::new();
    let reading = {
        let gone = gone.clone();
        tokio::spawn(async move {
            if let Err(error) = pump.await {
                tracing::debug!(%error, "a WebSocket client");
            }
            gone.cancel();
        })
    };
    let writer = |channel| ChannelWriter::new(sender.clone(), channel, encoding);
    let (stdout, pump_stdout) = writer(STDOUT).output();
    let (stderr, pump_stderr) = writer(STDERR).output();
    let stdin = channels.remove(&STDIN).filter(|_| wanted.stdin);
    let resize = channels.remove(&RESIZE).filter(|_| wanted.tty);
    let (resize, read_sizes) = match resize {
        Some(channel) => {
            let (resize, pump) = sizes(ChannelBytes::new(channel));
            (resize, Some(tokio::spawn(pump)))
        }
        None => (no_sizes(), None),
    };
    let io = Io {
        stdin: stdin.map(|channel| Box::new(ChannelBytes::new(channel)) as Input),
        stdout: wanted.stdout.then(|| Output::websocket(stdout)),
        stderr: wanted.stderr.then(|| Output::websocket(stderr)),
        resize,
        gone: gone.clone(),
    };
    let talk = async {
        // An empty message on the first channel that is written tells the client that it is connected.
        let first = if wanted.stdout {
            STDOUT
        } else if wanted.stderr {
            STDERR
        } else {
            ERROR
        };
        writer(first).send(&[]).await?;
        let (outcome, out, err) =
            tokio::join!(carry_out(server, request, io), pump_stdout, pump_stderr);
        out.and(err)?;
        let last_words = async {
            let bytes = said(&outcome, version);
            if !bytes.is_empty() {
                writer(ERROR).send(&bytes).await?;
            }
            sender.close(NORMAL).await
        };
        timeout(LAST_WORDS, last_words)
            .await
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    };
    match talk.await {
        // A socket that is closed before the client has closed can take from it what it has not read yet.
        Ok(()) => drop(timeout(Duration::from_secs(5), gone.cancelled()).await),
        Err(error) => tracing::debug!(%error, "a client left before the outcome"),
    }
    reading.abort();
    if let Some(read_sizes) = read_sizes {
        read_sizes.abort();
    }
}
