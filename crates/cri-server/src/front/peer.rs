//! Who is at the other end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The process at the other end of a connection (SO_PEERCRED, unix(7)), as it was when it connected; and
/// whether the connection is in use. Clones are of the same connection.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its process; none where it is in no process namespace of ours.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: Option<u32>,
    calls: Arc<AtomicUsize>,
}

impl Peer {
    /// Of a new connection.
    #[must_use]
    pub fn new(pid: Option<i32>, uid: Option<u32>) -> Self {
        Self { pid, uid, calls: Arc::default() }
    }

    /// How many calls are open on the connection.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// One more, until the value is dropped.
    #[must_use]
    pub fn busy(&self) -> Busy {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.calls))
    }
}

/// An open call.
#[derive(Debug)]
pub struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
