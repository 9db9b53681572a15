//! What `exec`, `attach`, `port-forward` and `cp` have in common: the way to a URL that a runtime gave out.

pub mod attend;
pub mod detach;
pub mod terminal;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use cri_streaming::client::{ClientError, ClientTls, Session, Transport, remote_command};
use cri_streaming::server::Streams;

use super::failure::Failure;

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carried {
    /// WebSocket where the runtime speaks what it takes, else SPDY
    Auto,
    /// WebSocket
    Websocket,
    /// SPDY/3.1, which every runtime speaks
    Spdy,
}

/// Options of verbs with streams.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What carries the streams
    #[arg(long, value_enum, default_value_t = Carried::Auto, value_name = "PROTOCOL")]
    transport: Carried,
    /// Trust this authority for the streaming server's certificate, beside the system's; PEM
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Trust any certificate of the streaming server
    #[arg(long)]
    tls_insecure: bool,
}

impl Options {
    /// What carries the streams, at first.
    const fn transport(&self) -> Transport {
        match self.transport {
            Carried::Auto => Transport::WebSocketV5,
            Carried::Websocket => Transport::WebSocket,
            Carried::Spdy => Transport::Spdy,
        }
    }

    /// Connects by what carries the streams. A URL is good once, so `url` is asked for another where the server
    /// refuses what came first.
    pub async fn connect<T>(
        &self,
        doing: &str,
        url: impl AsyncFn() -> Result<String, Failure>,
        connect: impl AsyncFn(String, Transport, Option<ClientTls>) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let first = url().await?;
        let tls = self.tls(&first, doing)?;
        let connected = match connect(first, self.transport(), tls.clone()).await {
            Err(ClientError::Refused { .. } | ClientError::Protocol(_))
                if self.transport == Carried::Auto =>
            {
                connect(url().await?, Transport::Spdy, tls).await
            }
            other => other,
        };
        connected.map_err(|error| unreachable(doing, &error))
    }

    /// Connects to the streams of a process.
    pub async fn session(
        &self,
        streams: Streams,
        doing: &str,
        url: impl AsyncFn() -> Result<String, Failure>,
    ) -> Result<Session, Failure> {
        let connect = async |url: String, transport, tls: Option<ClientTls>| {
            remote_command(&url, streams, transport, tls.as_ref()).await
        };
        self.connect(doing, url, connect).await
    }

    /// How the server at `url` is trusted, if it has TLS.
    fn tls(&self, url: &str, doing: &str) -> Result<Option<ClientTls>, Failure> {
        if !url.starts_with("https:") {
            return Ok(None);
        }
        let mut authorities = Vec::new();
        if let Some(path) = &self.tls_ca {
            let pem = std::fs::read(path).map_err(|error| {
                Failure::new(doing, format!("cannot read {}: {error}", path.display()))
            })?;
            authorities.push(pem);
        }
        let config = registry::client_tls(authorities, self.tls_insecure)
            .map_err(|problem| Failure::new(doing, problem))?;
        Ok(Some(ClientTls(Arc::new(config))))
    }
}

/// What went wrong on the way to a streaming server, and what to do.
fn unreachable(doing: &str, error: &ClientError) -> Failure {
    let failure = Failure::new(doing, model::with_causes(error));
    match error {
        ClientError::Unreachable { .. } => failure.advise(
            "the runtime gives out this address in its answer; with TLS, --tls-ca says whom to trust",
        ),
        ClientError::Protocol(_) | ClientError::Refused { .. } => {
            failure.advise("the other --transport may be understood")
        }
        ClientError::Url(_) => failure,
    }
}
