//! The settings of exec, attach and port-forward.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::rules::Reader;

/// Streams of exec, attach and port-forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamingSettings {
    /// Where they are accepted.
    pub address: SocketAddr,
    /// Certificate chain and key, for TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// How long a connection may be silent; none for any time.
    pub idle: Option<Duration>,
    /// Connections at once.
    pub connections: usize,
}

/// What the entries say of streams.
pub(super) fn settings(reader: &mut Reader<'_>) -> StreamingSettings {
    let address = reader.parsed(&["streaming", "address"], "an address with a port");
    let certificate = reader.entries.path(&["streaming", "certificate"]);
    let key = reader.entries.path(&["streaming", "key"]);
    let tls = match (certificate, key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => {
            let problem = "a certificate is of no use without `streaming.key`".to_owned();
            reader.mistake(&["streaming", "certificate"], problem);
            None
        }
        (None, Some(_)) => {
            let problem = "a key is of no use without `streaming.certificate`".to_owned();
            reader.mistake(&["streaming", "key"], problem);
            None
        }
    };
    let idle = reader.entries.time(&["streaming", "idle"]);
    StreamingSettings {
        address: address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        tls,
        idle: Some(idle).filter(|time| !time.is_zero()),
        connections: reader.count(&["streaming", "connections"]),
    }
}
