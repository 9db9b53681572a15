//! What a runtime is given of a client.

use std::fmt;

use tokio::io::AsyncRead;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::carry::Output;

/// Bytes from the client.
pub type Input = Box<dyn AsyncRead + Send + Unpin>;

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A client's streams. What it did not ask for is `None`.
pub struct Io {
    /// Standard input; it ends when the client closes it or is gone.
    pub stdin: Option<Input>,
    /// Standard output, or the terminal.
    pub stdout: Option<Output>,
    /// Standard error.
    pub stderr: Option<Output>,
    /// Sizes of the client's terminal, as they change. It ends with the client, or at once without a terminal.
    pub resize: mpsc::Receiver<Size>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("stdin", &self.stdin.is_some())
            .field("stdout", &self.stdout.is_some())
            .field("stderr", &self.stderr.is_some())
            .finish_non_exhaustive()
    }
}

/// Sizes that may wait; only the last one matters, so a runtime that is slow loses nothing but detours.
pub(super) const SIZES_AHEAD: usize = 16;

/// Takes sizes out of the bytes of a resize stream: JSON objects one after another.
#[derive(Debug, Default)]
pub(super) struct Sizes(Vec<u8>);

/// The longest that one size can be with all its spaces.
const LONGEST: usize = 1024;

impl Sizes {
    /// Adds bytes and returns the sizes that are whole now; `None` when they are no sizes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Option<Vec<Size>> {
        self.0.extend_from_slice(bytes);
        let mut sizes = Vec::new();
        let mut stream = serde_json::Deserializer::from_slice(&self.0).into_iter::<Size>();
        let mut is_bad = false;
        let mut used = 0;
        for size in stream.by_ref() {
            match size {
                Ok(size) => sizes.push(size),
                Err(e) if e.is_eof() => break,
                Err(_) => {
                    is_bad = true;
                    break;
                }
            }
            used += 1;
        }
        let end = if used > 0 { end_of(&self.0, used) } else { 0 };
        self.0.drain(..end);
        (!is_bad && self.0.len() <= LONGEST).then_some(sizes)
    }
}

/// Where the first `count` values of `bytes` end.
fn end_of(bytes: &[u8], count: usize) -> usize {
    let mut stream = serde_json::Deserializer::from_slice(bytes).into_iter::<Size>();
    for _ in 0..count {
        let _ = stream.next();
    }
    stream.byte_offset()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_one_after_another_and_in_pieces() {
        let mut sizes = Sizes::default();
        let first = br#"{"Width":80,"Height":24}"#;
        assert_eq!(sizes.push(&first[..10]), Some(vec![]));
        let rest = [&first[10..], b"\n{\"Width\":1,\"Height\":2} {\"Wid"].concat();
        assert_eq!(
            sizes.push(&rest),
            Some(vec![Size { width: 80, height: 24 }, Size { width: 1, height: 2 }])
        );
        assert_eq!(sizes.push(b"th\":3,\"Height\":4}"), Some(vec![Size { width: 3, height: 4 }]));
        assert_eq!(sizes.push(b"nonsense"), None);
    }
}
