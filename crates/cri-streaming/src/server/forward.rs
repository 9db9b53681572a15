//! Port-forward over SPDY: for each connection a stream of data and a stream for what goes wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::carry::Output;
use super::port::{self, FromClient, Port};
use super::{Forward, Runtime, Server};
use crate::spdy::{self, Connection, Over, Role, Stream};

/// Streams whose other half has not come yet; the oldest is reset for one more.
const HALVES: usize = 256;

/// Streams of a pair, and when the first of them came.
#[derive(Default)]
struct Half {
    data: Option<Stream>,
    error: Option<Stream>,
    since: Option<Instant>,
}

/// Two streams that belong together.
struct Pair {
    port: Result<u16, String>,
    data: Stream,
    error: Stream,
}

/// Brings the streams of pairs together.
#[derive(Default)]
struct Pairs(HashMap<String, Half>);

impl Pairs {
    /// Takes a stream; the pair that it completes comes back.
    fn add(&mut self, stream: Stream, lifetime: Duration) -> Option<Pair> {
        let now = Instant::now();
        self.0.retain(|_, half| half.since.is_some_and(|since| now - since < lifetime));
        let is_error = match stream.header("streamtype") {
            Some("error") => true,
            Some("data") => false,
            // Dropping it resets it.
            Some(_) | None => return None,
        };
        let key = match stream.header("requestid") {
            Some(id) => format!("id {id}"),
            // Clients of old give no number: the data stream is opened right behind the error stream.
            None if is_error => format!("stream {}", stream.id),
            None => format!("stream {}", stream.id.saturating_sub(2)),
        };
        if self.0.len() >= HALVES && !self.0.contains_key(&key) {
            let oldest =
                self.0.iter().min_by_key(|(_, half)| half.since).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.0.remove(&key));
        }
        let half = self.0.entry(key.clone()).or_default();
        half.since.get_or_insert(now);
        if is_error {
            half.error = Some(stream);
        } else {
            half.data = Some(stream);
        }
        if half.data.is_none() || half.error.is_none() {
            return None;
        }
        let Half { data: Some(data), error: Some(error), .. } = self.0.remove(&key)? else {
            return None;
        };
        Some(Pair { port: port_of(&data).or_else(|_| port_of(&error)), data, error })
    }
}

fn port_of(stream: &Stream) -> Result<u16, String> {
    let text = stream.header("port").ok_or("the stream has no header port")?;
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is not a port (1 to 65535)")),
        Ok(port) => Ok(port),
    }
}

/// Serves a client that speaks SPDY over its connection, or in a tunnel.
pub(super) async fn spdy<R: Runtime>(server: &Arc<Server<R>>, request: Forward, over: Over) {
    let limits = spdy::Limits {
        streams: server.limits.streams,
        idle: server.limits.idle,
        ping: server.limits.ping,
    };
    let mut connection = Connection::start(over, Role::Server, limits);
    let mut pairs = Pairs::default();
    let mut forwards = JoinSet::new();
    let request = Arc::new(request);
    loop {
        tokio::select! {
            stream = connection.incoming.recv() => {
                let Some(stream) = stream else { break };
                if let Some(pair) = pairs.add(stream, server.limits.stream_creation) {
                    forwards.spawn(forward(Arc::clone(server), Arc::clone(&request), pair));
                }
            }
            Some(_) = forwards.join_next() => {}
            () = connection.opener.ended() => break,
        }
    }
    // What is still connected has lost its client.
    forwards.shutdown().await;
    connection.opener.close().await;
}

async fn forward<R: Runtime>(server: Arc<Server<R>>, request: Arc<Forward>, pair: Pair) {
    let Pair { port, data, mut error } = pair;
    let connected = match port {
        Ok(port) => connect(&server, &request, port).await,
        Err(bad) => Err(bad),
    };
    let failure = match connected {
        Ok(port) => {
            let to = Output::spdy(data.writer);
            if let Err(error) = port::connect(port, FromClient::Spdy(data.reader), to).await {
                // A connection that either side resets, as clients do when they have what they wanted, is
                // none that could not be made: whoever is told of an error gives the other ones up too.
                tracing::debug!(%error, "a forwarded connection");
            }
            None
        }
        Err(failure) => Some(failure),
    };
    let last_words = async {
        if let Some(failure) = failure {
            error.writer.write_all(failure.as_bytes()).await?;
        }
        error.writer.shutdown().await
    };
    // A client that is gone hears nothing.
    let _ = timeout(Duration::from_secs(10), last_words).await;
}

/// Connects to a port of the request's sandbox, or says what a user is to read.
pub(super) async fn connect<R: Runtime>(
    server: &Server<R>,
    request: &Forward,
    port: u16,
) -> Result<Port, String> {
    let sandbox = &request.asked.sandbox;
    // Ports are connected to in tasks of their own.
    let connect = server.runtime.connect(sandbox, port);
    let connected = server.runtime.for_caller(request.caller.clone(), connect).await;
    connected.map_err(|e| format!("error forwarding port {port} to pod {sandbox}: {e}"))
}
