//! A container's log file: what cannot be written is counted, and never stops the container.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Readable for whoever is in the log directory's group; the kubelet reads as root.
const MODE: u32 = 0o640;

/// Where records go.
#[derive(Debug)]
pub struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    /// Records that could not be written since the beginning.
    pub lost: u64,
}

impl Log {
    /// Opens the log at `path`; with no path, or one that cannot be opened, everything is lost and counted.
    pub fn open(path: Option<PathBuf>) -> (Self, io::Result<()>) {
        let mut log = Self { path, file: None, lost: 0 };
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

    /// Appends whole records. A file that takes only a part is cut back to the last record that it took whole.
    pub fn append(&mut self, records: &[u8]) {
        let Some(file) = &mut self.file else {
            self.lost += lines(records);
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
        if written < records.len() {
            let whole = records[..written].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            self.lost += lines(&records[whole..]);
            let torn = (written - whole) as u64;
            // If it cannot be cut back, the next reader finds one bad record.
            let _ = file.metadata().and_then(|m| file.set_len(m.len().saturating_sub(torn)));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let options = || {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(MODE).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
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

fn lines(records: &[u8]) -> u64 {
    records.iter().filter(|b| **b == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_on_in_the_file_that_has_the_name_after_a_rotation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/0.log");
        let (mut log, opened) = Log::open(Some(path.clone()));
        opened.unwrap();
        log.append(b"one\n");
        std::fs::rename(&path, dir.path().join("old")).unwrap();
        log.append(b"two\n");
        log.reopen().unwrap();
        log.append(b"three\n");
        assert_eq!(std::fs::read(dir.path().join("old")).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
        assert_eq!(log.lost, 0);
    }

    #[test]
    fn what_has_no_place_is_counted() {
        let (mut log, _) = Log::open(None);
        log.append(b"a\nb\n");
        assert_eq!(log.lost, 2);
        let (mut log, opened) = Log::open(Some("/proc/no/such/place".into()));
        assert!(opened.is_err());
        log.append(b"a\n");
        assert_eq!(log.lost, 1);
    }
}
