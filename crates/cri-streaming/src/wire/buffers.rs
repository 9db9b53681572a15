//! Memory to read into, used again as soon as nobody holds what was read.

use std::collections::VecDeque;

use bytes::BytesMut;

/// The most that is read at once; a connection begins with less, so that idle ones are small.
const READ_MOST: usize = 128 << 10;
const READ_FIRST: usize = 2 << 10;
/// Buffers that are kept; what was read into one that is not kept lives as long as its holders want.
const KEPT: usize = 4;

/// Buffers for one connection.
#[derive(Debug)]
pub(super) struct Buffers {
    kept: VecDeque<BytesMut>,
    at_once: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { kept: VecDeque::new(), at_once: READ_FIRST }
    }
}

impl Buffers {
    /// An empty buffer with room for what is read at once. To be given [`Self::back`].
    pub(super) fn spare(&mut self) -> BytesMut {
        let at_once = self.at_once;
        if let Some(free) = self.kept.iter_mut().position(|buffer| buffer.try_reclaim(at_once))
            && let Some(buffer) = self.kept.remove(free)
        {
            return buffer;
        }
        BytesMut::with_capacity(at_once)
    }

    /// Takes what was read out of `buffer`, and keeps the memory.
    pub(super) fn back(&mut self, mut buffer: BytesMut) -> BytesMut {
        let read = buffer.split();
        let (count, at_once) = (read.len(), self.at_once);
        self.at_once = if count >= at_once {
            (at_once * 2).min(READ_MOST)
        } else if count < at_once / 4 {
            READ_FIRST.max(at_once / 2)
        } else {
            at_once
        };
        if self.at_once == READ_FIRST {
            // An idle connection keeps nothing.
            self.kept.clear();
        } else {
            if self.kept.len() == KEPT {
                self.kept.pop_front();
            }
            self.kept.push_back(buffer);
        }
        read
    }
}
