//! From a container's pipes or terminal to its log.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use cri_log::{Encoder, Stamper, Stream, Time};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

use crate::log::Log;

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
        Self { chunk: vec![0; CHUNK], records: Vec::with_capacity(RECORDS), stamper: Stamper::new() }
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

/// Both streams of a container and their log.
#[derive(Debug)]
pub struct Output {
    stdout: Option<Source>,
    stderr: Option<Source>,
    pub log: Log,
}

impl Output {
    /// An output without streams yet.
    pub fn new(path: Option<PathBuf>) -> (Self, io::Result<()>) {
        let (log, opened) = Log::open(path);
        (Self { stdout: None, stderr: None, log }, opened)
    }

    /// Takes a stream in, which must not block.
    pub fn attach(&mut self, stream: Stream, fd: OwnedFd) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        *self.place(stream) = Some(Source { fd, encoder: Encoder::new(stream) });
        Ok(())
    }

    /// The descriptor of a stream that has not ended.
    pub fn descriptor(&self, stream: Stream) -> Option<impl AsFd> {
        let source = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        source.as_ref().map(|s| s.fd.as_fd())
    }

    /// Reads once and logs what came.
    pub fn pump(&mut self, stream: Stream, scratch: &mut Scratch) -> Pumped {
        let place = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let Some(source) = place else { return Pumped::End };
        let count = match rustix::io::read(&source.fd, &mut scratch.chunk[..]) {
            Ok(count) => count,
            Err(Errno::AGAIN | Errno::INTR) => return Pumped::Nothing,
            // A terminal whose last process is gone says EIO; whatever else it is, nothing more will come.
            Err(_) => 0,
        };
        let now = clock_gettime(ClockId::Realtime);
        let stamp = scratch.stamper.stamp(Time::new(now.tv_sec, u32::try_from(now.tv_nsec).unwrap_or(0)));
        let records = &mut scratch.records;
        if count == 0 {
            source.encoder.finish(stamp, records);
            *place = None;
        } else if self.log.is_wanted() {
            let mut rest = &scratch.chunk[..count];
            loop {
                rest = source.encoder.encode(stamp, rest, records);
                if rest.is_empty() {
                    break;
                }
                self.log.append(records);
                records.clear();
            }
        }
        if !records.is_empty() {
            self.log.append(records);
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
