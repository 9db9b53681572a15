//! Names of sandboxes and containers: 64 lower-case hexadecimal digits.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A text that was to be an id and is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} id {given:?} is not 64 hexadecimal digits")]
pub struct BadId {
    /// What the id was to name: `sandbox` or `container`.
    pub kind: &'static str,
    /// The text as it was given, cut after 80 characters.
    pub given: String,
}

fn check(kind: &'static str, s: &str) -> Result<(), BadId> {
    let ok = s.len() == 64 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if ok { Ok(()) } else { Err(BadId { kind, given: s.chars().take(80).collect() }) }
}

fn hex(bytes: [u8; 32]) -> Arc<str> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut s = String::with_capacity(64);
    for b in bytes {
        s.push(char::from(DIGITS[usize::from(b >> 4)]));
        s.push(char::from(DIGITS[usize::from(b & 15)]));
    }
    s.into()
}

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The id that `text` spells.
            ///
            /// # Errors
            /// [`BadId`] unless `text` is 64 lower-case hexadecimal digits.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                check($kind, text).map(|()| Self(text.into()))
            }

            /// An id made of 32 random bytes; the caller supplies the randomness.
            #[must_use]
            pub fn from_random(bytes: [u8; 32]) -> Self {
                Self(hex(bytes))
            }

            /// The 64 digits.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, for people and for names that must be short.
            #[must_use]
            pub fn short(&self) -> &str {
                &self.0[..12]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(s: String) -> Result<Self, BadId> {
                Self::parse(&s)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().to_owned()
            }
        }
    };
}

object_id!(
    /// The name of a pod sandbox.
    SandboxId,
    "sandbox"
);
object_id!(
    /// The name of a container.
    ContainerId,
    "container"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sixty_four_lower_case_hex_digits_are_an_id() {
        let good = "0123456789abcdef".repeat(4);
        assert_eq!(SandboxId::parse(&good).unwrap().as_str(), good);
        for bad in
            ["", "abc", &good.to_uppercase(), &good[1..], &format!("{good}0"), "../../etc/passwd"]
        {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?} was taken for an id");
        }
    }

    #[test]
    fn a_random_id_survives_parsing() {
        let id = ContainerId::from_random([0xa5; 32]);
        assert_eq!(ContainerId::parse(id.as_str()), Ok(id));
    }

    #[test]
    fn a_record_with_a_bad_id_is_refused() {
        assert!(serde_json::from_str::<SandboxId>("\"../x\"").is_err());
    }
}
