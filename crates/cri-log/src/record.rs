//! What a record consists of.

use std::fmt;

use crate::stamp::STAMP_BYTES;
use crate::time::Time;

/// The most bytes of a line that one record holds: 16 KiB. Longer lines are cut into pieces of
/// this length.
pub const MAX_CONTENT: usize = 16 << 10;

/// Bytes before the content in a record that [`crate::Encoder`] writes.
pub const HEADER_BYTES: usize = STAMP_BYTES + " stdout F ".len();

/// The most bytes of a record that [`crate::Encoder`] writes, its newline included.
pub const MAX_RECORD: usize = HEADER_BYTES + MAX_CONTENT + 1;

/// One of a container's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; with a terminal, both.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The word in a record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether a record ends its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// `F`: a newline followed.
    Full,
    /// `P`: the line goes on in the stream's next record, or the stream ended without a newline.
    Partial,
}

/// One record, as it lies in a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// When it was read from the container.
    pub time: Time,
    /// Where it came from.
    pub stream: Stream,
    /// Whether it ends its line.
    pub tag: Tag,
    /// What the container said, without the newline.
    pub content: &'a [u8],
}

impl Record<'_> {
    /// What follows the content in the container's output: a newline, or nothing.
    #[must_use]
    pub const fn end(&self) -> &'static [u8] {
        match self.tag {
            Tag::Full => b"\n",
            Tag::Partial => b"",
        }
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, stream, tag, content } = self;
        let text = String::from_utf8_lossy(content);
        write!(f, "{time} {stream} {tag:?} {text:?}")
    }
}
