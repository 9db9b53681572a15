//! The server that clients come to with the URLs that a runtime has given out.

mod carry;
mod forward;
mod forward_websocket;
mod http;
mod io;
mod port;
mod pump;
mod remote;
mod tls;

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use carry::{Carry, Output};
pub use io::{Input, Io, Size};
pub use port::{Port, Socket};
pub use tls::{Tls, TlsError};

use crate::status::Outcome;
use crate::token::{NoToken, Tokens};

/// A process to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// In which.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its streams.
    pub streams: Streams,
}

/// A container to be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attach {
    /// Which.
    pub container: String,
    /// Its streams.
    pub streams: Streams,
}

/// Ports to be forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortForward {
    /// Of which sandbox.
    pub sandbox: String,
    /// The ports, for clients that do not name them stream by stream; may be empty.
    pub ports: Vec<u16>,
}

/// What a client wants to be connected to (CRI `ExecRequest`, `AttachRequest`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent wishes of the CRI")]
pub struct Streams {
    /// One terminal for all; then there is no standard error.
    pub tty: bool,
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// What carries requests out.
pub trait Runtime: Send + Sync + 'static {
    /// Runs a process with the client's streams, and returns when it has ended and its output is written. When
    /// the client is gone (`io.gone`), the process gets what a lost terminal would give it.
    fn exec(&self, request: Exec, io: Io) -> impl Future<Output = Outcome> + Send;
    /// Connects the client with a container that runs; returns when the client detaches or the container ends.
    fn attach(&self, request: Attach, io: Io) -> impl Future<Output = Outcome> + Send;
    /// Connects to a port inside a sandbox.
    fn connect(
        &self,
        sandbox: &str,
        port: u16,
    ) -> impl Future<Output = std::io::Result<Port>> + Send;

    /// What is known of whoever asks for a URL now, to be kept with it; nothing, unless the runtime says otherwise.
    fn caller(&self) -> Option<Caller> {
        None
    }

    /// Carries `work` out, which is this runtime's for a client that has come with the URL of `caller`.
    fn for_caller<F>(
        &self,
        caller: Option<Caller>,
        work: F,
    ) -> impl Future<Output = F::Output> + Send
    where
        F: Future<Output: Send> + Send,
    {
        drop(caller);
        work
    }
}

/// What a runtime knows of whoever has asked for a URL.
pub type Caller = Arc<dyn Any + Send + Sync>;

/// What clients may take up.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time; one more waits in the kernel's queue.
    pub connections: usize,
    /// A connection on which nothing moves for so long is ended.
    pub idle: Duration,
    /// How long a client may take to open the streams that belong to its request.
    pub stream_creation: Duration,
    /// How long a client may take to send its request.
    pub request: Duration,
    /// Streams at the same time on one connection.
    pub streams: usize,
    /// How often a client is asked whether it is there.
    pub ping: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1000,
            idle: Duration::from_secs(4 * 3600),
            stream_creation: Duration::from_secs(30),
            request: Duration::from_secs(30),
            streams: 1024,
            ping: Some(Duration::from_secs(30)),
        }
    }
}

/// A request that no URL is given out for.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It contradicts itself.
    #[error("{0}")]
    Invalid(&'static str),
    /// Too many wait, or there is no randomness.
    #[error(transparent)]
    NoToken(#[from] NoToken),
}

#[derive(Debug)]
enum Request {
    Exec(Exec),
    Attach(Attach),
    PortForward(Forward),
}

/// Ports to be forwarded, and for whom.
#[derive(Debug)]
struct Forward {
    asked: PortForward,
    caller: Option<Caller>,
}

/// Gives URLs out and serves those who come with them.
#[derive(Debug)]
pub struct Server<R> {
    runtime: Arc<R>,
    tokens: Tokens<(Request, Option<Caller>)>,
    base_url: String,
    limits: Limits,
}

impl<R: Runtime> Server<R> {
    /// A server whose URLs begin with `base_url` (`http://127.0.0.1:10250`, without a slash at the end).
    pub fn new(runtime: Arc<R>, base_url: String, limits: Limits) -> Arc<Self> {
        Arc::new(Self { runtime, tokens: Tokens::default(), base_url, limits })
    }

    /// The URL for one client to run a process, good for a minute.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn exec_url(&self, request: Exec) -> Result<String, Refused> {
        check(request.streams)?;
        if request.command.is_empty() {
            return Err(Refused::Invalid("the command is empty"));
        }
        self.url("exec", Request::Exec(request))
    }

    /// The URL for one client to attach, good for a minute.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn attach_url(&self, request: Attach) -> Result<String, Refused> {
        check(request.streams)?;
        self.url("attach", Request::Attach(request))
    }

    /// The URL for one client to forward ports, good for a minute.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn port_forward_url(&self, request: PortForward) -> Result<String, Refused> {
        let forward = Forward { asked: request, caller: self.runtime.caller() };
        self.url("portforward", Request::PortForward(forward))
    }

    fn url(&self, kind: &str, request: Request) -> Result<String, Refused> {
        let token = self.tokens.insert((request, self.runtime.caller()), Instant::now())?;
        Ok(format!("{}/{kind}/{token}", self.base_url))
    }

    fn take(&self, kind: http::Kind, token: &str) -> Option<(Request, Option<Caller>)> {
        let (request, caller) = self.tokens.take(token, Instant::now())?;
        let fits = match (&request, kind) {
            (Request::Exec(_), http::Kind::Exec)
            | (Request::Attach(_), http::Kind::Attach)
            | (Request::PortForward(_), http::Kind::PortForward) => true,
            (Request::Exec(_) | Request::Attach(_) | Request::PortForward(_), _) => false,
        };
        fits.then_some((request, caller))
    }

    /// Serves clients on `listener`, over TLS if it is given, until `stop`. Clients that are connected then go on
    /// in tasks of their own.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Tls>,
        stop: CancellationToken,
    ) {
        let permits = Arc::new(Semaphore::new(self.limits.connections));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a streaming client could not be accepted");
                    // Descriptors may have run out; whoever holds them needs a moment to let go.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            // Keys that a person types must not wait for more.
            let _ = socket.set_nodelay(true);
            let server = Arc::clone(&self);
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => server.connection(socket, peer).await,
                    Some(tls) => {
                        match tokio::time::timeout(server.limits.request, tls.accept(socket)).await
                        {
                            Ok(Ok(socket)) => server.connection(socket, peer).await,
                            Ok(Err(error)) => {
                                tracing::debug!(%peer, %error, "TLS with a streaming client")
                            }
                            Err(_) => {
                                tracing::debug!(%peer, "a streaming client did not finish its TLS handshake")
                            }
                        }
                    }
                }
                drop(permit);
            });
        }
    }

    /// Serves one client that is connected already.
    async fn connection<S>(self: Arc<Self>, socket: S, peer: SocketAddr)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (upgraded, mut after) = tokio::sync::mpsc::channel(1);
        let server = Arc::clone(&self);
        let service = hyper::service::service_fn(move |request| {
            let server = Arc::clone(&server);
            let upgraded = upgraded.clone();
            async move { Ok::<_, std::convert::Infallible>(http::answer(&server, request, &upgraded)) }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.request)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(socket), service)
            .with_upgrades()
            .await;
        if let Err(error) = served {
            tracing::debug!(%peer, %error, "a streaming client");
        }
        // The service is gone with the connection, so this ends where nothing was upgraded.
        if let Some(work) = after.recv().await {
            let work: http::Work = work;
            work.await;
        }
    }
}

fn check(streams: Streams) -> Result<(), Refused> {
    if streams.tty && streams.stderr {
        return Err(Refused::Invalid(
            "tty and stderr cannot both be asked for: a terminal has one output",
        ));
    }
    if !(streams.stdin || streams.stdout || streams.stderr) {
        return Err(Refused::Invalid("one of stdin, stdout and stderr must be asked for"));
    }
    Ok(())
}
