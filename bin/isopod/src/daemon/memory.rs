//! What the daemon holds and does not need: free parts of its heap, and its program as far as nobody uses it.
//!
//! A program of which the kernel maps sixteen pages around each one that is touched is soon mapped as a whole, for a
//! pull or a recovery that was an hour ago. What is let go of comes back from the page cache, as it is used.

use std::time::Duration;

use super::metrics::Metrics;

/// How often it is looked whether there is a moment of rest.
const LOOK: Duration = Duration::from_secs(5);
/// After how many looks it is done all the same: where such a moment does not come, and where nothing was done that is
/// counted.
const BUSY: u32 = 12;
const AT_REST: u32 = 120;

/// Gives back what can be had again for as long as it is polled: when nothing has been done for a moment after
/// something was, once a minute where that does not come, and once in ten minutes at rest.
pub async fn keep_small(metrics: &Metrics) {
    let mut rounds = Rounds::default();
    loop {
        tokio::time::sleep(LOOK).await;
        if rounds.is_due(metrics.done()) {
            trim();
        }
    }
}

/// When it is due.
#[derive(Debug, Default)]
struct Rounds {
    /// What had been done until the last look.
    done: u64,
    /// The same when memory was given back last.
    returned: Option<u64>,
    /// Looks since then.
    looks: u32,
    /// Looks since something was done after that.
    busy: u32,
}

impl Rounds {
    /// Whether it is due now that so much was `done` in the daemon's life.
    fn is_due(&mut self, done: u64) -> bool {
        let rests = done == self.done;
        self.done = done;
        self.looks += 1;
        self.busy = if self.returned == Some(done) { 0 } else { self.busy + 1 };
        if self.busy == 0 && self.looks < AT_REST || self.busy > 0 && !rests && self.busy < BUSY {
            return false;
        }
        *self = Self { done, returned: Some(done), looks: 0, busy: 0 };
        true
    }
}

fn trim() {
    sys::return_free_memory();
    sys::return_program();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_in_the_first_moment_of_rest_or_after_a_minute_without_one() {
        let mut rounds = Rounds::default();
        let mut due = |done: &[u64]| done.iter().map(|n| rounds.is_due(*n)).collect::<Vec<_>>();
        assert_eq!(due(&[0, 0, 0]), [true, false, false], "when the daemon has begun");
        assert_eq!(due(&[0; 20]), [false; 20]);
        assert_eq!(due(&[3, 4, 4, 4]), [false, false, true, false]);
        let busy: Vec<u64> = (5..29).collect();
        let dues: Vec<usize> =
            due(&busy).iter().enumerate().filter(|d| *d.1).map(|d| d.0).collect();
        assert_eq!(dues, [11, 23]);
        let dues = due(&[28; 240]).iter().filter(|due| **due).count();
        assert_eq!(dues, 2, "once in ten minutes");
    }
}
