//! Content digests as in the OCI image specification, "Digests".

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The hash functions that the OCI image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the encoded part, in hexadecimal digits.
    #[must_use]
    pub const fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A text that was to be a digest and is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a digest (expected sha256:<64 hex digits> or sha512:<128 hex digits>)")]
pub struct BadDigest {
    /// The text as it was given, cut after 160 characters.
    pub given: String,
}

/// `algorithm:hex` of some content; an image's id is the digest of its configuration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(Arc<str>);

impl Digest {
    /// The digest that `text` spells.
    ///
    /// # Errors
    /// [`BadDigest`] unless the algorithm is known and the digits are lower-case, as many as it has.
    pub fn parse(text: &str) -> Result<Self, BadDigest> {
        let bad = || BadDigest { given: text.chars().take(160).collect() };
        let (name, hex) = text.split_once(':').ok_or_else(bad)?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => return Err(bad()),
        };
        let ok = hex.len() == algorithm.hex_len()
            && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if ok { Ok(Self(text.into())) } else { Err(bad()) }
    }

    /// The digest whose raw hash is `bytes`.
    ///
    /// # Panics
    /// If `bytes` is not as long as the algorithm's hash: a hash function's own output always is.
    #[must_use]
    pub fn from_bytes(algorithm: Algorithm, bytes: &[u8]) -> Self {
        use fmt::Write as _;
        assert_eq!(
            bytes.len() * 2,
            algorithm.hex_len(),
            "a {} of the wrong length",
            algorithm.name()
        );
        let mut text = String::with_capacity(7 + algorithm.hex_len());
        text.push_str(algorithm.name());
        text.push(':');
        for b in bytes {
            // Writing to a String cannot fail.
            let _ = write!(text, "{b:02x}");
        }
        Self(text.into())
    }

    /// The whole text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Which hash function made it.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        if self.0.starts_with("sha512:") { Algorithm::Sha512 } else { Algorithm::Sha256 }
    }

    /// The hexadecimal digits behind the colon; safe as a file name.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[self.algorithm().name().len() + 1..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = BadDigest;

    fn try_from(s: String) -> Result<Self, BadDigest> {
        Self::parse(&s)
    }
}

impl From<Digest> for String {
    fn from(d: Digest) -> Self {
        d.0.as_ref().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_known_algorithms_parse_and_everything_else_is_refused() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let d = Digest::parse(&format!("sha256:{hex}")).unwrap();
        assert_eq!((d.algorithm(), d.hex()), (Algorithm::Sha256, hex));
        assert!(Digest::parse(&format!("sha512:{}", "0".repeat(128))).is_ok());
        let upper = hex.to_uppercase();
        for bad in [
            hex.to_owned(),
            format!("md5:{hex}"),
            format!("sha256:{upper}"),
            format!("sha512:{hex}"),
            "sha256:".into(),
            "sha256:../../x".into(),
        ] {
            assert!(Digest::parse(&bad).is_err(), "{bad:?} was taken for a digest");
        }
    }

    #[test]
    fn raw_bytes_become_the_text_that_parses_back() {
        let d = Digest::from_bytes(Algorithm::Sha256, &[0x0f; 32]);
        assert_eq!(d.as_str(), format!("sha256:{}", "0f".repeat(32)));
        assert_eq!(Digest::parse(d.as_str()), Ok(d));
    }
}
