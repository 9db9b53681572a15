//! What stands between clients and services.
//!
//! Owns: the numbers of docs/guide/limits.md that are not configured, and the servers on the sockets.
//! Always: both sockets draw from the same places.

use std::sync::Arc;
use std::time::Duration;

use cri_server::{ANSWER_WITHIN, Access, Cri, Front, Observer, Places};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::connections::Connections;
use crate::config::LimitSettings;

/// What one call may send ahead, and all calls of a connection.
const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Names and values at the head of one call.
const HEADERS: u32 = 16 << 10;

/// Everything that sockets share.
#[derive(Debug, Clone)]
pub struct Fronts {
    limits: LimitSettings,
    slow: Duration,
    calls: Arc<Places>,
    subscribers: Arc<Places>,
    bytes: Arc<Places>,
    observer: Option<Arc<dyn Observer>>,
}

impl Fronts {
    /// As configured; `observer` hears of every call.
    pub fn new(limits: LimitSettings, slow: Duration, observer: Option<Arc<dyn Observer>>) -> Self {
        let calls = Places::new("calls", limits.calls);
        let subscribers = Places::new("streams of events", limits.event_streams);
        let bytes = Places::new("bytes of requests", limits.request_bytes);
        Self { limits, slow, calls, subscribers, bytes, observer }
    }

    /// Answers calls on `listener` until `stopped`.
    pub async fn answer(
        &self,
        cri: Cri,
        access: Access,
        listener: UnixListener,
        stopped: impl Future<Output = ()>,
    ) -> Result<(), tonic::transport::Error> {
        let front = Front {
            access,
            slow: self.slow,
            calls: Arc::clone(&self.calls),
            subscribers: Arc::clone(&self.subscribers),
            bytes: Arc::clone(&self.bytes),
            observer: self.observer.clone(),
        };
        let connections = Connections::new(self.limits.connections, self.limits.handshake);
        Server::builder()
            .max_concurrent_streams(Some(self.limits.calls_per_connection))
            .initial_stream_window_size(Some(WINDOW))
            .initial_connection_window_size(Some(CONNECTION_WINDOW))
            .http2_max_header_list_size(Some(HEADERS))
            .http2_keepalive_interval(Some(self.limits.keepalive))
            .http2_keepalive_timeout(Some(ANSWER_WITHIN))
            .layer(front)
            .add_service(cri.runtime_service())
            .add_service(cri.image_service())
            .add_service(cri.admin_service())
            .serve_with_incoming_shutdown(connections.accept(listener), stopped)
            .await
    }

    /// Answers on all sockets until `stop`.
    pub async fn answer_all(
        self,
        cri: Cri,
        full: UnixListener,
        read_only: Option<UnixListener>,
        stop: CancellationToken,
    ) -> Result<(), tonic::transport::Error> {
        let all = self.answer(cri.clone(), Access::Full, full, stop.clone().cancelled_owned());
        let Some(read_only) = read_only else { return all.await };
        let reads = self.answer(cri, Access::ReadOnly, read_only, stop.cancelled_owned());
        tokio::try_join!(all, reads).map(|_| ())
    }
}
