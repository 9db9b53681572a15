//! SPDY/3.1 (draft-mbelshe-httpbis-spdy-00 and its 3.1 amendment), as far as streams need it.
//!
//! `frame` and `headers` are pure; `reading` and `writing` move bytes, `connection` is what they share.

mod connection;
mod dictionary;
mod frame;
mod headers;
mod reading;
mod stream;
mod window;
mod writing;

pub use connection::{Connection, Limits, Opener, Over, Role};
pub use frame::{BadFrame, Decoder, Frame, MAX_CONTROL, MAX_DATA};
pub use headers::{BadHeaders, Compressor, Decompressor, Headers};
pub use stream::{Reader, Stream, Writer};
