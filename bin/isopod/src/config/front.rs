//! The settings of sockets, of what clients may do at once, and of who is told what they did.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rules::Reader;
use super::settings::SocketSettings;

/// What clients may do at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Connections to one socket.
    pub connections: usize,
    /// Calls, on all sockets.
    pub calls: usize,
    /// Calls on one connection.
    pub calls_per_connection: u32,
    /// Bytes of requests whose calls are open, on all sockets.
    pub request_bytes: usize,
    /// Streams of events, on all sockets.
    pub event_streams: usize,
    /// Events that a subscriber may be behind.
    pub events_ahead: usize,
    /// How long a connection may take to begin.
    pub handshake: Duration,
    /// How often a silent client is asked whether it is there.
    pub keepalive: Duration,
}

/// Where the daemon's own metrics are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetricsAddress {
    /// On TCP.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
}

/// The socket that everything is served on.
pub(super) fn socket(reader: &Reader<'_>, state: &Path) -> SocketSettings {
    let entries = reader.entries;
    SocketSettings {
        path: entries.path(&["socket", "path"]).unwrap_or_else(|| state.join("isopod.sock")),
        mode: mode(reader, "mode"),
        group: group(reader, "group"),
    }
}

/// The one that only reads are served on, where there is one.
pub(super) fn read_only(reader: &mut Reader<'_>, full: &SocketSettings) -> Option<SocketSettings> {
    let path = reader.entries.path(&["socket", "read_only_path"])?;
    if path == full.path {
        let problem = "`socket.read_only_path` and `socket.path` are the same".to_owned();
        reader.mistake(&["socket", "read_only_path"], problem);
    }
    let (mode, group) = (mode(reader, "read_only_mode"), group(reader, "read_only_group"));
    Some(SocketSettings { path, mode, group })
}

fn mode(reader: &Reader<'_>, key: &str) -> u32 {
    u32::try_from(reader.entries.whole(&["socket", key])).unwrap_or(0o660)
}

fn group(reader: &Reader<'_>, key: &str) -> Option<String> {
    Some(reader.entries.text(&["socket", key])).filter(|group| !group.is_empty())
}

/// The limits of clients.
pub(super) fn limits(reader: &mut Reader<'_>) -> LimitSettings {
    let calls = reader.count(&["limits", "calls_per_connection"]);
    LimitSettings {
        connections: reader.count(&["limits", "connections"]),
        calls: reader.count(&["limits", "calls"]),
        calls_per_connection: u32::try_from(calls).unwrap_or(u32::MAX),
        request_bytes: request_bytes(reader),
        event_streams: reader.count(&["limits", "event_streams"]),
        events_ahead: reader.count(&["limits", "events_ahead"]),
        handshake: more_than_nothing(reader, "handshake"),
        keepalive: more_than_nothing(reader, "keepalive"),
    }
}

/// One process has half of them, and needs as many as the longest request has.
fn request_bytes(reader: &mut Reader<'_>) -> usize {
    let bytes = reader.entries.whole(&["limits", "request_bytes"]);
    if bytes < 32 << 20 {
        let problem = "`limits.request_bytes` is below 32MiB: a long request would never be read";
        reader.mistake(&["limits", "request_bytes"], problem.to_owned());
    }
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn more_than_nothing(reader: &mut Reader<'_>, key: &str) -> Duration {
    let time = reader.entries.time(&["limits", key]);
    if time.is_zero() {
        let problem = format!("`limits.{key}` is 0: no connection could live");
        reader.mistake(&["limits", key], problem);
    }
    time
}

/// Where metrics are served, if anywhere.
pub(super) fn metrics(reader: &mut Reader<'_>) -> Option<MetricsAddress> {
    let key = ["metrics", "address"];
    if let Some(path) = reader.entries.path(&key).filter(|path| path.is_absolute()) {
        return Some(MetricsAddress::Unix(path));
    }
    reader.parsed(&key, "an address with a port, or an absolute path").map(MetricsAddress::Tcp)
}
