//! What happens to pods, told to whoever subscribes.
//!
//! Always: events of one object come in their order; an event carries what was true when it happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::{ContainerId, SandboxId, Timestamp};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

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
#[error("the subscriber was {missed} events too far behind; list again and subscribe anew")]
pub struct Behind {
    /// How many it has missed.
    pub missed: u64,
}

/// Whom events are told to.
#[derive(Debug)]
pub(crate) struct Events {
    to: broadcast::Sender<Arc<PodEvent>>,
    cut: Arc<AtomicU64>,
}

impl Events {
    pub(crate) fn new(ahead: usize) -> Self {
        Self { to: broadcast::channel(ahead.max(1)).0, cut: Arc::default() }
    }

    /// Tells it to all subscribers; never waits.
    pub(crate) fn publish(&self, event: PodEvent) {
        // Nobody listening is no error.
        let _ = self.to.send(Arc::new(event));
    }

    /// Whether anybody listens: else an event need not be made.
    pub(crate) fn has_subscribers(&self) -> bool {
        self.to.receiver_count() > 0
    }

    pub(crate) fn subscribe(&self) -> Subscription {
        Subscription { receiver: self.to.subscribe(), cut: Arc::clone(&self.cut), is_over: false }
    }

    /// How many subscribers were cut off.
    pub(crate) fn cut(&self) -> u64 {
        self.cut.load(Ordering::Relaxed)
    }
}

/// Events from the moment of subscribing on.
#[derive(Debug)]
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<PodEvent>>,
    cut: Arc<AtomicU64>,
    is_over: bool,
}

impl Subscription {
    /// Waits for the next event; `None` when there will be none any more.
    ///
    /// # Errors
    /// [`Behind`], once; the subscription is over then.
    pub async fn next(&mut self) -> Option<Result<Arc<PodEvent>, Behind>> {
        if self.is_over {
            return None;
        }
        match self.receiver.recv().await {
            Ok(event) => Some(Ok(event)),
            Err(RecvError::Closed) => {
                self.is_over = true;
                None
            }
            Err(RecvError::Lagged(missed)) => {
                self.is_over = true;
                self.cut.fetch_add(1, Ordering::Relaxed);
                Some(Err(Behind { missed }))
            }
        }
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
        assert_eq!(slow.next().await.unwrap().unwrap_err(), Behind { missed: 1 });
        assert!(slow.next().await.is_none());
        assert_eq!(events.cut(), 1);
    }
}
