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
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

use crate::endpoint::Endpoint;
use crate::error::Cause;
use crate::schedule::Failure;
use crate::source::{Body, Wanted};

/// Parts that are on their way.
///
/// Bounds: `ranges_per_blob` parts of `range_size` bytes for one blob. Each but the open one needs one of the
/// `ranges_ahead` places that all blobs share, and has it until its last byte is handed out: so much is in
/// memory at most, of all blobs together. A blob that gets no place has one part at a time, handed out as it
/// comes, until there is a place again.
pub(crate) struct Ahead {
    wanted: Wanted,
    endpoint: Arc<Endpoint>,
    /// The part that is handed out as it comes: the first one, alone, and later one for which no place was
    /// free.
    open: Option<Open>,
    /// Those behind it, or behind what was handed out.
    parts: VecDeque<Part>,
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

/// A part whose bytes are asked for one by one.
struct Open {
    body: Body,
    at: u64,
    last: u64,
    /// How long nothing was there yet: whoever takes the bytes slowly makes no connection slow.
    waited: Duration,
}

/// A part that is being fetched; dropping it ends that.
struct Part {
    chunks: mpsc::UnboundedReceiver<Bytes>,
    task: JoinHandle<Result<(), Failure>>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Part {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    /// Goes on from `first`, the open answer for the part that begins at `offset`.
    pub(crate) fn new(wanted: Wanted, endpoint: Arc<Endpoint>, first: Body, offset: u64) -> Self {
        let parts = VecDeque::new();
        let mut ahead =
            Self { wanted, endpoint, open: None, parts, next: offset, pace: Pace::Unknown };
        ahead.open = Some(Open::new(first, ahead.take_range()));
        ahead
    }

    /// The host, if one connection to it turned out to be enough and all of the first part has been
    /// handed out.
    pub(crate) fn needless(&self) -> Option<Arc<Endpoint>> {
        (self.pace == Pace::Fast).then(|| Arc::clone(&self.endpoint))
    }

    fn measure(&mut self, waited: Duration) {
        if self.pace == Pace::Unknown {
            let limits = &self.wanted.inner.config.limits;
            let millis = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).max(1);
            let rate = limits.range_size.saturating_mul(1000) / millis;
            self.pace = if rate >= limits.fast_enough { Pace::Fast } else { Pace::Slow };
        }
    }

    /// The next bytes; `None` after the last part.
    pub(crate) async fn next(&mut self, received: u64) -> Result<Option<Bytes>, Failure> {
        loop {
            if self.pace == Pace::Slow {
                self.fill();
            }
            if let Some(open) = &mut self.open {
                let came = open.next(&self.wanted).await;
                let bytes = came.map_err(|failure| soften(failure, received))?;
                if open.is_over() {
                    let waited = open.waited;
                    self.open = None;
                    self.measure(waited);
                }
                return Ok(Some(bytes));
            }
            if self.pace == Pace::Fast {
                return Ok(None);
            }
            let Some(part) = self.parts.front_mut() else {
                if self.next >= self.wanted.descriptor.size {
                    return Ok(None);
                }
                let range = self.take_range();
                let body = self.wanted.open_part(&self.endpoint, range).await;
                let body = body.map_err(|failure| soften(failure, received))?;
                self.open = Some(Open::new(body, range));
                continue;
            };
            if let Some(bytes) = part.chunks.recv().await {
                return Ok(Some(bytes));
            }
            let ended = (&mut part.task).await;
            self.parts.pop_front();
            match ended {
                Ok(ended) => ended.map_err(|failure| soften(failure, received))?,
                Err(e) => {
                    let detail = format!("the task of a part ended: {e}");
                    return Err(Cause::Broken { received, detail }.into());
                }
            }
        }
    }

    /// Asks for parts as long as there is room.
    fn fill(&mut self) {
        let most = self.wanted.inner.config.limits.ranges_per_blob;
        let open = usize::from(self.open.is_some());
        while self.next < self.wanted.descriptor.size && open + self.parts.len() < most {
            let Ok(place) = Arc::clone(&self.wanted.inner.ahead).try_acquire_owned() else {
                return;
            };
            let range = self.take_range();
            let (wanted, endpoint) = (self.wanted.clone(), Arc::clone(&self.endpoint));
            // It holds one part at most, and each part has a place.
            let (sender, chunks) = mpsc::unbounded_channel();
            let task = tokio::spawn(async move {
                let mut part = Open::new(wanted.open_part(&endpoint, range).await?, range);
                while !part.is_over() {
                    // Nobody may want it any more.
                    let _ = sender.send(part.next(&wanted).await?);
                }
                Ok(())
            });
            self.parts.push_back(Part { chunks, task, _place: place });
        }
    }

    fn take_range(&mut self) -> (u64, u64) {
        let first = self.next;
        let size = self.wanted.inner.config.limits.range_size.max(1);
        self.next = first.saturating_add(size).min(self.wanted.descriptor.size);
        (first, self.next - 1)
    }
}

impl Open {
    const fn new(body: Body, (first, last): (u64, u64)) -> Self {
        Self { body, at: first, last, waited: Duration::ZERO }
    }

    /// Whether all of it has been given.
    const fn is_over(&self) -> bool {
        self.at > self.last
    }

    /// The next bytes of exactly this part, which is not over.
    async fn next(&mut self, wanted: &Wanted) -> Result<Bytes, Failure> {
        let received = self.at;
        let began = Instant::now();
        let chunk = self.body.next(wanted, received).await?;
        self.waited += began.elapsed();
        let Some(chunk) = chunk else {
            let detail = "a part ended too early".into();
            return Err(Cause::Broken { received, detail }.into());
        };
        self.at += chunk.len() as u64;
        if self.at > self.last + 1 {
            let detail = "a part was longer than asked for".into();
            return Err(Cause::Broken { received, detail }.into());
        }
        Ok(chunk)
    }
}

/// What goes wrong with a part is never a host's last word: the blob itself is still to be asked for.
fn soften(failure: Failure, received: u64) -> Failure {
    if failure.cause.is_transient() {
        return failure;
    }
    Cause::Broken { received, detail: failure.cause.to_string() }.into()
}
