//! Traces of operations, sent to a collector by OTLP over gRPC. Off unless it is configured.
//!
//! Owns: what an operation is as spans, and the way to the collector. Always: no operation waits for it; what ends
//! while the collector is away waits within a bound, and what is past it is lost, counted and said; a caller's place in
//! a trace is taken up, and its wish not to be recorded.
//! Callers: `serve`.

mod otlp;
mod send;
mod spans;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use operations::{Ended, Watcher};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::TraceEndpoint;

/// Operations that wait to be sent, with those that are being sent. More are not traced.
const AHEAD: usize = 1024;

/// Hears of operations.
#[derive(Debug)]
pub struct Traces {
    to: mpsc::Sender<Ended>,
    lost: Arc<AtomicU64>,
}

/// Sends to `endpoint` from now on until `stop`.
pub fn begin(endpoint: &TraceEndpoint, stop: CancellationToken) -> Result<Arc<Traces>, String> {
    let (to, from) = mpsc::channel(AHEAD - send::BATCH);
    let lost = Arc::new(AtomicU64::new(0));
    let channel = send::channel(endpoint)?;
    tracing::info!(?endpoint, "sending traces");
    tokio::spawn(send::send(channel, from, Arc::clone(&lost), stop));
    Ok(Arc::new(Traces { to, lost }))
}

impl Traces {
    /// Operations that were not sent and never will be.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Watcher for Traces {
    fn wants_calls(&self) -> bool {
        true
    }

    fn call_ended(&self, ended: &Ended) {
        self.ended(ended);
    }

    fn ended(&self, ended: &Ended) {
        if ended.origin.trace.is_some_and(|context| !context.is_sampled) {
            return;
        }
        if self.to.try_send(ended.clone()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
