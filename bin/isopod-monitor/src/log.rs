//! A container's log file: what cannot be written is counted, and never stops the container.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use monitor_api::{LogLimits, LogTotals};

/// Readable for whoever is in the log directory's group; the kubelet reads as root.
const MODE: u32 = 0o640;

/// Where records go.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    /// What became of records since the beginning.
    pub totals: LogTotals,
    limits: Limits,
}

/// A bucket that fills with a second's bytes in a second, and what is left of the whole.
#[derive(Debug)]
struct Limits {
    rate: Option<u64>,
    bucket: u64,
    filled_at: Duration,
    left: Option<u64>,
}

impl Limits {
    const fn new(given: LogLimits) -> Self {
        let bucket = match given.bytes_per_second {
            Some(rate) => rate,
            None => 0,
        };
        Self {
            rate: given.bytes_per_second,
            bucket,
            filled_at: Duration::ZERO,
            left: given.total_bytes,
        }
    }

    const fn are_set(&self) -> bool {
        self.rate.is_some() || self.left.is_some()
    }

    fn fill(&mut self, now: Duration) {
        let Some(rate) = self.rate else { return };
        let since = now.saturating_sub(self.filled_at).min(Duration::from_secs(1));
        let more = u128::from(rate) * since.as_micros() / 1_000_000;
        // A time too short for a byte is not lost.
        if more > 0 {
            self.bucket = self.bucket.saturating_add(u64::try_from(more).unwrap_or(rate)).min(rate);
            self.filled_at = now;
        }
    }

    /// Takes room for `length` bytes, all or nothing.
    fn take(&mut self, length: u64) -> bool {
        let has_rate = self.rate.is_none() || self.bucket >= length;
        let has_rest = self.left.is_none_or(|left| left >= length);
        if has_rate && has_rest {
            self.bucket = self.bucket.saturating_sub(length);
            self.left = self.left.map(|left| left - length);
        }
        has_rate && has_rest
    }
}

impl Log {
    /// Opens the log at `path`; with no path, or one that cannot be opened, everything is lost and counted.
    pub fn open(path: Option<PathBuf>, limits: LogLimits) -> (Self, io::Result<()>) {
        let totals = LogTotals::default();
        let mut log = Self { path, file: None, totals, limits: Limits::new(limits) };
        let opened = log.reopen();
        (log, opened)
    }

    /// Closes the file and opens the one that has its name now. On an error the old one goes on.
    pub fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            self.file = Some(open(path)?);
        }
        Ok(())
    }

    /// Whether there is a place for records at all.
    pub const fn is_wanted(&self) -> bool {
        self.path.is_some()
    }

    /// Appends those of the records that the limits let pass at the time `now` of a clock that never goes back.
    pub fn append_within_limits(&mut self, records: &[u8], now: impl FnOnce() -> Duration) {
        if !self.limits.are_set() {
            return self.append(records);
        }
        self.limits.fill(now());
        if self.limits.take(records.len() as u64) {
            return self.append(records);
        }
        for record in records.split_inclusive(|b| *b == b'\n') {
            if self.limits.take(record.len() as u64) {
                self.append(record);
            } else {
                self.totals.dropped += 1;
            }
        }
    }

    /// Appends whole records. A file that takes only a part is cut back to the last record that it took whole.
    pub fn append(&mut self, records: &[u8]) {
        let Some(file) = &mut self.file else {
            self.totals.lost += lines(records);
            return;
        };
        let mut written = 0;
        while written < records.len() {
            match file.write(&records[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if written == records.len() {
            count(&mut self.totals, records);
        } else {
            let whole = records[..written].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            count(&mut self.totals, &records[..whole]);
            self.totals.lost += lines(&records[whole..]);
            let torn = (written - whole) as u64;
            // If it cannot be cut back, the next reader finds one bad record.
            let _ = file.metadata().and_then(|m| file.set_len(m.len().saturating_sub(torn)));
        }
    }
}

fn count(totals: &mut LogTotals, written: &[u8]) {
    totals.lines += lines(written);
    totals.bytes += written.len() as u64;
}

fn open(path: &Path) -> io::Result<File> {
    let options = || {
        let mut options = OpenOptions::new();
        options
            .append(true)
            .create(true)
            .mode(MODE)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
        options
    };
    match (options().open(path), path.parent()) {
        (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(parent)?;
            options().open(path)
        }
        (opened, _) => opened,
    }
}

/// In pieces whose count fits a byte: the compiler makes vectors of that, and this is done for every record.
fn lines(records: &[u8]) -> u64 {
    let of_piece = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte == b'\n')).sum::<u8>();
    records.chunks(usize::from(u8::MAX)).map(|piece| u64::from(of_piece(piece))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_on_in_the_file_that_has_the_name_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/0.log");
        let (mut log, opened) = Log::open(Some(path.clone()), LogLimits::default());
        opened.unwrap();
        log.append(b"one\n");
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.append(b"two\n");
        log.reopen().unwrap();
        log.append(b"three\n");
        assert_eq!(std::fs::read(dir.path().join("old")).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        let totals = LogTotals { lines: 3, bytes: 14, ..LogTotals::default() };
        assert_eq!(log.totals, totals);
        assert_eq!(lines(&b"\n".repeat(1000)), 1000);
    }

    #[test]
    fn what_has_no_place_is_counted() {
        let (mut log, _) = Log::open(None, LogLimits::default());
        log.append(b"a\nb\n");
        assert_eq!(log.totals.lost, 2);
        let (mut log, opened) = Log::open(Some("/proc/no/such/place".into()), LogLimits::default());
        assert!(opened.is_err());
        log.append(b"a\n");
        assert_eq!(log.totals.lost, 1);
    }
    #[test]
    fn records_over_the_limits_are_dropped_whole_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let limits = LogLimits { bytes_per_second: Some(10), total_bytes: Some(22) };
        let (mut log, opened) = Log::open(Some(path.clone()), limits);
        opened.unwrap();
        let at = |millis| move || Duration::from_millis(millis);
        log.append_within_limits(b"12345\n12345\n123\n", at(0));
        assert_eq!(
            (std::fs::read(&path).unwrap(), log.totals.dropped),
            (b"12345\n123\n".to_vec(), 1)
        );
        log.append_within_limits(b"1234\n", at(400));
        assert_eq!(log.totals.dropped, 2, "four bytes have come and five are wanted");
        log.append_within_limits(b"1234\n", at(500));
        assert_eq!(log.totals.dropped, 2);
        log.append_within_limits(b"123456789\n", at(10_000));
        log.append_within_limits(b"1\n", at(20_000));
        assert_eq!(log.totals.dropped, 3, "the whole is used up but for seven bytes");
        assert_eq!(log.totals.lost, 0);
    }
}
