//! What can go wrong between here and a registry.

use std::fmt;
use std::time::Duration;

use model::{Class, Classified, Digest};

/// The most characters of a registry's own words that an error repeats.
const MAX_WORDS: usize = 200;

/// What was being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the configuration of the registry's hosts.
    Configure,
    /// Asking what a tag means.
    Resolve,
    /// Asking for a token.
    Authorize,
    /// Fetching a manifest by its digest.
    Manifest,
    /// Asking what refers to a manifest.
    Referrers,
    /// Fetching a configuration or a layer.
    Blob,
    /// Sending content.
    Push,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configure => "configure",
            Self::Resolve => "resolve",
            Self::Authorize => "authorize",
            Self::Manifest => "manifest",
            Self::Referrers => "referrers",
            Self::Blob => "blob",
            Self::Push => "push",
        })
    }
}

/// Why it failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// No connection: name resolution, TCP, TLS or a proxy failed.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The server's certificate is not trusted.
    #[error("the server's certificate is not accepted: {0}")]
    Certificate(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    NoAnswer(Duration),
    /// The connection is there, but too little comes through it.
    #[error("the transfer stalled after {received} bytes (below {rate} bytes/s for {} s)", .window.as_secs_f32())]
    Stalled {
        /// Bytes of this content that had arrived.
        received: u64,
        /// The least that was to arrive per second.
        rate: u64,
        /// How long it was watched.
        window: Duration,
    },
    /// The connection ended in the middle.
    #[error("the connection broke after {received} bytes: {detail}")]
    Broken {
        /// Bytes of this content that had arrived.
        received: u64,
        /// What the connection says.
        detail: String,
    },
    /// Credentials are missing, or the ones at hand are not accepted.
    #[error("authentication failed: {0}")]
    Unauthorized(String),
    /// The credentials do not allow it.
    #[error("access is denied: {0}")]
    Forbidden(String),
    /// The registry does not have it.
    #[error("not found: {0}")]
    NotFound(String),
    /// The registry limits how often it is asked.
    #[error("too many requests: {0}")]
    TooManyRequests(String),
    /// Another status that stands for a failure.
    #[error("the server answered {code}: {message}")]
    Status {
        /// The HTTP status.
        code: u16,
        /// The registry's own words, made harmless.
        message: String,
    },
    /// Content that is not what its digest says.
    #[error("the content's digest is {found}, not {expected}")]
    DigestMismatch {
        /// The digest that was asked for.
        expected: Digest,
        /// The digest of what came.
        found: Digest,
    },
    /// Content that is longer or shorter than announced.
    #[error("the content of {digest} has {found} bytes, not {expected}")]
    SizeMismatch {
        /// The content.
        digest: Digest,
        /// The size that its descriptor says.
        expected: u64,
        /// The size that the server says, or that came.
        found: u64,
    },
    /// A document longer than what is read.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A manifest that cannot be used.
    #[error("{0}")]
    Manifest(String, Class),
    /// The server does not keep to the protocol.
    #[error("the server broke the protocol: {0}")]
    Protocol(String),
    /// A file of this node's configuration cannot be used.
    #[error("configuration: {0}")]
    Config(String),
    /// The configuration leaves no host that may be asked.
    #[error("no configured host may be asked for this")]
    NoHost,
}

/// A failure with all that is known about where it happened.
#[derive(Debug, Clone, thiserror::Error)]
pub struct RegistryError {
    /// The image that was wanted.
    pub reference: String,
    /// The host that failed; for several, the registry's own.
    pub host: String,
    /// What was being done.
    pub phase: Phase,
    /// Why it failed.
    pub cause: Cause,
    /// Tries made, on all hosts together.
    pub tries: u32,
    /// What other hosts (mirrors) said, shortly.
    pub others: Vec<String>,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The kubelet knows this word and tells its user that the registry cannot be reached.
        if self.cause.is_unreachable() {
            f.write_str("RegistryUnavailable: ")?;
        }
        let Self { reference, host, phase, cause, .. } = self;
        write!(f, "{reference}: {phase} from {host}: {cause}")?;
        if self.tries > 1 {
            write!(f, " (after {} tries)", self.tries)?;
        }
        for other in &self.others {
            write!(f, "; {other}")?;
        }
        Ok(())
    }
}

impl Cause {
    /// Whether the registry could not be reached, or stopped talking.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Certificate(_)
                | Self::NoAnswer(_)
                | Self::Stalled { .. }
                | Self::Broken { .. }
        )
    }

    /// Whether the same request may succeed at the same host a little later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::NoAnswer(_)
            | Self::Stalled { .. }
            | Self::Broken { .. }
            | Self::TooManyRequests(_) => true,
            Self::Status { code, .. } => *code >= 500 || *code == 408,
            Self::Certificate(_)
            | Self::Unauthorized(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::DigestMismatch { .. }
            | Self::SizeMismatch { .. }
            | Self::TooLarge { .. }
            | Self::Manifest(..)
            | Self::Protocol(_)
            | Self::Config(_)
            | Self::NoHost => false,
        }
    }
}

impl Classified for RegistryError {
    fn class(&self) -> Class {
        match &self.cause {
            Cause::Unreachable(_)
            | Cause::Certificate(_)
            | Cause::NoAnswer(_)
            | Cause::Stalled { .. }
            | Cause::Broken { .. }
            | Cause::TooManyRequests(_)
            | Cause::Protocol(_) => Class::Unavailable,
            Cause::Status { code, .. } if *code >= 500 || *code == 408 => Class::Unavailable,
            Cause::Status { .. } => Class::Internal,
            Cause::Unauthorized(_) => Class::Unauthenticated,
            Cause::Forbidden(_) => Class::PermissionDenied,
            Cause::NotFound(_) => Class::NotFound,
            Cause::DigestMismatch { .. } | Cause::SizeMismatch { .. } => Class::DataLoss,
            Cause::TooLarge { .. } => Class::ResourceExhausted,
            Cause::Manifest(_, class) => *class,
            Cause::Config(_) | Cause::NoHost => Class::FailedPrecondition,
        }
    }
}

/// A server's words, short and without control characters: they end up in terminals and logs.
pub(crate) fn harmless(words: &str) -> String {
    words.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_WORDS).collect()
}
