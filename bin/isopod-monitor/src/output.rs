//! From a container's pipes or terminal to its log.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use cri_log::{Encoder, Stamper, Stream, Time};
use monitor_api::{AttachEnd, LogLimits};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::log::Log;
use crate::poller::Key;

/// What is read at once, and the size of a pipe.
const CHUNK: usize = 64 << 10;
/// Room for records: a chunk of lines of normal length, with their headers.
const RECORDS: usize = 128 << 10;

/// More than the largest pipe holds (1 MiB by default, /proc/sys/fs/pipe-max-size).
const DRAIN_CHUNKS: usize = 64;

/// Memory for one chunk on its way, shared by all streams of the monitor.
#[derive(Debug)]
pub struct Scratch {
    chunk: Vec<u8>,
    records: Vec<u8>,
    stamper: Stamper,
}

impl Scratch {
    pub fn new() -> Self {
        Self {
            // A page of it is memory only once something has been read into it.
            chunk: Vec::with_capacity(CHUNK),
            records: Vec::with_capacity(RECORDS),
            stamper: Stamper::new(),
        }
    }
}

/// What came of reading once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pumped {
    /// There may be more.
    Some,
    /// There is nothing now.
    Nothing,
    /// There will never be more.
    End,
}

/// A stream of a container.
#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    encoder: Encoder,
}

/// Whoever reads copies of the streams.
#[derive(Debug)]
struct Reader {
    key: Key,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl Reader {
    /// Gives it a copy. It never waits: a reader that has not read what came before is let go.
    fn copy(&self, stream: Stream, chunk: &[u8]) -> Result<(), AttachEnd> {
        let pipe = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        let Some(pipe) = pipe else { return Ok(()) };
        let mut written = 0;
        while written < chunk.len() {
            match rustix::io::write(pipe, &chunk[written..]) {
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(AttachEnd::TooSlow),
                Err(_) => return Err(AttachEnd::Closed),
            }
        }
        Ok(())
    }
}

/// Both streams of a container, their log and whoever reads copies of them.
#[derive(Debug)]
pub struct Output {
    stdout: Option<Source>,
    stderr: Option<Source>,
    readers: Vec<Reader>,
    /// Readers that were let go and have not been told yet.
    let_go: Vec<(Key, AttachEnd)>,
    pub log: Log,
}

impl Output {
    /// An output without streams yet.
    pub fn new(path: Option<PathBuf>, limits: LogLimits) -> (Self, io::Result<()>) {
        let (log, opened) = Log::open(path, limits);
        (Self { stdout: None, stderr: None, readers: Vec::new(), let_go: Vec::new(), log }, opened)
    }

    /// Gives copies of what comes from now on into these pipes, which must not block.
    pub fn add_reader(&mut self, key: Key, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) {
        self.readers.push(Reader { key, stdout, stderr });
    }

    /// Closes a reader's pipes.
    pub fn remove_reader(&mut self, key: Key) {
        self.readers.retain(|reader| reader.key != key);
    }

    /// Readers that were let go since this was asked last.
    pub fn take_let_go(&mut self) -> Vec<(Key, AttachEnd)> {
        std::mem::take(&mut self.let_go)
    }

    /// Takes a stream in, which must not block.
    pub fn read_from(&mut self, stream: Stream, fd: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        *self.place(stream) = Some(Source { fd, encoder: Encoder::new(stream) });
        Ok(())
    }

    /// Reads once and logs what came.
    pub fn pump(&mut self, stream: Stream, scratch: &mut Scratch) -> Pumped {
        let place = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(source) = place else { return Pumped::End };
        scratch.chunk.clear();
        let count = match rustix::io::read(&source.fd, spare_capacity(&mut scratch.chunk)) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Pumped::Nothing,
            // A terminal whose last process is gone says EIO; whatever else it is, nothing more will come.
            Err(_) => 0,
        };
        let let_go = &mut self.let_go;
        self.readers.retain(|reader| match reader.copy(stream, &scratch.chunk[..count]) {
            Ok(()) => true,
            Err(why) => {
                let_go.push((reader.key, why));
                false
            }
        });
        let now = clock_gettime(ClockId::Realtime);
        let stamp =
            scratch.stamper.stamp(Time::new(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0)));
        let records = &mut scratch.records;
        if count == 0 {
            source.encoder.finish(stamp, records);
            *place = None;
            for reader in &mut self.readers {
                match stream {
                    Stream::Stdout => reader.stdout = None,
                    Stream::Stderr => reader.stderr = None,
                }
            }
        } else if self.log.is_wanted() {
            let mut rest = &scratch.chunk[..count];
            loop {
                rest = source.encoder.encode(stamp, rest, records);
                if rest.is_empty() {
                    break;
                }
                self.log.append_within_limits(records, uptime);
                records.clear();
            }
        }
        if !records.is_empty() {
            self.log.append_within_limits(records, uptime);
            records.clear();
        }
        if count == 0 { Pumped::End } else { Pumped::Some }
    }

    /// Reads what is in both streams now. A process that has ended has written all that it ever will;
    /// if others hold its streams and go on, this stops after [`DRAIN_CHUNKS`].
    pub fn drain(&mut self, scratch: &mut Scratch) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            for _ in 0..DRAIN_CHUNKS {
                if self.pump(stream, scratch) != Pumped::Some {
                    break;
                }
            }
        }
    }

    fn place(&mut self, stream: Stream) -> &mut Option<Source> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

/// The time of a clock that never goes back.
fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
}
