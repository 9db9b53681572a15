//! A container's log on disk.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;

use cri_log::{Encoder, Stamp, Stream, Time};

use crate::fault::{Fault, Faults};

/// The log of one container; nothing at all where it has no path.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    encoders: [Encoder; 2],
    /// The last record, for a fault.
    last: Vec<u8>,
}

impl Log {
    /// A log at `path`; an empty one is none.
    pub(crate) fn open(path: PathBuf) -> std::io::Result<Self> {
        let mut log = Self {
            path,
            file: None,
            encoders: [Encoder::new(Stream::Stdout), Encoder::new(Stream::Stderr)],
            last: Vec::new(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Goes on in the file that is at the path now.
    pub(crate) fn reopen(&mut self) -> std::io::Result<()> {
        if !self.path.as_os_str().is_empty() {
            self.file = Some(OpenOptions::new().create(true).append(true).open(&self.path)?);
        }
        Ok(())
    }

    pub(crate) fn repeat_last(&mut self) {
        let last = self.last.clone();
        self.put(&last);
    }

    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8], faults: &Faults) {
        let stream = if faults.has(Fault::LogStderrLost) { Stream::Stdout } else { stream };
        if faults.has(Fault::LogUncut) {
            let head = format!("{} {stream} F ", stamp().as_str());
            return self.put(&[head.as_bytes(), bytes].concat());
        }
        let mut out = Vec::with_capacity(64 << 10);
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.encoder(stream).encode(&stamp(), rest, &mut out);
            self.put(&out);
            if faults.has(Fault::LogRepeats) {
                self.put(&out);
            }
            out.clear();
        }
    }

    /// What was said without a line break is written at the end.
    pub(crate) fn finish(&mut self, faults: &Faults) {
        if faults.has(Fault::LogEndLost) {
            return;
        }
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut out = Vec::new();
            self.encoder(stream).finish(&stamp(), &mut out);
            self.put(&out);
        }
    }

    fn encoder(&mut self, stream: Stream) -> &mut Encoder {
        match stream {
            Stream::Stdout => &mut self.encoders[0],
            Stream::Stderr => &mut self.encoders[1],
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        bytes.clone_into(&mut self.last);
        if let Some(file) = &mut self.file {
            // A log that cannot be written stops nothing.
            let _ = file.write_all(bytes);
        }
    }
}

fn stamp() -> Stamp {
    Stamp::of(Time::from_nanoseconds(crate::world::now()))
}
