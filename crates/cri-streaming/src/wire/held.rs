//! Bytes that were taken from a source and are to be written: in memory, or in a pipe of our own.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

/// The most that is taken at once.
pub(crate) const MOST: usize = 512 << 10;
/// What a pipe of ours, and one that is busy, is to hold. Ours is empty before [`MOST`] are taken into it.
pub(super) const PIPE: usize = 512 << 10;

/// A pipe that nobody else has, so that what was counted into it is what comes out: a container could take bytes
/// out of its own.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    /// What it holds at the least, in bytes.
    size: usize,
}

/// What is held.
#[derive(Default)]
pub(crate) struct Held {
    pub(super) bytes: Vec<u8>,
    /// How much of `bytes` counts.
    pub(super) filled: usize,
    pipe: Option<Pipe>,
    pub(super) in_pipe: usize,
}

impl fmt::Debug for Held {
    /// How much it is; what it is belongs to a container and its client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.len()).finish()
    }
}

/// A larger pipe where it may be had: past a limit of the user (pipe(7)) it stays as it is.
pub(super) fn enlarge(pipe: impl AsFd) -> usize {
    let size = || fcntl_getpipe_size(pipe.as_fd());
    if let Ok(now) = size()
        && now < PIPE
    {
        let _ = fcntl_setpipe_size(pipe.as_fd(), PIPE);
    }
    size().unwrap_or(0)
}

impl Held {
    /// How many bytes are held.
    pub(crate) fn len(&self) -> usize {
        self.filled + self.in_pipe
    }

    /// Whether there is a pipe; it is made if it can be.
    pub(super) fn has_pipe(&mut self) -> bool {
        if self.pipe.is_none() {
            // Without a descriptor to spare, bytes are copied.
            let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC) else { return false };
            let size = enlarge(&write);
            self.pipe = (size > 0).then_some(Pipe { read, write, size });
        }
        self.pipe.is_some()
    }

    /// Takes what `from` has into the pipe, which is empty. It does not wait.
    pub(super) fn splice_from(&mut self, from: BorrowedFd<'_>) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::NotFound.into()) };
        let most = MOST.min(pipe.size);
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let count = splice(from, None, &pipe.write, None, most, flags)?;
        self.in_pipe = count;
        Ok(count)
    }

    /// Hands `most` bytes of the pipe on to a socket, or fewer. It does not wait.
    pub(super) fn splice_to(&mut self, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::NotFound.into()) };
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let count = splice(&pipe.read, None, to, None, most.min(self.in_pipe), flags)?;
        self.in_pipe -= count;
        Ok(count)
    }

    /// The first `most` bytes in memory, or fewer; what is in the pipe is fetched.
    ///
    /// # Errors
    /// The pipe's.
    pub(crate) fn in_memory(&mut self, most: usize) -> io::Result<&[u8]> {
        if self.in_pipe > 0 {
            let Some(pipe) = &self.pipe else { return Err(io::ErrorKind::NotFound.into()) };
            if self.bytes.len() < self.in_pipe {
                self.bytes.resize(self.in_pipe, 0);
            }
            while self.in_pipe > 0 {
                let wanted = self.filled..self.filled + self.in_pipe;
                let count = rustix::io::read(&pipe.read, &mut self.bytes[wanted])?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.filled += count;
                self.in_pipe -= count;
            }
        }
        Ok(&self.bytes[..self.filled.min(most)])
    }

    /// Forgets the first `count` bytes of those in memory, which were written.
    pub(crate) fn wrote(&mut self, count: usize) {
        self.bytes.copy_within(count..self.filled, 0);
        self.filled -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_shown_by_its_length_alone() {
        let held = Held { bytes: b"password".to_vec(), filled: 8, ..Held::default() };
        assert_eq!(format!("{held:?}"), "Held(8)");
    }
}
