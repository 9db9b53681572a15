//! What can go wrong with a verb.

use std::io;

use cgroups::CgroupError;
use launcher::{BadSpec, Failure, LaunchError};
use model::{Class, Classified};

/// A verb that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    /// The command line is not one.
    #[error("{0}")]
    Usage(String),
    /// There is no such container. containerd and podman know these words.
    #[error("container {0:?} does not exist")]
    NoSuchContainer(String),
    /// There is one already.
    #[error("container {0:?} already exists")]
    Exists(String),
    /// It is not in a state for this. containerd knows `container not running`.
    #[error("{what}: {problem}")]
    WrongState {
        /// What was to be done.
        what: String,
        /// The state that it is in.
        problem: String,
    },
    /// A system call failed.
    #[error("{what}")]
    Io {
        /// The action and its object.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{what}")]
    Json {
        /// The file.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// The seccomp profile cannot be compiled.
    #[error("config.json: linux.seccomp")]
    Seccomp(#[from] seccomp::BadProfile),
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    /// The launch itself.
    #[error("{}", .0.phase.as_str())]
    Launch(#[from] LaunchError),
    /// A step of it on this side.
    #[error("{}", .0.what)]
    Step(Failure, #[source] io::Error),
}

impl OciError {
    /// For `map_err`: adds what was done to why it failed.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source: source.into() }
    }

    pub(crate) fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        let what = what.into();
        move |source| Self::Json { what, source }
    }

    /// The message with all its causes.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

impl From<BadSpec> for OciError {
    fn from(bad: BadSpec) -> Self {
        Self::Launch(bad.into())
    }
}

impl From<Failure> for OciError {
    fn from(failure: Failure) -> Self {
        let source = io::Error::new(failure.source.kind(), failure.source.to_string());
        Self::Step(failure, source)
    }
}

impl Classified for OciError {
    fn class(&self) -> Class {
        match self {
            Self::Usage(_) | Self::Json { .. } => Class::InvalidArgument,
            Self::NoSuchContainer(_) => Class::NotFound,
            Self::Exists(_) | Self::WrongState { .. } => Class::FailedPrecondition,
            Self::Io { source, .. } | Self::Step(_, source) => Class::of_io(source),
            Self::Seccomp(error) => error.class(),
            Self::Cgroup(error) => error.class(),
            Self::Launch(error) => error.class(),
        }
    }
}
