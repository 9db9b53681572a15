//! Whether a transfer is alive. No clock: times are arguments.

use std::time::Duration;

/// Watches a transfer's rate over windows of waiting time. Only time spent waiting for the network
/// is counted, so that a slow reader never makes a transfer look slow.
#[derive(Debug)]
pub(crate) struct Window {
    limit: Duration,
    least: u64,
    waited: Duration,
    bytes: u64,
}

impl Window {
    /// A window of `limit` in which at least `rate` bytes per second are to arrive, and at least one.
    pub(crate) fn new(limit: Duration, rate: u64) -> Self {
        let least = limit.as_secs().saturating_mul(rate).max(1);
        Self { limit, least, waited: Duration::ZERO, bytes: 0 }
    }

    /// How long the next wait may take at most.
    pub(crate) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.waited)
    }

    /// `bytes` came after a wait of `waited`. True if a window ended with too little.
    pub(crate) fn note(&mut self, waited: Duration, bytes: u64) -> bool {
        self.waited += waited;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < self.limit {
            return false;
        }
        let stalled = self.bytes < self.least;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trickle_and_a_silence_are_stalls_and_a_slow_reader_is_none() {
        let second = Duration::from_secs(1);
        let mut w = Window::new(second * 10, 100);
        assert!(!(0..9).any(|_| w.note(second, 10)));
        assert_eq!(w.left(), second);
        assert!(w.note(second, 10), "100 bytes in ten seconds are too few");
        assert!(!(0..10).any(|_| w.note(second, 100)));
        assert!(w.note(second * 10, 0));
        assert!(!(0..1000).any(|_| w.note(Duration::ZERO, 0)));
    }

    #[test]
    fn without_a_rate_one_byte_is_enough() {
        let mut w = Window::new(Duration::from_secs(1), 0);
        assert!(!w.note(Duration::from_secs(1), 1));
        assert!(w.note(Duration::from_secs(1), 0));
    }
}
