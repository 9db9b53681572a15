//! WebSocket (RFC 6455), as far as streams need it: binary and text messages, fragments, pings, closing.
//!
//! `frame` and `handshake` are pure; `socket` moves bytes; `channels` makes streams of messages.

mod channels;
mod frame;
mod handshake;
mod socket;
mod tunnel;

pub use channels::{
    ChannelBytes, ChannelOutput, ChannelReader, ChannelWriter, Channels, open_channels,
};
pub use frame::{BadFrame, Decoder, Head, Kind, MAX_MESSAGE, Side, encode_head, mask};
pub use handshake::{BadHandshake, accept_key, new_key};
pub use socket::{Message, Receiver, Sender, split};
pub use tunnel::{Tunnel, tunnel};
