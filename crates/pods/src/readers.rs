//! The few threads that read cgroups for statistics.
//!
//! Always: as many threads as the machine has processors read, each one object after the other as long as there
//! are any, so that a list of hundreds does not wake a thread for each; one that the kernel keeps does not count as
//! a reader any more, and whoever waits for it is bounded on its own.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::error::Cause;

/// A read that takes longer is one that the kernel keeps.
const KEPT: Duration = Duration::from_secs(1);

type Job = Box<dyn FnOnce() + Send>;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Readers {
    most: usize,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    /// Those at work, and since when each of them has been at what it reads.
    at_work: BTreeMap<u64, Instant>,
    /// The number of the next one.
    next: u64,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (waiting, at_work) = (self.waiting.len(), self.at_work.len());
        f.debug_struct("State").field("waiting", &waiting).field("at_work", &at_work).finish()
    }
}

impl Readers {
    /// As many as there are processors.
    pub(crate) fn new() -> Self {
        let most = std::thread::available_parallelism().map_or(1, usize::from);
        Self { most, state: Arc::default() }
    }

    /// Has `read` called by one of them, after what waits already; to be bounded by whoever waits. If the caller
    /// has gone before its turn, nothing is read.
    pub(crate) async fn read<T: Send + 'static, E: Into<Cause> + Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Cause> {
        let (tell, hear) = oneshot::channel();
        self.give(Box::new(move || {
            if !tell.is_closed() {
                let _ = tell.send(read());
            }
        }));
        match hear.await {
            Ok(done) => done.map_err(Into::into),
            // What it was in has panicked, with its words in the log.
            Err(_) => Err(Cause::other(model::Class::Internal, "the reader of a cgroup has ended")),
        }
    }

    fn give(&self, job: Job) {
        let mut state = self.lock();
        state.waiting.push_back(job);
        let reading = state.at_work.values().filter(|since| since.elapsed() < KEPT).count();
        if reading >= self.most {
            return;
        }
        let own = state.next;
        state.next = own.wrapping_add(1);
        state.at_work.insert(own, Instant::now());
        drop(state);
        let readers = self.clone();
        tokio::task::spawn_blocking(move || {
            while let Some(job) = readers.next(own) {
                // Its caller is told by the end of it, and those behind it are not kept waiting.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        });
    }

    /// What the reader `own` does next; where there is nothing, it is not at work any more before anybody can give
    /// more.
    fn next(&self, own: u64) -> Option<Job> {
        let mut state = self.lock();
        let job = state.waiting.pop_front();
        match job {
            Some(_) => state.at_work.insert(own, Instant::now()),
            None => state.at_work.remove(&own),
        };
        job
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;

    /// Whether it has to wait, when it is asked for the first time.
    async fn begins(read: &mut (impl Future + Unpin)) -> bool {
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *read).poll(cx).is_pending())).await
    }

    #[tokio::test]
    async fn each_gets_its_own_and_a_panic_or_a_caller_that_has_gone_takes_nothing_with_it() {
        let readers = Readers { most: 1, ..Readers::new() };
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let mut first = Box::pin(readers.read(move || {
            let _ = gate.recv();
            Ok::<_, Cause>(0)
        }));
        // It is at work, and what comes after it waits.
        assert!(begins(&mut first).await);
        let mut gone = Box::pin(readers.read(|| -> Result<(), Cause> { panic!("nobody waits") }));
        assert!(begins(&mut gone).await);
        drop(gone);
        let mut second = Box::pin(readers.read(|| Ok::<_, Cause>(1)));
        assert!(begins(&mut second).await);
        assert_eq!(readers.lock().at_work.len(), 1);
        go.send(()).unwrap();
        assert_eq!(first.await.unwrap(), 0);
        assert_eq!(second.await.unwrap(), 1);
        // Whoever is told of a panic may ask at once: the reader goes on.
        for _ in 0..100 {
            let bad = readers.read(|| -> Result<(), Cause> { panic!("a bug") }).await;
            assert!(bad.unwrap_err().to_string().contains("has ended"));
            assert_eq!(readers.read(|| Ok::<_, Cause>(2)).await.unwrap(), 2);
        }
    }

    #[tokio::test]
    async fn a_reader_that_the_kernel_keeps_is_replaced() {
        let readers = Readers { most: 1, ..Readers::new() };
        let long_ago = Instant::now().checked_sub(KEPT).unwrap();
        readers.lock().at_work.insert(u64::MAX, long_ago);
        assert_eq!(readers.read(|| Ok::<_, Cause>(1)).await.unwrap(), 1);
    }
}
