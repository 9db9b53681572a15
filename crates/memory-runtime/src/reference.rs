//! Names of images.

/// A reference, taken apart; what is implied is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    pub host: String,
    pub path: String,
    pub tag: String,
    pub digest: String,
}

impl Reference {
    /// Nothing where the text is no reference.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, digest) = text.split_once('@').unwrap_or((text, ""));
        let is_digest = digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        });
        if !(digest.is_empty() || is_digest) {
            return None;
        }
        let (host, rest) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => ("docker.io", name),
        };
        let (path, tag) = rest.split_once(':').unwrap_or((rest, ""));
        let word = |text: &str, more: &str| {
            !text.is_empty()
                && text.chars().all(|sign| {
                    sign.is_ascii_lowercase() || sign.is_ascii_digit() || more.contains(sign)
                })
        };
        let is_tag = |text: &str| {
            text.chars().all(|sign| sign.is_ascii_alphanumeric() || "._-".contains(sign))
        };
        if !word(path, "/._-") || !is_tag(tag) {
            return None;
        }
        let path = if host == "docker.io" && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        let tag = if tag.is_empty() && digest.is_empty() { "latest" } else { tag };
        Some(Self { host: host.to_owned(), path, tag: tag.to_owned(), digest: digest.to_owned() })
    }

    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// The name with its digest where it has one, else with its tag.
    pub(crate) fn full(&self) -> String {
        if self.digest.is_empty() {
            format!("{}:{}", self.repository(), self.tag)
        } else {
            format!("{}@{}", self.repository(), self.digest)
        }
    }

    /// What a registry calls it: the digest wins.
    pub(crate) fn wanted(&self) -> &str {
        if self.digest.is_empty() { &self.tag } else { &self.digest }
    }

    /// Whether its registry is on this machine; others are not asked at all.
    pub(crate) fn is_local(&self) -> bool {
        self.host.starts_with("127.") || self.host.starts_with("localhost:")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_implied_is_filled_in_and_nonsense_is_none() {
        let full = |text: &str| Reference::parse(text).map(|found| found.full());
        assert_eq!(full("busybox").as_deref(), Some("docker.io/library/busybox:latest"));
        assert_eq!(full("a/b:1").as_deref(), Some("docker.io/a/b:1"));
        assert_eq!(full("127.0.0.1:5000/a/b:1").as_deref(), Some("127.0.0.1:5000/a/b:1"));
        for text in ["", "x.y/UPPER:tag", "x.y/a:b:c", "x.y/a@sha256:12"] {
            assert_eq!(full(text), None, "{text}");
        }
    }
}
