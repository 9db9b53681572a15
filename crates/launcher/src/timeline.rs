//! Where the time of a launch went.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::error::Phase;

/// A phase with its beginning, counted from the beginning of the launch, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Which phase.
    pub phase: Phase,
    /// Microseconds from the beginning of the launch to the beginning of the phase.
    pub start_us: u32,
    /// Microseconds that it took.
    pub took_us: u32,
}

/// Collects spans; the clock is the machine's monotonic one, so parent and child fit together.
#[derive(Debug, Clone)]
pub(crate) struct Timeline {
    origin: Instant,
    since: Instant,
    pub(crate) spans: Vec<Span>,
}

impl Timeline {
    pub(crate) fn new(origin: Instant) -> Self {
        Self { origin, since: origin, spans: Vec::with_capacity(10) }
    }

    /// The next phase begins now; the time since the last one ended belongs to nobody.
    pub(crate) fn skip(&mut self) {
        self.since = Instant::now();
    }

    /// The phase that has just ended began when the one before ended.
    pub(crate) fn ended(&mut self, phase: Phase) {
        let now = Instant::now();
        let micros = |d: std::time::Duration| u32::try_from(d.as_micros()).unwrap_or(u32::MAX);
        self.spans.push(Span {
            phase,
            start_us: micros(self.since.duration_since(self.origin)),
            took_us: micros(now.duration_since(self.since)),
        });
        self.since = now;
    }
}
