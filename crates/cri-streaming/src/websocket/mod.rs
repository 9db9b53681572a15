//! WebSocket (RFC 6455), as far as streams need it: binary and text messages, fragments, pings, closing.
//!
//! `frame` and `handshake` are pure; `socket` moves bytes; `channels` makes streams of messages. A byte stream in
//! binary messages, as tunnelled SPDY needs it, is what [`Receiver::piece`] gives and [`Sender`] takes.

mod channels;
mod frame;
mod handshake;
mod socket;

pub use channels::{
    ChannelBytes, ChannelOutput, ChannelReader, ChannelWriter, Channels, open_channels,
};
pub use frame::{BadFrame, Decoder, Head, Kind, MAX_MESSAGE, Part, Side, encode_head, mask};
pub use handshake::{BadHandshake, accept_key, new_key};
pub use socket::{Piece, Receiver, Sender, split};
