//! What the daemon holds and does not need: free parts of its heap, and its program as far as nobody uses it.
//!
//! A program of which the kernel maps sixteen pages around each one that is touched is soon mapped as a whole, for a
//! pull or a recovery that was an hour ago. What is let go of comes back from the page cache, as it is used.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How often it is looked whether something was done, while rest is waited for.
const LOOK: Duration = Duration::from_secs(1);
/// How many looks in a row that find nothing done are rest.
const REST: u32 = 5;
/// How many looks are waited through where rest does not come.
const BUSY: u32 = 60;
/// How long nothing is given back at rest, where nothing is done that is counted.
const AT_REST: Duration = Duration::from_secs(600);

/// What the daemon has done.
#[derive(Debug, Default)]
pub struct Work {
    done: AtomicU64,
    more: Notify,
}

impl Work {
    /// One more call or operation has ended.
    pub fn add(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
        self.more.notify_one();
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Until more was done than `seen`.
    async fn beyond(&self, seen: u64) {
        while self.done() == seen {
            self.more.notified().await;
        }
    }

    async fn until_rest(&self) {
        let (mut before, mut quiet) = (self.done(), 0);
        for _ in 0..BUSY {
            tokio::time::sleep(LOOK).await;
            let now = self.done();
            quiet = if now == before { quiet + 1 } else { 0 };
            if quiet == REST {
                return;
            }
            before = now;
        }
    }
}

/// Gives back what can be had again for as long as it is polled: when nothing has been done for five seconds after
/// something was, once a minute where that does not come, and once in ten minutes at rest.
pub async fn keep_small(work: &Work) {
    keep(work, || {
        sys::return_free_memory();
        sys::return_program();
    })
    .await;
}

async fn keep(work: &Work, mut give_back: impl FnMut()) {
    loop {
        work.until_rest().await;
        give_back();
        let _ = tokio::time::timeout(AT_REST, work.beyond(work.done())).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_is_given_back_in_the_first_moment_of_rest_or_after_a_minute_without_one() {
        let (work, begun, given) = (Work::default(), Instant::now(), RefCell::new(Vec::new()));
        let at = |seconds| tokio::time::sleep_until(begun + Duration::from_secs(seconds));
        let working = async {
            at(100).await;
            work.add();
            // For three minutes there is no rest.
            for second in 200..380 {
                at(second).await;
                work.add();
            }
            at(1100).await;
        };
        let keeping = keep(&work, || given.borrow_mut().push(begun.elapsed().as_secs()));
        tokio::select! {
            biased;
            () = working => {}
            () = keeping => {}
        }
        let given = given.into_inner();
        assert_eq!(given, [5, 105, 260, 321, 382, 987], "{given:?}");
    }
}
