//! References: how people name images.
//!
//! Docker's normalisation: `busybox` is `docker.io/library/busybox:latest`. The first part of a
//! name is a host only if it has a dot or a colon in it, has an upper-case letter, or is
//! `localhost`.

use std::fmt;
use std::str::FromStr;

use model::{Class, Classified, Digest};
use serde::{Deserialize, Serialize};

/// The longest host and repository, in bytes.
pub const MAX_NAME: usize = 255;
/// The longest tag, in bytes.
pub const MAX_TAG: usize = 128;
/// The most characters of a text that is no reference that messages repeat.
const MAX_SHOWN: usize = 300;
const HUB: &str = "docker.io";

/// A text that does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not an image reference: {reason}")]
pub struct BadReference {
    /// The text, as [`shown`] shows it.
    pub given: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Classified for BadReference {
    fn class(&self) -> Class {
        Class::InvalidArgument
    }
}

/// A name of an image in its full form. It has a tag, a digest, or both; with both, the digest says
/// which content is meant and the tag is only remembered.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// `host/repository`.
    name: String,
    /// Length of the host in `name`.
    host: usize,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The reference that `text` spells.
    ///
    /// # Errors
    /// [`BadReference`] for anything else, among it image ids.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        Self::read(text).map_err(|reason| BadReference { given: shown(text), reason })
    }

    fn read(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("it is empty");
        }
        if is_hash(text) || text.strip_prefix("sha256:").is_some_and(is_hash) {
            return Err("it is an image id, not a name");
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                (rest, Some(Digest::parse(digest).map_err(|_| "its digest is not one")?))
            }
            None => (text, None),
        };
        let last = rest.rfind('/').map_or(0, |i| i + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(i) => (&rest[..last + i], Some(&rest[last + i + 1..])),
            None => (rest, None),
        };
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let (host, repository) = split_host(name);
        check_host(&host)?;
        check_repository(&repository)?;
        if host.len() + 1 + repository.len() > MAX_NAME {
            return Err("its name is longer than 255 bytes");
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, None) => Some("latest".to_owned()),
            (None, Some(_)) => None,
        };
        Ok(Self { host: host.len(), name: format!("{host}/{repository}"), tag, digest })
    }

    /// Whether `text` names a registry; otherwise docker.io is implied, or whatever the node's
    /// configuration says.
    #[must_use]
    pub fn says_registry(text: &str) -> bool {
        text.split_once('/').is_some_and(|(first, _)| is_host(first))
    }

    /// The registry's host, with its port where it has one: `docker.io`, `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.name[..self.host]
    }

    /// The repository on that host: `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.name[self.host + 1..]
    }

    /// The tag, where there is one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where there is one.
    #[must_use]
    pub const fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Host and repository: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `name@digest`, as in CRI's RepoDigests.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> String {
        format!("{}@{digest}", self.name)
    }

    /// `name:tag`, as in CRI's RepoTags; nothing where there is no tag.
    #[must_use]
    pub fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|t| format!("{}:{t}", self.name))
    }

    /// What a registry is asked for: the digest, else the tag.
    #[must_use]
    pub fn version(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(d), _) => d.as_str(),
            (None, Some(t)) => t,
            (None, None) => "latest",
        }
    }
}

/// `text`, which may be anything, as a message may repeat it: at most 300 characters of it, and without what
/// stands before an `@` that no digest follows, where a URL has its user and password.
#[must_use]
pub fn shown(text: &str) -> String {
    let (scheme, rest) = text.find("://").map_or(("", text), |i| text.split_at(i + 3));
    let is_digest = |after: &str| {
        after.split_once(':').is_some_and(|(algorithm, digits)| {
            algorithm.starts_with("sha")
                && algorithm.bytes().chain(digits.bytes()).all(|b| b.is_ascii_alphanumeric())
        })
    };
    let secret = rest.rmatch_indices('@').find(|(i, _)| !is_digest(&rest[i + 1..]));
    let cut = |text: &str| text.chars().take(MAX_SHOWN).collect();
    match secret {
        Some((i, _)) => cut(&format!("{scheme}[secret]{}", &rest[i..])),
        None => cut(text),
    }
}

/// Host and repository of a name, with what Docker implies.
fn split_host(name: &str) -> (String, String) {
    let (host, repository) = match name.split_once('/') {
        // Upper case alone may be what makes it a host; written in lower case it would be another name.
        Some((first, rest)) if is_host(first) => {
            let lower = first.to_ascii_lowercase();
            (if is_host(&lower) { lower } else { first.to_owned() }, rest)
        }
        Some(_) | None => (HUB.to_owned(), name),
    };
    let host = match host.as_str() {
        "index.docker.io" | "registry-1.docker.io" => HUB.to_owned(),
        _ => host,
    };
    if host == HUB && !repository.contains('/') {
        (host, format!("library/{repository}"))
    } else {
        (host, repository.to_owned())
    }
}

fn is_host(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|b| b.is_ascii_uppercase())
}

/// `name(.name)*(:port)?` or `[ipv6](:port)?`.
fn check_host(host: &str) -> Result<(), &'static str> {
    const BAD: &str = "its registry host is not a host name";
    let (name, port) = match host.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(BAD)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(BAD);
            }
            (None, if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(BAD)?) })
        }
        None => match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        },
    };
    if port.is_some_and(|p| {
        p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit()) || p.parse::<u16>().is_err()
    }) {
        return Err("its registry port is not a port");
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if name.is_none_or(|n| n.split('.').all(label)) { Ok(()) } else { Err(BAD) }
}

/// Components of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn check_repository(repository: &str) -> Result<(), &'static str> {
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("its repository has upper-case letters");
    }
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    for part in repository.split('/') {
        let ends = [part.bytes().next(), part.bytes().next_back()];
        let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let ok = ends.iter().all(|e| e.is_some_and(word))
            && separators
                .into_iter()
                .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'));
        if !ok {
            return Err(
                "its repository is not lower-case words joined by '.', '_', '__', '-' and '/'",
            );
        }
    }
    Ok(())
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let ok = tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-');
    if !ok {
        return Err("its tag is not a word of letters, digits, '_', '.' and '-'");
    }
    if tag.len() > MAX_TAG { Err("its tag is longer than 128 bytes") } else { Ok(()) }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = BadReference;

    fn from_str(s: &str) -> Result<Self, BadReference> {
        Self::parse(s)
    }
}

impl TryFrom<String> for Reference {
    type Error = BadReference;

    fn try_from(s: String) -> Result<Self, BadReference> {
        Self::parse(&s)
    }
}

impl From<Reference> for String {
    fn from(r: Reference) -> Self {
        r.to_string()
    }
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
