//! Names that come from the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A text that cannot be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{given:?} is not a runtime handler's name (letters, digits, '-', '_' and '.', at most 63)"
)]
pub struct BadName {
    /// The text as it was given.
    pub given: String,
}

/// The name of a runtime handler. The empty name is the default handler, as in the CRI.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HandlerName(String);

impl HandlerName {
    /// The handler that `text` names.
    ///
    /// # Errors
    /// [`BadName`] for a text that no handler can have as its name.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let ok = text.len() <= 63
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
        if ok {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName { given: text.chars().take(80).collect() })
        }
    }

    /// The name as the CRI writes it; empty for the default handler.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the default handler.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for HandlerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_default() { "default" } else { &self.0 })
    }
}

impl TryFrom<String> for HandlerName {
    type Error = BadName;

    fn try_from(s: String) -> Result<Self, BadName> {
        Self::parse(&s)
    }
}

impl From<HandlerName> for String {
    fn from(n: HandlerName) -> Self {
        n.0
    }
}
