//! Port-forward.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader, split,
};
use tokio::time::timeout;
use tokio::try_join;

use super::connect::{ClientError, ClientTls, Transport, upgrade};
use crate::protocol::{PORT_FORWARD, TUNNELLED_PORT_FORWARD};
use crate::spdy::{Connection, Limits, Opener, Over, Reader, Role, Stream, Writer};
use crate::websocket::{self as ws, Side};

/// How long a server may take, once a connection has ended, to say why.
const LAST_WORDS: Duration = Duration::from_secs(2);
const BUFFER: usize = 64 << 10;
/// The longest failure that is read.
const LONGEST: u64 = 64 << 10;

/// Connects to ports of a pod, as often as its owner likes. Clones share the connection.
#[derive(Debug, Clone)]
pub struct Forwarder {
    opener: Opener,
    last_id: Arc<AtomicU64>,
    _connection: Arc<Connection>,
}

impl Forwarder {
    /// Connects to the URL of a port-forward.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(
        url: &str,
        transport: Transport,
        tls: Option<&ClientTls>,
    ) -> Result<Self, ClientError> {
        let limits = Limits::default();
        let over = match transport {
            Transport::Spdy => Over::Wire(upgrade(url, transport, &[PORT_FORWARD], tls).await?.0),
            Transport::WebSocket | Transport::WebSocketV5 => {
                let (wire, _) = upgrade(url, transport, &[TUNNELLED_PORT_FORWARD], tls).await?;
                let (receiver, sender) = ws::split(wire, Side::Client, limits.idle, limits.ping);
                Over::WebSocket(receiver, sender)
            }
        };
        let connection = Connection::start(over, Role::Client, limits);
        let opener = connection.opener.clone();
        Ok(Self { opener, last_id: Arc::default(), _connection: Arc::new(connection) })
    }

    /// Connects to `port` of the pod.
    ///
    /// # Errors
    /// The connection's end. What the server says of the port comes with [`Forwarded::failure`].
    pub async fn open(&self, port: u16) -> io::Result<Forwarded> {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let headers = |kind: &str| {
            vec![
                ("streamtype".to_owned(), kind.to_owned()),
                ("port".to_owned(), port.to_string()),
                ("requestid".to_owned(), id.to_string()),
            ]
        };
        let mut error = self.opener.open(headers("error")).await?;
        // Nothing is said on it from here.
        error.writer.shutdown().await?;
        let Stream { reader, writer, .. } = self.opener.open(headers("data")).await?;
        Ok(Forwarded { reader, writer, failure: Failure(error) })
    }

    /// Connects `socket` with `port` of the pod, and returns when both directions have ended.
    ///
    /// # Errors
    /// What the server says of the port, the socket's error, or the connection's end: then less may have come than
    /// was sent, and the socket's own peer should be told by a reset.
    pub async fn forward<S>(&self, socket: &mut S, port: u16) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Forwarded { mut reader, mut writer, failure } = self.open(port).await?;
        // Both halves are dropped with the copy: the server does not end before it hears of that.
        let copy = async move {
            let (from, mut to) = split(socket);
            let mut from = BufReader::with_capacity(BUFFER, from);
            let copied = try_join!(hand_on(&mut from, &mut writer), hand_on(&mut reader, &mut to));
            if copied.is_err() {
                // Also where our direction has ended before: the port would go on for nobody.
                reader.reset();
            }
            copied.map(|_| ())
        };
        let watch = failure.told();
        tokio::pin!(copy, watch);
        tokio::select! {
            biased;
            said = &mut watch => {
                said?;
                copy.await
            }
            copied = &mut copy => {
                // Why it broke is said on the other stream; a server that says nothing is not waited for.
                timeout(LAST_WORDS, watch).await.unwrap_or(Ok(())).and(copied)
            }
        }
    }

    /// Waits for the connection's end.
    pub async fn ended(&self) {
        self.opener.ended().await;
    }
}

/// Hands all that comes from `from` on, and the end of it.
async fn hand_on(
    from: &mut (impl AsyncBufRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    loop {
        let bytes = from.fill_buf().await?;
        let count = bytes.len();
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(bytes).await?;
        from.consume(count);
        to.flush().await?;
    }
}

/// A connection to a port of the pod.
#[derive(Debug)]
pub struct Forwarded {
    /// What the port sends.
    pub reader: Reader,
    /// To the port; shut down, that direction ends, dropped without it, the connection is reset.
    pub writer: Writer,
    /// What goes wrong.
    pub failure: Failure,
}

/// What the server says of a port that cannot be reached.
#[derive(Debug)]
pub struct Failure(Stream);

impl Failure {
    /// Waits until the server has no more to say of the connection.
    ///
    /// # Errors
    /// What it says.
    pub async fn told(self) -> io::Result<()> {
        let Stream { reader, writer: _writer, .. } = self.0;
        let mut said = Vec::new();
        // How the connection itself has ended is told by its data.
        reader.ending_by_reset().take(LONGEST).read_to_end(&mut said).await?;
        if said.is_empty() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&said).into_owned()))
    }
}
