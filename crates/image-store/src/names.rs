//! Names of images, and patterns of names.

use std::fmt;

use model::Digest;
use oci_image::Reference;
use serde::{Deserialize, Serialize};

/// A complete name: `registry/repository:tag` or `registry/repository@digest`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageName(String);

impl ImageName {
    /// The name that `reference` stands for: by digest where it has one, else by tag.
    #[must_use]
    pub fn of(reference: &Reference) -> Self {
        match (reference.digest(), reference.tag()) {
            (Some(digest), _) => Self(reference.with_digest(digest)),
            (None, Some(tag)) => Self(format!("{}:{tag}", reference.name())),
            (None, None) => Self(format!("{}:latest", reference.name())),
        }
    }

    /// The name of the same repository by `digest`.
    #[must_use]
    pub fn by_digest(reference: &Reference, digest: &Digest) -> Self {
        Self(reference.with_digest(digest))
    }

    /// Whether it names by digest.
    #[must_use]
    pub fn is_by_digest(&self) -> bool {
        self.0.contains('@')
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names with `*` for any text, as in the list of pinned images.
///
/// A pattern without `*` is read as a reference, so `busybox` means `docker.io/library/busybox:latest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    parts: Vec<String>,
}

impl Pattern {
    /// The pattern that `text` spells.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let whole = if text.contains('*') {
            text.to_owned()
        } else {
            Reference::parse(text)
                .map_or_else(|_| text.to_owned(), |r| ImageName::of(&r).as_str().to_owned())
        };
        Self { parts: whole.split('*').map(str::to_owned).collect() }
    }

    /// Whether `name` fits.
    #[must_use]
    pub fn matches(&self, name: &ImageName) -> bool {
        let (Some(first), Some(last)) = (self.parts.first(), self.parts.last()) else {
            return false;
        };
        let text = name.as_str();
        if self.parts.len() == 1 {
            return text == first;
        }
        let Some(rest) = text.strip_prefix(first.as_str()) else { return false };
        let Some(mut rest) = rest.strip_suffix(last.as_str()) else { return false };
        for part in &self.parts[1..self.parts.len() - 1] {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_pins_by_name_by_prefix_and_by_part() {
        let name = ImageName::of(&Reference::parse("registry.k8s.io/pause:3.10").unwrap());
        for (pattern, fits) in [
            ("registry.k8s.io/pause:3.10", true),
            ("registry.k8s.io/pause:3.9", false),
            ("registry.k8s.io/*", true),
            ("*pause*", true),
            ("*:3.10", true),
            ("registry*pause*10", true),
            ("registry*10*pause", false),
            ("pause", false),
            ("*", true),
            ("", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(&name), fits, "{pattern:?}");
        }
        let busybox = ImageName::of(&Reference::parse("busybox").unwrap());
        assert!(Pattern::new("busybox").matches(&busybox));
    }
}
