//! Values that must never be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value whose `Debug` shows a placeholder: credentials, tokens, environment values.
///
/// It has no `Display`. Serialisation writes the value, because records need it; nothing that is
/// serialised goes to a log.
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value. The name is long on purpose: each use should be looked at.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_a_placeholder() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[secret]");
    }
}
