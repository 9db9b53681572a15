//! Frames: bytes to messages and back (RFC 6455 section 5). No socket, no clock.

use std::fmt;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The longest message that is taken, in bytes, with all its fragments.
pub const MAX_MESSAGE: usize = 1 << 20;
/// The longest control frame, without its head, which is shorter.
const MAX_CONTROL: usize = 125;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// More of the message before.
    Continuation,
    /// A text message, or its beginning.
    Text,
    /// A binary message, or its beginning.
    Binary,
    /// The last frame of its sender.
    Close,
    /// To be answered by a pong with the same bytes.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    const fn of(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            _ => return None,
        })
    }

    const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The side whose frames are read or written: a client masks, a server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The side that asked for the upgrade.
    Client,
    /// The side that granted it.
    Server,
}

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whether its message ends with it.
    pub fin: bool,
    /// What it is.
    pub kind: Kind,
    /// The mask, from a client.
    pub mask: Option<[u8; 4]>,
    /// Bytes that follow.
    pub length: usize,
}

/// A peer that does not keep to the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A bit that stands for an extension that nobody has asked for.
    #[error("a frame with reserved bits")]
    Reserved,
    /// A kind that is not known.
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    /// A client must mask, a server must not.
    #[error("a frame of a {0:?} that is masked wrongly")]
    Mask(Side),
    /// A message beyond [`MAX_MESSAGE`].
    #[error("a message of more than {MAX_MESSAGE} bytes")]
    TooLong,
    /// A control frame in pieces, or longer than 125 bytes.
    #[error("a control frame that is too long or in pieces")]
    Control,
    /// A continuation of nothing, or a new message in the middle of another.
    #[error("a fragment that does not belong to a message")]
    Fragment,
}

/// Appends the head of a frame.
pub fn encode_head(out: &mut BytesMut, head: &Head) {
    out.put_u8(if head.fin { 0x80 } else { 0 } | head.kind.code());
    let masked = if head.mask.is_some() { 0x80 } else { 0 };
    match (u8::try_from(head.length), u16::try_from(head.length)) {
        (Ok(length), _) if length < 126 => out.put_u8(masked | length),
        (_, Ok(length)) => {
            out.put_u8(masked | 126);
            out.put_u16(length);
        }
        (_, Err(_)) => {
            out.put_u8(masked | 127);
            out.put_u64(head.length as u64);
        }
    }
    if let Some(mask) = head.mask {
        out.put_slice(&mask);
    }
}

/// Masks `bytes`, or takes the mask off: it is the same.
pub fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let (chunks, rest) = bytes.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// What has come: a control frame, or bytes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A control frame, whole.
    Control(Kind, Bytes),
    /// A piece of a message.
    Message {
        /// Text or binary.
        kind: Kind,
        /// Whether the message ends with it.
        ends: bool,
        /// The piece; it may be empty.
        bytes: Bytes,
    },
}

/// The frame that is being read.
#[derive(Debug, Clone, Copy)]
struct Open {
    head: Head,
    /// Bytes of it that are still to come.
    left: usize,
}

/// The message that is being read.
#[derive(Debug, Clone, Copy)]
struct Unfinished {
    kind: Kind,
    /// Its length so far, with the frame that is open.
    length: usize,
}

/// Takes bytes as they come and gives messages and control frames back, without their masks.
pub struct Decoder {
    /// What has come of a head or of a control frame.
    buffer: BytesMut,
    /// What has come behind the buffer.
    chunk: BytesMut,
    peer: Side,
    open: Option<Open>,
    message: Option<Unfinished>,
}

impl fmt::Debug for Decoder {
    /// How much waits; what it is belongs to a container and its client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.buffer.len() + self.chunk.len();
        f.debug_struct("Decoder").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl Decoder {
    /// For what `peer` sends.
    #[must_use]
    pub fn new(peer: Side) -> Self {
        let (buffer, chunk) = Default::default();
        Self { buffer, chunk, peer, open: None, message: None }
    }

    /// Gives bytes from the socket, which are not copied. What was given before must have been taken.
    pub fn give(&mut self, chunk: BytesMut) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk.extend_from_slice(&chunk);
        }
    }

    /// What has come, as it comes; `None` until more bytes have.
    ///
    /// # Errors
    /// [`BadFrame`]; the connection is of no use after it.
    pub fn part(&mut self) -> Result<Option<Part>, BadFrame> {
        let mut open = match self.open {
            Some(open) => open,
            None => match self.begin()? {
                Some(open) => open,
                None => return Ok(None),
            },
        };
        self.open = Some(open);
        let head = open.head;
        if head.kind.is_control() {
            if !self.gather(head.length) {
                return Ok(None);
            }
            let mut bytes = self.buffer.split_to(head.length);
            if let Some(key) = head.mask {
                mask(&mut bytes, key);
            }
            self.open = None;
            return Ok(Some(Part::Control(head.kind, bytes.freeze())));
        }
        let now = open.left.min(self.chunk.len());
        if now == 0 && open.left > 0 {
            return Ok(None);
        }
        // All of it, if it may: what is split keeps the memory, even where nothing is left.
        let chunk = &mut self.chunk;
        let mut bytes =
            if now == chunk.len() { std::mem::take(chunk) } else { chunk.split_to(now) };
        if let Some(mut key) = head.mask {
            // The key goes round with the frame, not with its pieces.
            key.rotate_left((head.length - open.left) % 4);
            mask(&mut bytes, key);
        }
        open.left -= now;
        self.open = (open.left > 0).then_some(open);
        let Some(Unfinished { kind, .. }) = self.message else { return Err(BadFrame::Fragment) };
        let ends = open.left == 0 && head.fin;
        if ends {
            self.message = None;
        }
        Ok(Some(Part::Message { kind, ends, bytes: bytes.freeze() }))
    }

    /// The next head, if it is there, and its place in a message.
    fn begin(&mut self) -> Result<Option<Open>, BadFrame> {
        let mut wanted = 2;
        let (head, size) = loop {
            let is_there = self.gather(wanted);
            match parse_head(&self.buffer, self.peer)? {
                Some(parsed) => break parsed,
                None if !is_there => return Ok(None),
                None => wanted += 1,
            }
        };
        let open = Open { head, left: head.length };
        if !head.kind.is_control() {
            let message = match (head.kind, self.message) {
                (Kind::Continuation, Some(message)) => message,
                (Kind::Continuation, None) | (_, Some(_)) => return Err(BadFrame::Fragment),
                (kind, None) => Unfinished { kind, length: 0 },
            };
            let length = message.length.saturating_add(head.length);
            if length > MAX_MESSAGE {
                return Err(BadFrame::TooLong);
            }
            self.message = Some(Unfinished { length, ..message });
        }
        self.buffer.advance(size);
        Ok(Some(open))
    }

    /// Brings `wanted` bytes together; whether there are so many.
    fn gather(&mut self, wanted: usize) -> bool {
        debug_assert!(wanted <= MAX_CONTROL, "{wanted} bytes would be kept");
        let missing = wanted.saturating_sub(self.buffer.len()).min(self.chunk.len());
        if missing > 0 {
            self.buffer.extend_from_slice(&self.chunk[..missing]);
            self.chunk.advance(missing);
        }
        self.buffer.len() >= wanted
    }
}

/// The head at the beginning of `bytes` and its size, `None` if it is not all there.
fn parse_head(bytes: &[u8], peer: Side) -> Result<Option<(Head, usize)>, BadFrame> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x70 != 0 {
        return Err(BadFrame::Reserved);
    }
    let kind = Kind::of(first & 0x0f).ok_or(BadFrame::Kind(first & 0x0f))?;
    let is_masked = second & 0x80 != 0;
    if is_masked != (peer == Side::Client) {
        return Err(BadFrame::Mask(peer));
    }
    let fin = first & 0x80 != 0;
    let short = usize::from(second & 0x7f);
    if kind.is_control() && (short > MAX_CONTROL || !fin) {
        return Err(BadFrame::Control);
    }
    let wide = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let size = 2 + wide + if is_masked { 4 } else { 0 };
    if bytes.len() < size {
        return Ok(None);
    }
    let mut rest = &bytes[2..];
    let length = match wide {
        2 => usize::from(rest.get_u16()),
        8 => usize::try_from(rest.get_u64()).map_err(|_| BadFrame::TooLong)?,
        _ => short,
    };
    let mask = rest.first_chunk::<4>().copied().filter(|_| is_masked);
    Ok(Some((Head { fin, kind, mask, length }, size)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(peer: Side, frames: &[(bool, Kind, Vec<u8>)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (fin, kind, bytes) in frames {
            let key = (peer == Side::Client).then_some([1, 2, 3, 250]);
            encode_head(&mut out, &Head { fin: *fin, kind: *kind, mask: key, length: bytes.len() });
            let mut bytes = bytes.clone();
            if let Some(key) = key {
                mask(&mut bytes, key);
            }
            out.extend_from_slice(&bytes);
        }
        out
    }

    fn taken(peer: Side, wire: &[u8], step: usize) -> Result<Vec<(Kind, Bytes)>, BadFrame> {
        let mut decoder = Decoder::new(peer);
        let (mut got, mut whole) = (Vec::new(), BytesMut::new());
        for chunk in wire.chunks(step.max(1)) {
            decoder.give(BytesMut::from(chunk));
            while let Some(part) = decoder.part()? {
                match part {
                    Part::Control(kind, bytes) => got.push((kind, bytes)),
                    Part::Message { kind, ends, bytes } => {
                        whole.extend_from_slice(&bytes);
                        if ends {
                            got.push((kind, whole.split().freeze()));
                        }
                    }
                }
            }
        }
        Ok(got)
    }

    proptest! {
        #[test]
        fn messages_come_out_whole_however_the_bytes_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..8),
            step in 1..100_usize, masked in any::<bool>()) {
            let peer = if masked { Side::Client } else { Side::Server };
            let frames: Vec<_> = messages.iter().map(|m| (true, Kind::Binary, m.clone())).collect();
            let got = taken(peer, &wire(peer, &frames), step).unwrap();
            let got: Vec<Vec<u8>> = got.into_iter().map(|(_, bytes)| bytes.to_vec()).collect();
            prop_assert_eq!(got, messages);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = taken(Side::Client, &bytes, 7);
        }

        #[test]
        fn a_mask_taken_twice_is_none(bytes in prop::collection::vec(any::<u8>(), 0..50), key in any::<[u8; 4]>()) {
            let mut twice = bytes.clone();
            mask(&mut twice, key);
            let by_hand: Vec<u8> = bytes.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).collect();
            prop_assert_eq!(&twice, &by_hand);
            mask(&mut twice, key);
            prop_assert_eq!(twice, bytes);
        }
    }

    #[test]
    fn fragments_make_one_message_and_a_ping_may_come_between() {
        let frames = [
            (false, Kind::Text, b"ab".to_vec()),
            (true, Kind::Ping, b"?".to_vec()),
            (false, Kind::Continuation, b"cd".to_vec()),
            (true, Kind::Continuation, b"e".to_vec()),
        ];
        let got = taken(Side::Client, &wire(Side::Client, &frames), 1).unwrap();
        assert_eq!(got, [(Kind::Ping, "?".into()), (Kind::Text, "abcde".into())]);
    }

    #[test]
    fn every_length_has_its_form() {
        for length in [0, 125, 126, 65_535, 65_536] {
            let frames = [(true, Kind::Binary, vec![7; length])];
            let got = taken(Side::Server, &wire(Side::Server, &frames), 5000).unwrap();
            assert_eq!(got[0].1.len(), length);
        }
    }

    #[test]
    fn what_is_not_websocket_is_refused() {
        for (bytes, expected) in [
            (&[0xc1, 0x80, 0, 0, 0, 0][..], BadFrame::Reserved),
            (&[0x83, 0x80, 0, 0, 0, 0], BadFrame::Kind(3)),
            (&[0x82, 0x01, 0], BadFrame::Mask(Side::Client)),
            (&[0x89, 0xfe, 0, 200, 0, 0, 0, 0], BadFrame::Control),
            (&[0x09, 0x80, 0, 0, 0, 0], BadFrame::Control),
            (&[0x80, 0x80, 0, 0, 0, 0], BadFrame::Fragment),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0], BadFrame::TooLong),
        ] {
            assert_eq!(taken(Side::Client, bytes, 100), Err(expected));
        }
    }
}
