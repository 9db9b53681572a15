//! Where in a log to begin: found without reading all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use memchr::{memchr, memchr_iter, memrchr_iter};

use crate::time::Time;

/// Bytes that can be read from any place.
pub trait ReadAt {
    /// Reads from `offset` into `buffer`; returns how many bytes, 0 only at the end.
    ///
    /// # Errors
    /// Those of pread(2).
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Bytes that are read at once.
const BLOCK: usize = 64 << 10;
/// Bytes in which a record's time, stream and tag stand.
const HEAD: usize = 64;

/// The offset at which the last `lines` lines begin, of a log of `end` bytes. 0 where it has fewer.
///
/// A line is a full record with the pieces right before it; pieces at the end of the log, whose line
/// has not ended, count as one. Reads backwards from the end, and only as far as needed.
///
/// # Errors
/// Those of reading; `UnexpectedEof` where the log is shorter than `end`.
pub fn tail<R: ReadAt + ?Sized>(log: &R, end: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(end);
    }
    let mut buffer = vec![0; BLOCK + HEAD];
    let mut backwards = Backwards { lines, counted: 0, begin: None };
    let (mut high, mut filled) = (end, 0);
    while high > 0 {
        let low = high.saturating_sub(BLOCK as u64);
        let size = usize::try_from(high - low).unwrap_or(BLOCK);
        // A record that begins at this block's end has its head in the block after it.
        let after = filled.min(HEAD);
        buffer.copy_within(..after, size);
        read_all(log, &mut buffer[..size], low)?;
        filled = size + after;
        for newline in memrchr_iter(b'\n', &buffer[..size]) {
            let begin = newline + 1;
            if let Some(found) = backwards.record(low + begin as u64, &buffer[begin..filled]) {
                return Ok(found);
            }
        }
        high = low;
    }
    Ok(backwards.record(0, &buffer[..filled]).unwrap_or(0))
}

/// Counts lines from the last to the first.
struct Backwards {
    lines: u64,
    counted: u64,
    /// Where the record begins that was seen last; `None` before the log's last newline is seen.
    begin: Option<u64>,
}

impl Backwards {
    /// Takes the beginning of a record, and what stands there. Returns where to begin, once known.
    fn record(&mut self, begin: u64, head: &[u8]) -> Option<u64> {
        let Some(after) = self.begin.replace(begin) else {
            return None; // What follows the last newline is not a record yet.
        };
        if self.counted == 0 {
            self.counted = 1; // Whatever it is, the last record ends the last line.
        } else if ends_line(head) {
            if self.counted == self.lines {
                return Some(after);
            }
            self.counted += 1;
        }
        None
    }
}

/// Whether the record that begins with `head` has tag `F`. What is not a record is a line, too.
fn ends_line(head: &[u8]) -> bool {
    let mut spaces = memchr_iter(b' ', &head[..head.len().min(HEAD)]);
    spaces.nth(1).is_none_or(|at| head.get(at + 1) != Some(&b'P'))
}

/// The offset of the first record that is not older than `time`, in a log of `end` bytes; `end`
/// where all are older.
///
/// Looks at about twenty places of a log of any size. That takes times to ascend, as they do unless
/// the clock was set back; then the answer can be a later one of the places where `time` passes.
///
/// # Errors
/// Those of reading.
pub fn since<R: ReadAt + ?Sized>(log: &R, end: u64, time: Time) -> io::Result<u64> {
    let mut buffer = vec![0; BLOCK];
    let first = log.read_at(&mut buffer, 0)?;
    if time_at(&buffer[..first]).is_some_and(|found| found >= time) {
        return Ok(0);
    }
    // The record at `low` is older, or is none; the one looked for begins after it.
    let (mut low, mut high) = (0, end);
    while high - low > BLOCK as u64 {
        let middle = low + (high - low) / 2;
        match find(log, &mut buffer, middle..high, |_| true)? {
            Some((begin, found)) if found < time => low = begin,
            Some(_) | None => high = middle,
        }
    }
    let found = find(log, &mut buffer, low..end, |found| found >= time)?;
    Ok(found.map_or(end, |(begin, _)| begin))
}

/// The first record that begins after a newline in `range` and whose time is wanted: offset and time.
fn find<R: ReadAt + ?Sized>(
    log: &R,
    buffer: &mut [u8],
    range: std::ops::Range<u64>,
    wanted: impl Fn(Time) -> bool,
) -> io::Result<Option<(u64, Time)>> {
    let mut at = range.start;
    while at < range.end {
        let count = log.read_at(buffer, at)?;
        let block = &buffer[..count];
        let mut next = at + count as u64;
        for newline in memchr_iter(b'\n', block) {
            let begin = newline + 1;
            if at + begin as u64 >= range.end {
                return Ok(None);
            }
            if block.len() - begin < HEAD && count == buffer.len() {
                next = at + newline as u64; // Its head is in the next block: begin that here.
                break;
            }
            match time_at(&block[begin..]) {
                Some(time) if wanted(time) => return Ok(Some((at + begin as u64, time))),
                Some(_) | None => {}
            }
        }
        if count == 0 {
            break;
        }
        at = next;
    }
    Ok(None)
}

fn time_at(head: &[u8]) -> Option<Time> {
    let head = &head[..head.len().min(HEAD)];
    Time::parse(&head[..memchr(b' ', head)?]).ok()
}

fn read_all<R: ReadAt + ?Sized>(log: &R, mut buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut at = offset;
    while !buffer.is_empty() {
        match log.read_at(buffer, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                at += count as u64;
                buffer = &mut buffer[count..];
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use crate::decode::Records;
    use crate::record::Tag;

    use super::*;

    /// A log that counts what is read of it.
    struct Counted<'a>(&'a [u8], Cell<usize>);

    impl ReadAt for Counted<'_> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let count = self.0.read_at(buffer, offset)?;
            self.1.set(self.1.get() + count);
            Ok(count)
        }
    }

    /// One record a second, of these tags and lengths.
    fn log(records: &[(char, usize)]) -> Vec<u8> {
        let mut log = Vec::new();
        for (second, (tag, length)) in (0..).zip(records) {
            let line = format!("{} stdout {tag} {}\n", Time::new(second, 0), "x".repeat(*length));
            log.extend_from_slice(line.as_bytes());
        }
        log
    }

    /// The same by reading all of it: where the last `lines` lines begin.
    fn tail_by_counting(log: &[u8], lines: usize) -> u64 {
        let (mut begins, mut open) = (Vec::new(), false);
        let mut records = Records::new(log);
        loop {
            let begin = (log.len() - records.rest().len()) as u64;
            let Some(record) = records.next() else { break };
            if !open {
                begins.push(begin);
            }
            open = record.is_ok_and(|r| r.tag == Tag::Partial);
        }
        match lines {
            0 => log.len() as u64,
            _ => begins.get(begins.len().saturating_sub(lines)).copied().unwrap_or(0),
        }
    }

    #[test]
    fn tail_counts_lines_and_not_pieces() {
        let log = log(&[('F', 1), ('P', 2), ('P', 3), ('F', 4), ('F', 5), ('P', 6)]);
        let begins: Vec<usize> =
            std::iter::once(0).chain(memchr_iter(b'\n', &log).map(|at| at + 1)).collect();
        for (lines, record) in [(0, 6), (1, 5), (2, 4), (3, 1), (4, 0), (5, 0)] {
            let found = tail(&log[..], log.len() as u64, lines).unwrap();
            assert_eq!(found, begins[record] as u64, "{lines} lines");
        }
    }

    #[test]
    fn tail_reads_only_the_end_of_a_long_log() {
        let log = log(&vec![('F', 100); 50_000]);
        let counted = Counted(&log, Cell::new(0));
        let begin = tail(&counted, log.len() as u64, 10).unwrap();
        assert_eq!(begin, (log.len() - log.len() / 50_000 * 10) as u64);
        assert!(counted.1.get() <= BLOCK, "{} bytes read", counted.1.get());
    }

    #[test]
    fn since_looks_at_few_places_of_a_long_log() {
        let log = log(&vec![('F', 100); 50_000]);
        let size = log.len() / 50_000;
        for second in [0, 1, 777, 25_000, 49_999, 50_000] {
            let counted = Counted(&log, Cell::new(0));
            let begin = since(&counted, log.len() as u64, Time::new(second, 0)).unwrap();
            assert_eq!(begin, size as u64 * second.unsigned_abs(), "second {second}");
            assert!(counted.1.get() <= 12 * BLOCK, "{} bytes read", counted.1.get());
        }
    }

    #[test]
    fn a_log_that_is_shorter_than_said_is_an_error() {
        let error = tail(&b"abc\n"[..], 1000, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    fn records() -> impl Strategy<Value = Vec<(char, usize)>> {
        let length = prop_oneof![0..100_usize, 15_000..17_000_usize];
        prop::collection::vec((prop_oneof![Just('F'), Just('P')], length), 0..40)
    }

    proptest! {
        #[test]
        fn tail_finds_what_counting_finds(records in records(), lines in 0..45_usize, cut in 0..60_usize) {
            let mut log = log(&records);
            log.truncate(log.len().saturating_sub(cut));
            let found = tail(&log[..], log.len() as u64, lines as u64).unwrap();
            prop_assert_eq!(found, tail_by_counting(&log, lines));
        }

        #[test]
        fn since_finds_the_record_of_that_second(records in records(), second in 0..45_usize) {
            let log = log(&records);
            let found = since(&log[..], log.len() as u64, Time::new(second as i64, 0)).unwrap();
            let before = Records::new(&log[..usize::try_from(found).unwrap()]).count();
            prop_assert_eq!(before, second.min(records.len()));
        }

        #[test]
        fn any_bytes_give_an_offset_in_them(bytes: Vec<u8>, lines: u8, second in 0..4_000_000_000_i64) {
            let end = bytes.len() as u64;
            prop_assert!(tail(&bytes[..], end, lines.into()).unwrap() <= end);
            prop_assert!(since(&bytes[..], end, Time::new(second, 0)).unwrap() <= end);
        }
    }
}
