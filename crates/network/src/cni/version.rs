//! Versions of the CNI specification.

use std::fmt;

/// A version of the CNI specification that this crate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u8, u8, u8);

impl Version {
    /// Interfaces in results, lists of plugins.
    pub(crate) const V0_3: Self = Self(0, 3, 0);
    /// CHECK, and the previous result at DEL.
    pub(crate) const V0_4: Self = Self(0, 4, 0);
    /// STATUS and GC.
    pub(crate) const V1_1: Self = Self(1, 1, 0);
    /// All of them, oldest first.
    const ALL: [Self; 7] = [
        Self(0, 1, 0),
        Self(0, 2, 0),
        Self::V0_3,
        Self(0, 3, 1),
        Self::V0_4,
        Self(1, 0, 0),
        Self::V1_1,
    ];

    /// The version that `text` names, if this crate speaks it. No text is 0.1.0, as in libcni.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = if text.is_empty() { "0.1.0" } else { text };
        Self::ALL.into_iter().find(|version| version.to_string() == text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn released_versions_are_known_and_ordered() {
        for text in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            assert_eq!(Version::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Version::parse(""), Version::parse("0.1.0"));
        for bad in ["1", "1.2.0", "2.0.0", "v1.0.0", "0.3.2", "1.0.0 "] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
        assert!(Version::V0_4 < Version::V1_1);
    }
}
