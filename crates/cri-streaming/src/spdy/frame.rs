//! Frames: bytes to values and back. No socket, no clock.
//!
//! Always: a control frame is whole before it is read; the bytes of a data frame are handed on as they
//! come, so a peer's frame size costs no memory here.

use std::fmt;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The longest control frame that is taken, in bytes without its head.
pub const MAX_CONTROL: usize = 64 << 10;
/// The longest data that is written in one frame, in bytes.
pub const MAX_DATA: usize = 64 << 10;

const VERSION: u16 = 3;
const HEAD: usize = 8;
const CONTROL: u32 = 1 << 31;
const FLAG_FIN: u8 = 0x01;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

const INITIAL_WINDOW_SIZE: u32 = 7;

/// A frame, or a piece of a data frame. Header blocks are still compressed: they have to be read in the
/// order in which they came, whatever becomes of their frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A stream is opened.
    SynStream {
        /// Its number: odd from a client, even from a server.
        stream: u32,
        /// Whether its opener sends nothing more.
        fin: bool,
        /// Compressed header block.
        headers: Bytes,
    },
    /// The other side accepts a stream.
    SynReply {
        /// Which.
        stream: u32,
        /// Whether the replier sends nothing more.
        fin: bool,
        /// Compressed header block.
        headers: Bytes,
    },
    /// A stream ends in both directions, at once.
    RstStream {
        /// Which.
        stream: u32,
        /// Why (section 2.6.3).
        status: u32,
    },
    /// Settings; all that matters here is the window that each stream begins with.
    Settings {
        /// Bytes, if it was said.
        initial_window: Option<u32>,
    },
    /// To be answered with the same, when its number is not our own.
    Ping {
        /// Its number.
        id: u32,
    },
    /// The peer takes no more streams.
    GoAway {
        /// The last stream that it has taken.
        last_stream: u32,
        /// Why.
        status: u32,
    },
    /// More headers.
    Headers {
        /// Of which stream.
        stream: u32,
        /// Whether the sender sends nothing more.
        fin: bool,
        /// Compressed header block.
        headers: Bytes,
    },
    /// Room for so many bytes more.
    WindowUpdate {
        /// On which stream; 0 is the whole connection.
        stream: u32,
        /// Bytes.
        delta: u32,
    },
    /// Bytes of a stream, maybe not all of its frame.
    Data {
        /// Which.
        stream: u32,
        /// Whether its sender sends nothing more; only on the last piece of a frame.
        fin: bool,
        /// The bytes.
        bytes: Bytes,
    },
    /// A control frame that this side has no use for.
    Ignored {
        /// Its type.
        kind: u16,
    },
}

/// A peer that does not speak SPDY/3.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Another version.
    #[error("a control frame of SPDY version {0}, not {VERSION}")]
    Version(u16),
    /// A control frame beyond [`MAX_CONTROL`].
    #[error("a control frame of {0} bytes, more than {MAX_CONTROL}")]
    TooLong(usize),
    /// A control frame that is too short for its type.
    #[error("a control frame of type {kind} with {length} bytes")]
    Short {
        /// Its type.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// A stream's number that cannot be one.
    #[error("a frame of type {0} on stream 0")]
    StreamZero(u16),
}

impl Frame {
    /// Appends the frame to `out`.
    ///
    /// # Panics
    /// For data or headers of 16 MiB and more, which the length field cannot say.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::SynStream { stream, fin, headers } => {
                control(out, SYN_STREAM, *fin, 10 + headers.len());
                out.put_u32(*stream);
                out.put_u32(0);
                out.put_u16(0);
                out.put_slice(headers);
            }
            Self::SynReply { stream, fin, headers } => {
                control(out, SYN_REPLY, *fin, 4 + headers.len());
                out.put_u32(*stream);
                out.put_slice(headers);
            }
            Self::RstStream { stream, status } => two_words(out, RST_STREAM, *stream, *status),
            Self::Settings { initial_window: None } => {
                control(out, SETTINGS, false, 4);
                out.put_u32(0);
            }
            Self::Settings { initial_window: Some(window) } => {
                control(out, SETTINGS, false, 12);
                out.put_u32(1);
                out.put_u32(INITIAL_WINDOW_SIZE);
                out.put_u32(*window);
            }
            Self::Ping { id } => {
                control(out, PING, false, 4);
                out.put_u32(*id);
            }
            Self::GoAway { last_stream, status } => two_words(out, GOAWAY, *last_stream, *status),
            Self::Headers { stream, fin, headers } => {
                control(out, HEADERS, *fin, 4 + headers.len());
                out.put_u32(*stream);
                out.put_slice(headers);
            }
            Self::WindowUpdate { stream, delta } => two_words(out, WINDOW_UPDATE, *stream, *delta),
            Self::Data { stream, fin, bytes } => {
                data_head(out, *stream, *fin, bytes.len());
                out.put_slice(bytes);
            }
            Self::Ignored { .. } => {}
        }
    }
}

/// Appends the head of a data frame, whose `length` bytes follow.
pub(super) fn data_head(out: &mut BytesMut, stream: u32, fin: bool, length: usize) {
    out.put_u32(stream & !CONTROL);
    flags_and_length(out, fin, length);
}

fn control(out: &mut BytesMut, kind: u16, fin: bool, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    flags_and_length(out, fin, length);
}

fn two_words(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    control(out, kind, false, 8);
    out.put_u32(first);
    out.put_u32(second);
}

fn flags_and_length(out: &mut BytesMut, fin: bool, length: usize) {
    let length = u32::try_from(length).ok().filter(|l| *l < 1 << 24);
    let length = length.unwrap_or_else(|| panic!("a frame's length has 24 bits"));
    out.put_u32(u32::from(if fin { FLAG_FIN } else { 0 }) << 24 | length);
}

/// Takes bytes as they come and gives frames back.
#[derive(Default)]
pub struct Decoder {
    /// What has come of a head or of a control frame.
    buffer: BytesMut,
    /// What has come behind the buffer.
    chunk: Bytes,
    /// What is still to come of a data frame.
    data: Option<DataLeft>,
}

#[derive(Debug, Clone, Copy)]
struct DataLeft {
    stream: u32,
    fin: bool,
    left: usize,
}

impl fmt::Debug for Decoder {
    /// How much waits; what it is belongs to a container and its client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.buffer.len() + self.chunk.len();
        f.debug_struct("Decoder").field("waiting", &waiting).finish_non_exhaustive()
    }
}

impl Decoder {
    /// Gives bytes from the socket, which are not copied. What was given before must have been taken.
    pub fn give(&mut self, chunk: Bytes) {
        self.chunk = if self.chunk.is_empty() {
            chunk
        } else {
            [&self.chunk[..], &chunk[..]].concat().into()
        };
    }

    /// The next frame, or piece of one; `None` until more bytes have come.
    ///
    /// # Errors
    /// [`BadFrame`]; the connection is of no use after it.
    pub fn take(&mut self) -> Result<Option<Frame>, BadFrame> {
        if let Some(data) = self.data {
            return Ok(self.piece(data));
        }
        if !self.gather(HEAD) {
            return Ok(None);
        }
        let mut head = &self.buffer[..HEAD];
        let first = head.get_u32();
        let second = head.get_u32();
        let flags = (second >> 24) as u8;
        let length = (second & 0xff_ffff) as usize;
        let fin = flags & FLAG_FIN != 0;
        if first & CONTROL == 0 {
            self.buffer.advance(HEAD);
            let data = DataLeft { stream: first, fin, left: length };
            if length == 0 {
                return Ok(Some(Frame::Data { stream: first, fin, bytes: Bytes::new() }));
            }
            self.data = Some(data);
            return Ok(self.piece(data));
        }
        let version = (first >> 16 & 0x7fff) as u16;
        let kind = (first & 0xffff) as u16;
        if version != VERSION {
            return Err(BadFrame::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(BadFrame::TooLong(length));
        }
        if !self.gather(HEAD + length) {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let body = self.buffer.split_to(length).freeze();
        control_frame(kind, fin, body).map(Some)
    }

    /// Brings `wanted` bytes together; whether there are so many.
    fn gather(&mut self, wanted: usize) -> bool {
        debug_assert!(wanted <= HEAD + MAX_CONTROL, "{wanted} bytes would be kept");
        let missing = wanted.saturating_sub(self.buffer.len()).min(self.chunk.len());
        if missing > 0 {
            self.buffer.extend_from_slice(&self.chunk.split_to(missing));
        }
        self.buffer.len() >= wanted
    }

    fn piece(&mut self, data: DataLeft) -> Option<Frame> {
        let now = data.left.min(self.chunk.len());
        if now == 0 {
            return None;
        }
        let bytes = self.chunk.split_to(now);
        let left = data.left - now;
        self.data = (left > 0).then_some(DataLeft { left, ..data });
        Some(Frame::Data { stream: data.stream, fin: data.fin && left == 0, bytes })
    }
}

fn control_frame(kind: u16, fin: bool, mut body: Bytes) -> Result<Frame, BadFrame> {
    let length = body.len();
    let least = match kind {
        SYN_STREAM => 10,
        SYN_REPLY | HEADERS | SETTINGS | PING => 4,
        RST_STREAM | GOAWAY | WINDOW_UPDATE => 8,
        _ => return Ok(Frame::Ignored { kind }),
    };
    if length < least {
        return Err(BadFrame::Short { kind, length });
    }
    let first = body.get_u32();
    let stream = first & !CONTROL;
    let on_a_stream = matches!(kind, SYN_STREAM | SYN_REPLY | RST_STREAM | HEADERS);
    if on_a_stream && stream == 0 {
        return Err(BadFrame::StreamZero(kind));
    }
    Ok(match kind {
        SYN_STREAM => {
            body.advance(6);
            Frame::SynStream { stream, fin, headers: body }
        }
        SYN_REPLY => Frame::SynReply { stream, fin, headers: body },
        HEADERS => Frame::Headers { stream, fin, headers: body },
        RST_STREAM => Frame::RstStream { stream, status: body.get_u32() },
        GOAWAY => Frame::GoAway { last_stream: stream, status: body.get_u32() },
        WINDOW_UPDATE => Frame::WindowUpdate { stream, delta: body.get_u32() & !CONTROL },
        PING => Frame::Ping { id: first },
        _ => settings(first, body)?,
    })
}

fn settings(count: u32, mut body: Bytes) -> Result<Frame, BadFrame> {
    let mut initial_window = None;
    for _ in 0..count {
        if body.len() < 8 {
            return Err(BadFrame::Short { kind: SETTINGS, length: body.len() });
        }
        let id = body.get_u32() & 0xff_ffff;
        let value = body.get_u32();
        if id == INITIAL_WINDOW_SIZE {
            initial_window = Some(value);
        }
    }
    Ok(Frame::Settings { initial_window })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let stream = 1..1000_u32;
        let bytes = prop::collection::vec(any::<u8>(), 1..200).prop_map(Bytes::from);
        prop_oneof![
            (stream.clone(), any::<bool>(), bytes.clone())
                .prop_map(|(stream, fin, headers)| Frame::SynStream { stream, fin, headers }),
            (stream.clone(), any::<bool>(), bytes.clone())
                .prop_map(|(stream, fin, headers)| Frame::SynReply { stream, fin, headers }),
            (stream.clone(), any::<bool>(), bytes.clone())
                .prop_map(|(stream, fin, headers)| Frame::Headers { stream, fin, headers }),
            (stream.clone(), 0..20_u32)
                .prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            prop::option::of(any::<u32>())
                .prop_map(|initial_window| Frame::Settings { initial_window }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            (stream.clone(), 0..3_u32)
                .prop_map(|(last_stream, status)| Frame::GoAway { last_stream, status }),
            (stream.clone(), 1..1_048_576_u32)
                .prop_map(|(stream, delta)| Frame::WindowUpdate { stream, delta }),
            (stream, any::<bool>(), bytes).prop_map(|(stream, fin, bytes)| Frame::Data {
                stream,
                fin,
                bytes
            }),
        ]
    }

    /// Pieces of one data frame are put together again.
    fn joined(frames: Vec<Frame>) -> Vec<Frame> {
        let mut out: Vec<Frame> = Vec::new();
        let mut open = false;
        for frame in frames {
            if let (Frame::Data { stream, fin, bytes }, true) = (&frame, open)
                && let Some(Frame::Data { stream: last, fin: last_fin, bytes: have }) =
                    out.last_mut()
                && last == stream
            {
                *have = [&have[..], &bytes[..]].concat().into();
                *last_fin = *fin;
                open = have.len() < 200 && !*fin;
                continue;
            }
            open = matches!(frame, Frame::Data { fin: false, .. });
            out.push(frame);
        }
        out
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_bytes_are_cut(sent in prop::collection::vec(frames(), 1..12), step in 1..64_usize) {
            let mut wire = BytesMut::new();
            // A marker between frames, so that pieces of one data frame are told from two frames.
            for frame in &sent {
                frame.encode(&mut wire);
                Frame::Ping { id: 0 }.encode(&mut wire);
            }
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for chunk in wire.chunks(step) {
                decoder.give(Bytes::copy_from_slice(chunk));
                while let Some(frame) = decoder.take().unwrap() {
                    got.push(frame);
                }
            }
            let got = joined(got);
            let sent: Vec<Frame> = sent.into_iter().flat_map(|f| [f, Frame::Ping { id: 0 }]).collect();
            prop_assert_eq!(got, sent);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut decoder = Decoder::default();
            decoder.give(bytes.into());
            while let Ok(Some(_)) = decoder.take() {}
        }
    }

    #[test]
    fn what_is_not_spdy_3_is_refused() {
        let refused = |bytes: &[u8]| {
            let mut decoder = Decoder::default();
            decoder.give(Bytes::copy_from_slice(bytes));
            decoder.take().unwrap_err()
        };
        assert_eq!(refused(&[0x80, 2, 0, 1, 0, 0, 0, 0]), BadFrame::Version(2));
        assert_eq!(refused(&[0x80, 3, 0, 1, 0, 0xff, 0, 0]), BadFrame::TooLong(0xff_0000));
        assert_eq!(
            refused(&[0x80, 3, 0, 6, 0, 0, 0, 1, 9]),
            BadFrame::Short { kind: 6, length: 1 }
        );
        assert_eq!(
            refused(&[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1]),
            BadFrame::StreamZero(3)
        );
    }
}
