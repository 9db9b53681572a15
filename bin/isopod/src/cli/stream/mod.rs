//! What `exec`, `attach`, `port-forward` and `cp` have in common: the way to a URL that a runtime gave out.

pub mod attend;
pub mod detach;
pub mod terminal;

use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueEnum;
use cri_streaming::client::{ClientError, ClientTls, Transport};

use super::failure::{Failure, chain};

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Carried {
    /// WebSocket
    Websocket,
    /// SPDY/3.1, which every runtime speaks
    Spdy,
}

/// Options of verbs with streams.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// What carries the streams
    #[arg(long, value_enum, default_value_t = Carried::Websocket, value_name = "PROTOCOL")]
    transport: Carried,
    /// Trust this authority for the streaming server's certificate, beside the system's; PEM
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Trust any certificate of the streaming server
    #[arg(long)]
    tls_insecure: bool,
}

impl Options {
    /// What carries the streams.
    pub fn transport(&self) -> Transport {
        match self.transport {
            Carried::Websocket => Transport::WebSocket,
            Carried::Spdy => Transport::Spdy,
        }
    }

    /// How the server at `url` is trusted, if it has TLS.
    pub fn tls(&self, url: &str, doing: &str) -> Result<Option<ClientTls>, Failure> {
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
pub fn unreachable(doing: &str, error: &ClientError) -> Failure {
    let failure = Failure::new(doing, chain(error));
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
