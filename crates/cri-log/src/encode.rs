//! From a stream's bytes to records: the monitor's hot path.

use memchr::memchr;

use crate::record::{HEADER_BYTES, MAX_CONTENT, MAX_RECORD, Stream, Tag};
use crate::stamp::Stamp;

/// Encodes one stream of one container.
///
/// Between calls it keeps the beginning of a line that has not ended, up to [`MAX_CONTENT`] bytes,
/// and no heap memory at all where there is none.
///
/// ```
/// use cri_log::{Encoder, Stamp, Stream, Time};
///
/// let stamp = Stamp::of(Time::new(1_475_713_029, 669_794_202));
/// let (mut encoder, mut out) = (Encoder::new(Stream::Stdout), Vec::with_capacity(64 << 10));
/// assert!(encoder.encode(&stamp, b"hello\nwor", &mut out).is_empty());
/// encoder.finish(&stamp, &mut out);
/// assert_eq!(
///     String::from_utf8_lossy(&out),
///     "2016-10-06T00:17:09.669794202Z stdout F hello\n\
///      2016-10-06T00:17:09.669794202Z stdout P wor\n",
/// );
/// ```
#[derive(Debug)]
pub struct Encoder {
    stream: Stream,
    /// The beginning of the line that has not ended.
    pending: Vec<u8>,
}

type Header = [u8; HEADER_BYTES];

impl Encoder {
    /// An encoder for the beginning of a stream.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// The stream that it was made for.
    #[must_use]
    pub const fn stream(&self) -> Stream {
        self.stream
    }

    /// How many bytes of a line that has not ended are kept.
    #[must_use]
    pub const fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Appends to `out` the records that `chunk`, the stream's next bytes, completes, all with the
    /// time `stamp`. Returns the part of `chunk` that is still to be encoded: empty, unless `out` is
    /// full.
    ///
    /// `out` never grows: where its capacity is too small for the next record, the rest of `chunk`
    /// is returned, so that a chunk of empty lines, 41 times its size as records, cannot take
    /// memory by surprise. The caller then writes `out` away, clears it and calls again with that
    /// rest. Only an empty `out` that cannot hold even one record is given room for one.
    #[must_use = "the rest is to be encoded when there is room"]
    pub fn encode<'c>(&mut self, stamp: &Stamp, chunk: &'c [u8], out: &mut Vec<u8>) -> &'c [u8] {
        let full = header(stamp, self.stream, Tag::Full);
        let mut rest = chunk;
        while !rest.is_empty() {
            let room = MAX_CONTENT - self.pending.len();
            // One byte more than fits: only then is a line known to be too long.
            let window = &rest[..rest.len().min(room + 1)];
            let written = match memchr(b'\n', window) {
                Some(end) => self.write(&full, &rest[..end], out).then_some(end + 1),
                None if window.len() > room => {
                    let partial = header(stamp, self.stream, Tag::Partial);
                    self.write(&partial, &rest[..room], out).then_some(room)
                }
                None => {
                    self.pending.extend_from_slice(rest);
                    Some(rest.len())
                }
            };
            match written {
                Some(count) => rest = &rest[count..],
                None => break,
            }
        }
        rest
    }

    /// Appends to `out` what is left at the end of the stream: a line without newline becomes a
    /// piece. Unlike [`Self::encode`] it takes the room that it needs, at most [`MAX_RECORD`] bytes.
    pub fn finish(&mut self, stamp: &Stamp, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            let partial = header(stamp, self.stream, Tag::Partial);
            out.reserve(HEADER_BYTES + self.pending.len() + 1);
            self.write(&partial, &[], out);
        }
    }

    /// Appends one record of what is pending and `content`; false, and nothing done, where `out` is full.
    #[inline]
    fn write(&mut self, header: &Header, content: &[u8], out: &mut Vec<u8>) -> bool {
        let size = HEADER_BYTES + self.pending.len() + content.len() + 1;
        if out.capacity() - out.len() < size {
            if !out.is_empty() {
                return false;
            }
            out.reserve_exact(MAX_RECORD);
        }
        out.extend_from_slice(header);
        if !self.pending.is_empty() {
            out.append(&mut self.pending);
            self.pending = Vec::new();
        }
        out.extend_from_slice(content);
        out.push(b'\n');
        true
    }
}

fn header(stamp: &Stamp, stream: Stream, tag: Tag) -> Header {
    let mut header = *b"1970-01-01T00:00:00.000000000Z stdout F ";
    header[..stamp.as_bytes().len()].copy_from_slice(stamp.as_bytes());
    header[31..37].copy_from_slice(stream.name().as_bytes());
    header[38] = match tag {
        Tag::Full => b'F',
        Tag::Partial => b'P',
    };
    header
}

#[cfg(test)]
mod tests {
    use crate::time::Time;

    use super::*;

    fn encoded(stream: Stream, chunks: &[&[u8]]) -> Vec<u8> {
        let stamp = Stamp::of(Time::new(0, 7));
        let (mut encoder, mut out) = (Encoder::new(stream), Vec::with_capacity(1 << 20));
        for chunk in chunks {
            assert!(encoder.encode(&stamp, chunk, &mut out).is_empty());
        }
        encoder.finish(&stamp, &mut out);
        out
    }

    #[test]
    fn lines_become_records_however_they_were_cut() {
        let o = "1970-01-01T00:00:00.000000007Z stdout";
        for (chunks, records) in [
            (vec![&b""[..]], String::new()),
            (vec![b"\n"], format!("{o} F \n")),
            (vec![b"a\n"], format!("{o} F a\n")),
            (vec![b"a\nb\n"], format!("{o} F a\n{o} F b\n")),
            (vec![b"a", b"b", b"\n"], format!("{o} F ab\n")),
            (vec![b"a\n\n", b"\nb"], format!("{o} F a\n{o} F \n{o} F \n{o} P b\n")),
            (vec![b"a\r\n"], format!("{o} F a\r\n")),
        ] {
            assert_eq!(encoded(Stream::Stdout, &chunks), records.into_bytes(), "{chunks:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let record = encoded(Stream::Stderr, &[b"\xff\x00\xc3\n"]);
        assert_eq!(record, b"1970-01-01T00:00:00.000000007Z stderr F \xff\x00\xc3\n");
    }

    #[test]
    fn a_line_is_cut_only_when_it_is_longer_than_a_record_holds() {
        for (length, newline, tags) in [
            (MAX_CONTENT, true, "F"),
            (MAX_CONTENT, false, "P"),
            (MAX_CONTENT + 1, true, "PF"),
            (2 * MAX_CONTENT, true, "PF"),
            (2 * MAX_CONTENT, false, "PP"),
            (2 * MAX_CONTENT + 1, true, "PPF"),
        ] {
            let mut line = vec![b'x'; length];
            line.extend(newline.then_some(b'\n'));
            for size in [1, 1000, MAX_CONTENT, MAX_CONTENT + 1, 1 << 20] {
                let chunks: Vec<&[u8]> = line.chunks(size).collect();
                let out = encoded(Stream::Stdout, &chunks);
                let found: String = out
                    .split(|b| *b == b'\n')
                    .filter_map(|r| r.get(38))
                    .map(|b| char::from(*b))
                    .collect();
                assert_eq!(found, tags, "{length} bytes in chunks of {size}");
            }
        }
    }

    #[test]
    fn a_full_buffer_returns_the_rest_and_loses_nothing() {
        let stamp = Stamp::of(Time::EPOCH);
        let chunk = b"\n".repeat(1000);
        let (mut encoder, mut out) = (Encoder::new(Stream::Stdout), Vec::new());
        let (mut rest, mut records, mut rounds) = (&chunk[..], 0, 0);
        while !rest.is_empty() {
            rest = encoder.encode(&stamp, rest, &mut out);
            assert!(out.capacity() <= MAX_RECORD, "it grew to {}", out.capacity());
            records += out.len() / (HEADER_BYTES + 1);
            rounds += 1;
            out.clear();
        }
        assert_eq!(records, 1000);
        assert!(rounds > 1, "the buffer never was full");
    }

    #[test]
    fn nothing_is_kept_between_whole_lines() {
        let stamp = Stamp::of(Time::EPOCH);
        let (mut encoder, mut out) = (Encoder::new(Stream::Stdout), Vec::with_capacity(1 << 16));
        assert!(encoder.encode(&stamp, b"whole\nhalf", &mut out).is_empty());
        assert_eq!(encoder.pending(), 4);
        assert!(encoder.encode(&stamp, b" a line\n", &mut out).is_empty());
        assert_eq!((encoder.pending(), encoder.pending.capacity()), (0, 0));
        assert!(size_of::<Encoder>() <= 32);
    }
}
