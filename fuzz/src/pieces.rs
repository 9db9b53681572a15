//! The same bytes, cut in different ways.

use std::io::{self, Read};

/// Sizes of pieces that are tried for an input: all at once, one byte at a time (for short ones), and a size that the
/// input itself chooses.
pub fn sizes(data: &[u8]) -> impl Iterator<Item = usize> {
    let chosen = 2 + usize::from(data.last().copied().unwrap_or_default());
    let single = (data.len() <= 256).then_some(1);
    [data.len().max(1), chosen].into_iter().chain(single)
}

/// Fails unless what `read` makes of `data` is the same however it is cut; gives that.
pub fn same<T: PartialEq + std::fmt::Debug>(
    data: &[u8],
    mut read: impl FnMut(&mut dyn Iterator<Item = &[u8]>) -> T,
) -> Option<T> {
    let mut first: Option<T> = None;
    for size in sizes(data) {
        let this = read(&mut data.chunks(size));
        match &first {
            Some(first) => assert!(*first == this, "in pieces of {size}: {this:?}, else {first:?}"),
            None => first = Some(this),
        }
    }
    first
}

/// Reads no more than `size` bytes at once.
pub struct Short<R> {
    pub inner: R,
    pub size: usize,
}

impl<R: Read> Read for Short<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.size);
        self.inner.read(&mut buffer[..most])
    }
}
