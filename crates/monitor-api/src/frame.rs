//! Frames: four bytes of length, little-endian, then that many bytes of JSON.
//!
//! Descriptors travel with the first byte of the frame that they belong to.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message, in bytes.
pub const MAX_FRAME: usize = 4 << 20;

/// A stream that is not one of frames.
#[derive(Debug, thiserror::Error)]
pub enum BadFrame {
    /// A length beyond [`MAX_FRAME`].
    #[error("a message of {0} bytes, more than {MAX_FRAME}")]
    TooLong(usize),
    /// A message that cannot be written.
    #[error("a message that cannot be written: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// A whole frame that is not a message this version knows; the stream goes on behind it.
    #[error("a message that this version does not know: {why}")]
    Unknown {
        /// The number of the request, where one can be made out.
        id: Option<u64>,
        /// How many descriptors came with it.
        fds: u32,
        /// What is unknown about it.
        why: serde_json::Error,
    },
}

/// The bytes of `message`.
///
/// # Errors
/// [`BadFrame`] for a message that is too long.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, BadFrame> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(n) if length <= MAX_FRAME => bytes[..4].copy_from_slice(&n.to_le_bytes()),
        Ok(_) | Err(_) => return Err(BadFrame::TooLong(length)),
    }
    Ok(bytes)
}

/// Takes bytes as they come and gives messages back.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: Vec<u8>,
    /// How far `bytes` has been read.
    read: usize,
}

impl Decoder {
    /// Adds bytes from the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.read > 0 {
            self.bytes.drain(..self.read);
            self.read = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes the next message out, `None` until all of it has come.
    ///
    /// # Errors
    /// [`BadFrame::TooLong`], after which the stream is of no use, or [`BadFrame::Unknown`].
    pub fn take<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadFrame> {
        let rest = &self.bytes[self.read..];
        let Some((length, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(BadFrame::TooLong(length));
        }
        let Some(body) = body.get(..length) else { return Ok(None) };
        let message = serde_json::from_slice(body).map_err(|why| {
            let numbered = serde_json::from_slice::<Numbered>(body).ok();
            let fds = numbered.as_ref().map_or(0, |n| n.fds);
            BadFrame::Unknown { id: numbered.map(|n| n.id), fds, why }
        });
        self.read += 4 + length;
        if self.read == self.bytes.len() {
            // Nothing is left, so nothing has to be kept: an idle connection holds no memory.
            *self = Self::default();
        }
        message.map(Some)
    }
}

/// What every request has, of whatever version.
#[derive(Deserialize)]
struct Numbered {
    id: u64,
    #[serde(default)]
    fds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_the_bytes_come_in() {
        let stream: Vec<u8> = [1_u32, 22, 333].iter().flat_map(|n| encode(n).unwrap()).collect();
        for step in 1..=stream.len() {
            let mut decoder = Decoder::default();
            let mut got = Vec::new();
            for chunk in stream.chunks(step) {
                decoder.push(chunk);
                while let Some(n) = decoder.take::<u32>().unwrap() {
                    got.push(n);
                }
            }
            assert_eq!(got, [1, 22, 333], "in steps of {step}");
        }
    }

    #[test]
    fn a_length_beyond_the_limit_and_bytes_that_are_no_message_are_errors() {
        let mut decoder = Decoder::default();
        decoder.push(&u32::MAX.to_le_bytes());
        assert!(matches!(decoder.take::<u32>(), Err(BadFrame::TooLong(_))));
        let mut decoder = Decoder::default();
        decoder.push(&encode(&serde_json::json!({"id": 7, "fds": 2, "request": "later"})).unwrap());
        decoder.push(&encode(&8_u32).unwrap());
        assert!(matches!(
            decoder.take::<u32>(),
            Err(BadFrame::Unknown { id: Some(7), fds: 2, .. })
        ));
        assert_eq!(decoder.take::<u32>().unwrap(), Some(8), "the stream goes on");
        assert!(matches!(encode(&"x".repeat(MAX_FRAME)), Err(BadFrame::TooLong(_))));
    }
}
