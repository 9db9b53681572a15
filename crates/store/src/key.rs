//! Names of records.

use std::fmt;

/// A text that cannot name a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} cannot name a record (letters, digits, '.', '_' and '-', not first '.', at most 200)"
)]
pub struct BadKey {
    /// The text as it was given, cut after 240 characters.
    pub given: String,
}

/// The name of a record inside its store; safe as a file name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(String);

impl Key {
    /// The key that `text` spells.
    ///
    /// # Errors
    /// [`BadKey`] for a text that could leave the directory, hide in it or clash with the store's own files.
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let ok = (1..=200).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadKey { given: text.chars().take(240).collect() })
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_inside_their_directory() {
        assert!(Key::parse("sha256-ab.json").is_ok());
        for bad in ["", ".", "..", ".new-x", "a/b", "a\0b", "ä", &"x".repeat(201)] {
            assert!(Key::parse(bad).is_err(), "{bad:?} was taken for a key");
        }
    }
}
