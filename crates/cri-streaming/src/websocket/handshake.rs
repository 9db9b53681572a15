//! The keys of the upgrade (RFC 6455 section 4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

/// The text that every server appends to a client's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A `Sec-WebSocket-Key` that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header Sec-WebSocket-Key must hold 16 bytes in Base64")]
pub struct BadHandshake;

/// The `Sec-WebSocket-Accept` to a client's `Sec-WebSocket-Key`.
///
/// # Errors
/// [`BadHandshake`].
pub fn accept_key(key: &str) -> Result<String, BadHandshake> {
    match STANDARD.decode(key.trim()) {
        Ok(bytes) if bytes.len() == 16 => {}
        Ok(_) | Err(_) => return Err(BadHandshake),
    }
    let mut hash = Sha1::new();
    hash.update(key.trim());
    hash.update(GUID);
    Ok(STANDARD.encode(hash.finalize()))
}

/// A `Sec-WebSocket-Key` for a client.
///
/// # Errors
/// The system has no random bytes.
pub fn new_key() -> Result<String, getrandom::Error> {
    let mut key = [0; 16];
    getrandom::fill(&mut key)?;
    Ok(STANDARD.encode(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ==").unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(accept_key("x"), Err(BadHandshake));
        assert!(accept_key(&new_key().unwrap()).is_ok());
    }
}
