//! What happens to pods, told to whoever subscribes.
//!
//! Always: events of one object come in their order; an event carries what was true when it happened; one who is too
//! far behind is cut off by the event that he has no room for, whether he reads or not.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{ContainerId, SandboxId, Timestamp};
use tokio::sync::Notify;

use crate::status::{ContainerStatus, SandboxStatus};

/// Events that a subscriber may be behind, unless it is configured otherwise. One that falls further behind is cut off and must list again;
/// nothing is skipped unseen.
pub const EVENTS_AHEAD: usize = 1024;

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A sandbox.
    Sandbox(SandboxId),
    /// A container.
    Container(ContainerId),
}

/// What happened to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was created.
    Created,
    /// It was started; for a sandbox: it is ready.
    Started,
    /// It has ended; for a sandbox: it is not ready any more.
    Stopped,
    /// It is gone.
    Deleted,
}

/// Something that happened, with the pod as it was then.
#[derive(Debug, Clone)]
pub struct PodEvent {
    /// To whom.
    pub subject: Subject,
    /// What.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// The sandbox; `None` where it was gone already.
    pub sandbox: Option<Arc<SandboxStatus>>,
    /// All containers of the sandbox.
    pub containers: Vec<Arc<ContainerStatus>>,
}

/// A subscriber was too slow; it has missed events and gets no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the subscriber was too far behind and has missed {missed} events; list again and subscribe anew"
)]
pub struct Behind {
    /// How many it has missed.
    pub missed: u64,
}

/// Whom events are told to.
#[derive(Debug)]
pub(crate) struct Events {
    ahead: usize,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    subscribers: Mutex<Subscribers>,
    cut: AtomicU64,
}

#[derive(Debug, Default)]
struct Subscribers {
    last: u64,
    all: BTreeMap<u64, Arc<Queue>>,
}

/// What waits for one subscriber.
#[derive(Debug, Default)]
struct Queue {
    state: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Arc<PodEvent>>,
    /// Above 0 for one that is cut off.
    missed: u64,
    is_closed: bool,
}

impl Events {
    pub(crate) fn new(ahead: usize) -> Self {
        Self { ahead: ahead.max(1).next_power_of_two(), shared: Arc::default() }
    }

    /// Tells it to all subscribers; never waits. Who has no room for it is cut off.
    pub(crate) fn publish(&self, event: PodEvent) {
        let event = Arc::new(event);
        for queue in self.shared.lock().all.values() {
            let is_cut = lock(&queue.state).add(&event, self.ahead);
            queue.wake.notify_one();
            if is_cut {
                self.shared.cut.fetch_add(1, Ordering::Relaxed);
                let behind = self.ahead + 1;
                tracing::info!(behind, "a subscriber of events is too far behind, and is cut off");
            }
        }
    }

    /// Whether anybody listens: else an event need not be made.
    pub(crate) fn has_subscribers(&self) -> bool {
        !self.shared.lock().all.is_empty()
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        let queue = Arc::<Queue>::default();
        let mut subscribers = self.shared.lock();
        subscribers.last += 1;
        let number = subscribers.last;
        subscribers.all.insert(number, Arc::clone(&queue));
        drop(subscribers);
        Subscription { queue, number, shared: Arc::clone(&self.shared), is_over: false }
    }

    /// There are no more events: those who listen have what waits for them, and then the end.
    pub(crate) fn close(&self) {
        for queue in self.shared.lock().all.values() {
            lock(&queue.state).is_closed = true;
            queue.wake.notify_one();
        }
    }

    /// How many subscribers were cut off.
    pub(crate) fn cut(&self) -> u64 {
        self.shared.cut.load(Ordering::Relaxed)
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        lock(&self.subscribers)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is under the lock is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    /// One more event. True where it is the one too many.
    fn add(&mut self, event: &Arc<PodEvent>, ahead: usize) -> bool {
        if self.missed > 0 {
            self.missed += 1;
            return false;
        }
        if self.events.len() < ahead {
            self.events.push_back(Arc::clone(event));
            return false;
        }
        // It has to list anyway: what it has not got yet is of no use to it.
        self.missed = u64::try_from(self.events.len()).unwrap_or(u64::MAX).saturating_add(1);
        self.events = VecDeque::new();
        true
    }
}

/// Events from the moment of subscribing on.
#[derive(Debug)]
pub struct Subscription {
    queue: Arc<Queue>,
    number: u64,
    shared: Arc<Shared>,
    is_over: bool,
}

impl Subscription {
    /// Waits for the next event; `None` when there will be none any more.
    ///
    /// # Errors
    /// [`Behind`], once; the subscription is over then.
    pub async fn next(&mut self) -> Option<Result<Arc<PodEvent>, Behind>> {
        while !self.is_over {
            {
                let mut waiting = lock(&self.queue.state);
                if let Some(event) = waiting.events.pop_front() {
                    return Some(Ok(event));
                }
                self.is_over = waiting.missed > 0 || waiting.is_closed;
                if waiting.missed > 0 {
                    return Some(Err(Behind { missed: waiting.missed }));
                }
            }
            if !self.is_over {
                // What comes between the look and this has left its mark.
                self.queue.wake.notified().await;
            }
        }
        None
    }

    /// Whoever listened has not been heard of for `silent` and is given up: cut off as well.
    pub fn unanswered(&mut self, silent: Duration, pid: Option<i32>) {
        let behind = {
            let waiting = lock(&self.queue.state);
            // One that was cut off has been told of.
            if std::mem::replace(&mut self.is_over, true) || waiting.missed > 0 {
                return;
            }
            waiting.events.len()
        };
        self.shared.cut.fetch_add(1, Ordering::Relaxed);
        tracing::info!(
            behind,
            ?silent,
            ?pid,
            "a subscriber of events does not answer, and is cut off"
        );
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.shared.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: i64) -> PodEvent {
        let subject = Subject::Container(ContainerId::from_random([7; 32]));
        let (sandbox, containers) = (None, Vec::new());
        PodEvent { subject, kind: EventKind::Created, at: Timestamp(n), sandbox, containers }
    }

    #[tokio::test]
    async fn events_come_in_order_to_everybody() {
        let events = Events::new(EVENTS_AHEAD);
        assert!(!events.has_subscribers());
        let mut both = [events.subscribe(), events.subscribe()];
        assert!(events.has_subscribers());
        for n in 0..10 {
            events.publish(event(n));
        }
        drop(events);
        for subscriber in &mut both {
            for n in 0..10 {
                assert_eq!(subscriber.next().await.unwrap().unwrap().at, Timestamp(n));
            }
            assert!(subscriber.next().await.is_none());
        }
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_behind_is_told_once_and_cut_off() {
        let events = Events::new(EVENTS_AHEAD);
        let mut slow = events.subscribe();
        for n in 0..=i64::try_from(EVENTS_AHEAD).unwrap() {
            events.publish(event(n));
        }
        assert_eq!(events.cut(), 1, "before it is read");
        events.publish(event(0));
        assert_eq!(events.cut(), 1, "once");
        let missed = u64::try_from(EVENTS_AHEAD).unwrap() + 2;
        assert_eq!(slow.next().await.unwrap().unwrap_err(), Behind { missed });
        assert!(slow.next().await.is_none());
        slow.unanswered(Duration::from_secs(20), None);
        assert_eq!(events.cut(), 1, "it was told of");
    }

    #[tokio::test]
    async fn a_subscriber_that_does_not_answer_is_counted_and_the_end_is_told_after_what_waits() {
        let events = Events::new(1);
        let (mut silent, mut other) = (events.subscribe(), events.subscribe());
        events.publish(event(1));
        silent.unanswered(Duration::from_secs(20), Some(1));
        silent.unanswered(Duration::from_secs(20), Some(1));
        assert_eq!(events.cut(), 1);
        drop(silent);
        events.close();
        assert_eq!(other.next().await.unwrap().unwrap().at, Timestamp(1));
        assert!(other.next().await.is_none());
        drop(other);
        assert!(!events.has_subscribers());
    }
}
