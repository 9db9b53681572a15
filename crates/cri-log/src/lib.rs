//! CRI log records: encode, decode, follow.
//!
//! A record is a line of a container's output with its time, its stream and a tag:
//!
//! ```text
//! 2016-10-06T00:17:09.669794202Z stdout F The content of the log entry
//! ```
//!
//! The tag is `F` for the end of a line and `P` for a piece whose line goes on: a line longer than
//! [`MAX_CONTENT`] is cut, and what a stream says last without a newline is a piece too. Content is
//! bytes, kept as they are; it can be anything but a newline.
//!
//! Owns: the format, for writing, reading and following.
//! Always: what [`Encoder`] writes, [`Records`] reads back byte for byte, however the stream was cut
//! into chunks; no input makes a reader panic or use memory beyond one record and one block.
//! Callers: `isopod-monitor` writes; the command line and the conformance suite read.

mod decode;
mod encode;
mod follow;
mod record;
mod seek;
mod stamp;
mod time;
mod watch;

pub use decode::{BadRecord, Records};
pub use encode::Encoder;
pub use follow::{Follower, Step};
pub use record::{HEADER_BYTES, MAX_CONTENT, MAX_RECORD, Record, Stream, Tag};
pub use seek::{ReadAt, since, tail};
pub use stamp::{Stamp, Stamper};
pub use time::{BadTime, Time};
pub use watch::Watch;
