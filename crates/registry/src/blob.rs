//! A blob as a stream that does not end before the blob does.

use bytes::Bytes;

use crate::error::RegistryError;

/// The bytes of one blob. Dropping it gives its connection and its permit back.
#[derive(Debug)]
pub struct BlobStream {}

impl BlobStream {
    /// The next bytes, never empty; `None` after the last, when size and digest have been checked.
    ///
    /// # Errors
    /// [`RegistryError`] once every host and every try is used up, and when the content is not what
    /// its descriptor says. After an error there is nothing more.
    #[expect(clippy::unused_async, reason = "the body comes with the transport")]
    pub async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        None
    }

    /// Bytes of the blob that have been handed out, the offset that it began at included.
    #[must_use]
    pub const fn position(&self) -> u64 {
        0
    }
}
