//! A container's log, taken apart.

use std::path::Path;

use cri_log::{Record, Records, Stream};

use crate::case::Stop;

/// The bytes of a log whose every line is a record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    bytes: Vec<u8>,
}

impl Log {
    /// Reads a log that must be there.
    pub(crate) fn read(path: &Path) -> Result<Self, Stop> {
        let bytes = std::fs::read(path)
            .map_err(|error| Stop::failed(format!("the log {}: {error}", path.display())))?;
        let log = Self { bytes };
        for record in Records::new(&log.bytes) {
            record.map_err(|error| {
                Stop::failed(format!("{} has a line that is no record: {error}", path.display()))
            })?;
        }
        Ok(log)
    }

    pub(crate) fn records(&self) -> Vec<Record<'_>> {
        Records::new(&self.bytes).filter_map(Result::ok).collect()
    }

    /// The bytes that the container wrote, both streams as they came.
    pub(crate) fn written(&self) -> Vec<u8> {
        self.of(&[Stream::Stdout, Stream::Stderr])
    }

    /// The bytes that the container wrote to one stream.
    pub(crate) fn stream(&self, stream: Stream) -> String {
        String::from_utf8_lossy(&self.of(&[stream])).into_owned()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.written()).into_owned()
    }

    fn of(&self, streams: &[Stream]) -> Vec<u8> {
        let records = self.records();
        let ours = records.iter().filter(|record| streams.contains(&record.stream));
        ours.flat_map(|record| [record.content, record.end()].concat()).collect()
    }
}
