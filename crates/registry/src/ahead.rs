//! Parts of a large blob, several at once, handed out in order.
//!
//! The first part comes alone and shows whether one connection is fast enough.
//!
//! It only makes a download faster: whatever goes wrong here ends it, and the blob goes on in one
//! piece, with the tries and the hosts that a single answer has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use crate::endpoint::Endpoint;
use crate::error::Cause;
use crate::schedule::Failure;
use crate::source::{Body, Wanted};

/// Parts that are on their way, and the rest of the one that is handed out.
///
/// Bounds: `ranges_per_blob` parts of `range_size` bytes for one blob; of those, all but the first
/// need one of `ranges_ahead` places that all blobs share. Without a place there is only one part
/// at a time.
pub(crate) struct Ahead {
    wanted: Wanted,
    endpoint: Arc<Endpoint>,
    parts: VecDeque<Part>,
    /// What has come of the part that is handed out, in order.
    ready: VecDeque<Bytes>,
    /// Where the next part to ask for begins.
    next: u64,
    pace: Pace,
}

/// Whether parts at once are of use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// The first part is on its way, alone.
    Unknown,
    /// One connection is slow: parts at once.
    Slow,
    /// One connection is fast enough.
    Fast,
}

/// What came of a part, and how long it took.
struct Collected {
    chunks: VecDeque<Bytes>,
    took: Duration,
}

/// A part that is being fetched; dropping it ends that.
struct Part {
    task: JoinHandle<Result<Collected, Failure>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    /// Goes on from `first`, the open answer for the part that begins at `offset`.
    pub(crate) fn new(wanted: Wanted, endpoint: Arc<Endpoint>, first: Body, offset: u64) -> Self {
        let (parts, ready) = (VecDeque::new(), VecDeque::new());
        let mut ahead = Self { wanted, endpoint, parts, ready, next: offset, pace: Pace::Unknown };
        let (from, last) = ahead.take_range();
        let wanted = ahead.wanted.clone();
        let task = tokio::spawn(async move { collect(&wanted, first, from, last).await });
        ahead.parts.push_back(Part { task, _place: None });
        ahead
    }

    /// The host, if one connection to it turned out to be enough and all of the first part has been
    /// handed out.
    pub(crate) fn needless(&self) -> Option<Arc<Endpoint>> {
        let over = self.pace == Pace::Fast && self.ready.is_empty();
        over.then(|| Arc::clone(&self.endpoint))
    }

    fn measure(&mut self, took: Duration) {
        if self.pace == Pace::Unknown {
            let limits = &self.wanted.inner.config.limits;
            let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = limits.range_size.saturating_mul(1000) / millis;
            self.pace = if rate >= limits.fast_enough { Pace::Fast } else { Pace::Slow };
        }
    }

    /// The next bytes; `None` after the last part.
    pub(crate) async fn next(&mut self, received: u64) -> Result<Option<Bytes>, Failure> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Ok(Some(bytes));
            }
            if self.pace == Pace::Fast {
                return Ok(None);
            }
            self.fill();
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            let ended = (&mut part.task).await;
            self.parts.pop_front();
            self.ready = match ended {
                Ok(Ok(collected)) => {
                    self.measure(collected.took);
                    collected.chunks
                }
                Ok(Err(failure)) => return Err(soften(failure, received)),
                Err(e) => {
                    let detail = format!("the task of a part ended: {e}");
                    return Err(Cause::Broken { received, detail }.into());
                }
            };
        }
    }

    /// Asks for parts as long as there is room.
    fn fill(&mut self) {
        if self.pace == Pace::Unknown {
            return;
        }
        let most = self.wanted.inner.config.limits.ranges_per_blob;
        while self.next < self.wanted.descriptor.size && self.parts.len() < most {
            let place = Arc::clone(&self.wanted.inner.ahead).try_acquire_owned().ok();
            if place.is_none() && !self.parts.is_empty() {
                return;
            }
            let (first, last) = self.take_range();
            let (wanted, endpoint) = (self.wanted.clone(), Arc::clone(&self.endpoint));
            let task = tokio::spawn(async move {
                let body = wanted.open_part(&endpoint, (first, last)).await?;
                collect(&wanted, body, first, last).await
            });
            self.parts.push_back(Part { task, _place: place });
        }
    }

    fn take_range(&mut self) -> (u64, u64) {
        let first = self.next;
        let size = self.wanted.inner.config.limits.range_size.max(1);
        self.next = first.saturating_add(size).min(self.wanted.descriptor.size);
        (first, self.next - 1)
    }
}

/// What goes wrong with a part is never a host's last word: the blob itself is still to be asked for.
fn soften(failure: Failure, received: u64) -> Failure {
    if failure.cause.is_transient() {
        return failure;
    }
    Cause::Broken { received, detail: failure.cause.to_string() }.into()
}

/// All bytes of the part from `first` to `last`, neither fewer nor more.
async fn collect(
    wanted: &Wanted,
    mut body: Body,
    first: u64,
    last: u64,
) -> Result<Collected, Failure> {
    let began = Instant::now();
    let mut chunks = VecDeque::new();
    let mut at = first;
    while at <= last {
        let Some(chunk) = body.next(wanted, at).await? else {
            let detail = "a part ended too early".into();
            return Err(Cause::Broken { received: at, detail }.into());
        };
        at += chunk.len() as u64;
        chunks.push_back(chunk);
    }
    if at > last + 1 {
        let detail = "a part was longer than asked for".into();
        return Err(Cause::Broken { received: last, detail }.into());
    }
    Ok(Collected { chunks, took: began.elapsed() })
}
