//! How much may still be sent: flow control of SPDY/3.1, for peers that take part in it.
//!
//! Kubernetes' own clients never send a WINDOW_UPDATE; to wait for one would hang them after 64 KiB. So the
//! window binds from the moment that a peer shows that it counts; before that, the socket alone holds back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What a stream and a connection of the peer begin with until it says otherwise, in bytes.
pub(super) const INITIAL: i64 = 64 << 10;
/// What the peer may send on a stream before any of it is read, in bytes; so much fits into what may wait there.
pub(super) const OFFERED: u32 = 512 << 10;
/// What that grows to on a client, where the reader keeps up: a peer that must wait to be told of room stands still
/// for as long as it takes to be told. A server's memory is its clients', and stays at [`OFFERED`].
pub(super) const OFFERED_MOST: u32 = 4 << 20;
/// What is added for the peer to the [`INITIAL`] of the connection, whose bytes are counted as they come.
pub(super) const MORE: u32 = 16 << 20;

#[derive(Debug, Default)]
struct State {
    credit: i64,
    waiting: Vec<Waker>,
}

/// Bytes that may be sent, and who waits for more.
#[derive(Debug)]
pub(super) struct Window {
    state: Mutex<State>,
    binds: AtomicBool,
}

impl Window {
    pub(super) fn new(credit: i64, binds: bool) -> Self {
        Self {
            state: Mutex::new(State { credit, waiting: Vec::new() }),
            binds: AtomicBool::new(binds),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on nothing is sent beyond the window.
    pub(super) fn bind(&self) {
        self.binds.store(true, Ordering::Relaxed);
    }

    /// How much of `wanted` may go now; waits for at least one byte.
    pub(super) fn poll_room(&self, cx: &Context<'_>, wanted: usize) -> Poll<usize> {
        if !self.binds.load(Ordering::Relaxed) {
            return Poll::Ready(wanted);
        }
        let mut state = self.state();
        match usize::try_from(state.credit) {
            Ok(room) if room > 0 => Poll::Ready(wanted.min(room)),
            Ok(_) | Err(_) => {
                if !state.waiting.iter().any(|w| w.will_wake(cx.waker())) {
                    state.waiting.push(cx.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    /// How much of `wanted` may go now; nobody is woken for more.
    pub(super) fn room(&self, wanted: usize) -> usize {
        if !self.binds.load(Ordering::Relaxed) {
            return wanted;
        }
        wanted.min(usize::try_from(self.state().credit).unwrap_or(0))
    }

    /// So much has been sent.
    pub(super) fn spend(&self, bytes: usize) {
        let mut state = self.state();
        state.credit = state.credit.saturating_sub(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// So much more may be sent; less, if it is negative.
    pub(super) fn add(&self, bytes: i64) {
        let waiting = {
            let mut state = self.state();
            state.credit = state.credit.saturating_add(bytes);
            std::mem::take(&mut state.waiting)
        };
        for waker in waiting {
            waker.wake();
        }
    }

    /// Lets everybody look again: the stream or the connection is over.
    pub(super) fn wake_all(&self) {
        self.binds.store(false, Ordering::Relaxed);
        self.add(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_binds_once_the_peer_counts() {
        let cx = Context::from_waker(Waker::noop());
        let window = Window::new(10, false);
        window.spend(30);
        assert_eq!(window.poll_room(&cx, 100), Poll::Ready(100));
        window.bind();
        assert_eq!(window.poll_room(&cx, 100), Poll::Pending);
        window.add(25);
        assert_eq!(window.poll_room(&cx, 100), Poll::Ready(5));
        assert_eq!((window.room(100), window.room(2)), (5, 2));
        window.spend(5);
        assert_eq!((window.poll_room(&cx, 1), window.room(1)), (Poll::Pending, 0));
        window.wake_all();
        assert_eq!(window.poll_room(&cx, 7), Poll::Ready(7));
    }
}
