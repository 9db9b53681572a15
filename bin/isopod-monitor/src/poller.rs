//! epoll(7) with names instead of numbers.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// A key that is given once and never again, so that a late event finds nobody rather than somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    /// The number of it, which nothing else of this monitor ever has.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a descriptor in the poller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The socket that daemons connect to.
    Listener,
    /// Ended children.
    Signals,
    /// A daemon.
    Connection(Key),
    /// A container's standard output, or its terminal.
    Stdout(Key),
    /// A container's standard error.
    Stderr(Key),
    /// The control socket of a container's launch.
    Launch(Key),
    /// The control socket of an exec's launch.
    ExecLaunch(Key),
    /// A pipe from which copies of a container's output are read; ready when its reader is gone.
    Attach(Key),
    /// A socket through which an external runtime hands over a terminal.
    Console(Key),
    /// The file in which the kernel counts a container's lack of memory.
    Memory(Key),
}

const KIND_BITS: u32 = 4;

impl Source {
    fn pack(self) -> u64 {
        let (kind, key) = match self {
            Self::Listener => (0, Key(0)),
            Self::Signals => (1, Key(0)),
            Self::Connection(key) => (2, key),
            Self::Stdout(key) => (3, key),
            Self::Stderr(key) => (4, key),
            Self::Launch(key) => (5, key),
            Self::ExecLaunch(key) => (6, key),
            Self::Attach(key) => (7, key),
            Self::Console(key) => (8, key),
            Self::Memory(key) => (9, key),
        };
        key.0 << KIND_BITS | kind
    }

    fn unpack(data: u64) -> Self {
        let key = Key(data >> KIND_BITS);
        match data & ((1 << KIND_BITS) - 1) {
            0 => Self::Listener,
            1 => Self::Signals,
            2 => Self::Connection(key),
            3 => Self::Stdout(key),
            4 => Self::Stderr(key),
            5 => Self::Launch(key),
            6 => Self::ExecLaunch(key),
            7 => Self::Attach(key),
            8 => Self::Console(key),
            _ => Self::Memory(key),
        }
    }
}

/// How many events one turn of the loop takes.
const BATCH: usize = 32;

/// The set of descriptors that are waited for.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    last_key: u64,
}

impl Poller {
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, last_key: 0 })
    }

    /// A key that was never given before.
    pub fn new_key(&mut self) -> Key {
        self.last_key += 1;
        Key(self.last_key)
    }

    /// Waits for `fd` to be readable from now on. It leaves the set when its last descriptor is closed.
    pub fn add<F: AsFd>(&self, fd: F, source: Source) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(source.pack()),
            epoll::EventFlags::IN,
        )?)
    }

    /// Waits for nothing but the other end being closed, from now on.
    pub fn add_for_close<F: AsFd>(&self, fd: F, source: Source) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(source.pack()),
            epoll::EventFlags::empty(),
        )?)
    }

    /// Waits for the kernel to tell of a change of a file in a cgroup. Each is to be read to its end.
    pub fn add_for_changes<F: AsFd>(&self, fd: F, source: Source) -> io::Result<()> {
        Ok(epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(source.pack()),
            epoll::EventFlags::PRI,
        )?)
    }

    /// Waits for room to write, too, or no longer.
    pub fn set_writable<F: AsFd>(&self, fd: F, source: Source, wanted: bool) -> io::Result<()> {
        let flags = if wanted {
            epoll::EventFlags::IN | epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(source.pack()), flags)?)
    }

    /// Stops waiting for a descriptor that stays open.
    pub fn remove<F: AsFd>(&self, fd: F) {
        // One that was never added is as good as removed.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits, up to `timeout`, and says who is ready; an empty list when time is up.
    pub fn wait(&self, timeout: Option<Timespec>) -> io::Result<([Option<Source>; BATCH], usize)> {
        let mut events = [epoll::Event {
            flags: epoll::EventFlags::empty(),
            data: epoll::EventData::new_u64(0),
        }; BATCH];
        let count = loop {
            match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
                Ok(count) => break count,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        };
        let mut sources = [None; BATCH];
        for (source, event) in sources.iter_mut().zip(&events[..count]) {
            *source = Some(Source::unpack(event.data.u64()));
        }
        Ok((sources, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_survives_packing() {
        let key = Key(77);
        for source in [
            Source::Listener,
            Source::Signals,
            Source::Connection(key),
            Source::Stdout(key),
            Source::Stderr(key),
            Source::Launch(key),
            Source::ExecLaunch(key),
            Source::Attach(key),
            Source::Console(key),
        ] {
            assert_eq!(Source::unpack(source.pack()), source);
        }
    }
}
