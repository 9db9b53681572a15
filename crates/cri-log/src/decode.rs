//! From a log's bytes to records.

use memchr::memchr;

use crate::record::{Record, Stream, Tag};
use crate::time::Time;

/// Why a line of a log is not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// It does not begin with a time and a space.
    #[error("{found:?} is not a time such as 2016-10-06T00:17:09.669794202Z")]
    Time {
        /// What stands there, cut after 40 characters.
        found: String,
    },
    /// Neither `stdout` nor `stderr` and a space follow the time.
    #[error("{found:?} is not a stream (stdout or stderr)")]
    Stream {
        /// What stands there, cut after 40 characters.
        found: String,
    },
    /// Neither `F` nor `P` and a space follow the stream.
    #[error("{found:?} is not a tag (F or P)")]
    Tag {
        /// What stands there, cut after 40 characters.
        found: String,
    },
    /// The log ends within it.
    #[error("the log ends in the middle of a record, after {bytes} bytes of it")]
    Unfinished {
        /// How many bytes of it there are.
        bytes: usize,
    },
}

impl<'a> Record<'a> {
    /// The record that `line` is; `line` comes without its newline.
    ///
    /// The format is taken exactly, with two things that other writers do: the time may be in any
    /// form of RFC 3339, and the tag may be followed by `:` and more tags, which mean nothing here.
    ///
    /// # Errors
    /// [`BadRecord`], never `Unfinished`.
    pub fn parse(line: &'a [u8]) -> Result<Self, BadRecord> {
        let (time, rest) = word(line);
        let time = Time::parse(time).map_err(|_| BadRecord::Time { found: shown(time) })?;
        let (stream, rest) = word(rest.unwrap_or_default());
        let stream = match stream {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            other => return Err(BadRecord::Stream { found: shown(other) }),
        };
        let (tags, content) = word(rest.unwrap_or_default());
        let tag = match (tags, content) {
            ([b'F'] | [b'F', b':', ..], Some(_)) => Tag::Full,
            ([b'P'] | [b'P', b':', ..], Some(_)) => Tag::Partial,
            (other, _) => return Err(BadRecord::Tag { found: shown(other) }),
        };
        Ok(Self { time, stream, tag, content: content.unwrap_or_default() })
    }
}

/// What stands before the first space, and what after it, where there is one.
fn word(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b' ', text) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..160).unwrap_or(bytes)).chars().take(40).collect()
}

/// The records in a part of a log that begins with a record.
///
/// A line that is not a record is an error, and the next line is tried. What follows the last
/// newline is not a record yet: [`Self::rest`] has it.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// The records in `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The bytes that were not looked at yet; after the last record, the beginning of one whose end
    /// is still to come.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = memchr(b'\n', self.rest)?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(Record::parse(line))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_taken_apart() {
        let record =
            Record::parse(b"2016-10-06T00:17:09.669794202Z stderr P two  words \r").unwrap();
        assert_eq!(record.time, Time::new(1_475_713_029, 669_794_202));
        assert_eq!((record.stream, record.tag), (Stream::Stderr, Tag::Partial));
        assert_eq!(record.content, b"two  words \r");
    }

    #[test]
    fn what_other_writers_do_is_understood() {
        for (line, tag, content) in [
            (&b"2016-10-06T02:17:09.6+02:00 stdout F x"[..], Tag::Full, &b"x"[..]),
            (b"2016-10-06T00:17:09Z stdout F:more:tags x", Tag::Full, b"x"),
            (b"2016-10-06T00:17:09Z stdout P: ", Tag::Partial, b""),
        ] {
            let record = Record::parse(line).unwrap();
            assert_eq!((record.tag, record.content), (tag, content));
        }
    }

    #[test]
    fn an_error_says_which_part_is_wrong() {
        let time = |found: &str| BadRecord::Time { found: found.to_owned() };
        let stream = |found: &str| BadRecord::Stream { found: found.to_owned() };
        let tag = |found: &str| BadRecord::Tag { found: found.to_owned() };
        for (line, error) in [
            ("", time("")),
            ("hello world", time("hello")),
            ("2016-10-06T00:17:09Z", stream("")),
            ("2016-10-06T00:17:09Z stdin F x", stream("stdin")),
            ("2016-10-06T00:17:09Z  stdout F x", stream("")),
            ("2016-10-06T00:17:09Z stdout", tag("")),
            ("2016-10-06T00:17:09Z stdout F", tag("F")),
            ("2016-10-06T00:17:09Z stdout f x", tag("f")),
            ("2016-10-06T00:17:09Z stdout FF x", tag("FF")),
        ] {
            assert_eq!(Record::parse(line.as_bytes()), Err(error), "{line:?}");
        }
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next_and_the_rest_is_kept() {
        let log = b"nonsense\n2016-10-06T00:17:09Z stdout F x\n2016-10-06T00:17:09Z std";
        let mut records = Records::new(log);
        assert!(records.next().unwrap().is_err());
        assert_eq!(records.next().unwrap().unwrap().content, b"x");
        assert_eq!(records.next(), None);
        assert_eq!(records.rest(), b"2016-10-06T00:17:09Z std");
    }

    proptest! {
        #[test]
        fn any_bytes_give_as_many_answers_as_they_have_newlines(bytes: Vec<u8>) {
            let newlines = bytes.iter().filter(|b| **b == b'\n').count();
            prop_assert_eq!(Records::new(&bytes).count(), newlines);
        }
    }
}
