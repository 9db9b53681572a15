//! The audit log: one JSON object in a line for each call that goes into a pod.
//!
//! Owns: the file and the thread that writes it. Always: no call waits for the disk; what could not be
//! written is counted and said in the daemon's log; a file that was moved away is left alone after SIGHUP.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use cri_log::{Stamp, Time};
use cri_server::{Audit, AuditRecord};
use serde_json::Value;

/// Lines that may wait for the disk. One more is lost, counted and said.
const LINES_AHEAD: usize = 4096;

enum Word {
    Line(Vec<u8>),
    Reopen,
}

/// The log.
#[derive(Debug)]
pub struct AuditLog {
    to: Mutex<Option<SyncSender<Word>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lost: Arc<AtomicU64>,
}

impl AuditLog {
    /// Opens `path`, and begins to write.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let (to, from) = sync_channel(LINES_AHEAD);
        let lost = Arc::new(AtomicU64::new(0));
        let (path, counted) = (path.to_owned(), Arc::clone(&lost));
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .stack_size(128 << 10)
            .spawn(move || write(&path, file, &from, &counted))?;
        Ok(Self { to: Mutex::new(Some(to)), writer: Mutex::new(Some(writer)), lost })
    }

    /// Goes on in a new file where the old one was moved away.
    pub fn reopen(&self) {
        self.say(Word::Reopen);
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Writes what is left. Blocks on the disk.
    pub fn close(&self) {
        drop(self.to.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has nothing left to write.
            let _ = writer.join();
        }
    }

    fn say(&self, word: Word) {
        let to = self.to.lock().unwrap_or_else(PoisonError::into_inner);
        let said = to.as_ref().map(|to| to.try_send(word));
        drop(to);
        if !matches!(said, Some(Ok(()))) {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::error!(lost, "the audit log is too slow: a line is lost");
        }
    }
}

impl Audit for AuditLog {
    fn record(&self, record: &AuditRecord) {
        self.say(Word::Line(line(record, SystemTime::now())));
    }
}

fn line(record: &AuditRecord, at: SystemTime) -> Vec<u8> {
    let at = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let at = Time::from_nanoseconds(i64::try_from(at).unwrap_or(i64::MAX));
    let mut object = serde_json::Map::new();
    object.insert("at".to_owned(), Value::String(Stamp::of(at).as_str().to_owned()));
    if let Ok(Value::Object(fields)) = serde_json::to_value(record) {
        object.extend(fields);
    }
    let mut line = Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

fn write(path: &Path, mut file: File, from: &Receiver<Word>, lost: &AtomicU64) {
    for word in from {
        let done = match word {
            Word::Line(line) => {
                let written = file.write_all(&line);
                if written.is_err() {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                written
            }
            Word::Reopen => open(path).map(|new| file = new),
        };
        if let Err(error) = done {
            tracing::error!(%error, path = ?path, "the audit log cannot be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(call: &'static str) -> AuditRecord {
        AuditRecord { call, pid: Some(7), ports: vec![80], ..AuditRecord::default() }
    }

    fn calls(path: &Path) -> Vec<String> {
        let text = std::fs::read_to_string(path).unwrap();
        let call = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap();
            assert!(value["at"].as_str().unwrap().ends_with('Z'));
            value["call"].as_str().unwrap().to_owned()
        };
        text.lines().map(call).collect()
    }

    #[test]
    fn a_log_that_is_moved_away_goes_on_in_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("audit.log"), directory.path().join("1"));
        let log = AuditLog::open(&path).unwrap();
        log.record(&record("Exec"));
        std::fs::rename(&path, &moved).unwrap();
        log.record(&record("Attach"));
        log.reopen();
        log.record(&record("PortForward"));
        log.close();
        // The first two were perhaps written before and after the move; both are in the old file.
        assert_eq!(calls(&moved), ["Exec", "Attach"]);
        assert_eq!(calls(&path), ["PortForward"]);
        assert_eq!(log.lost(), 0);
        log.record(&record("Exec"));
        assert_eq!(log.lost(), 1, "a closed log says what it loses");
    }
}
