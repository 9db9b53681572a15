//! What can go wrong between a spec and a process, and in which phase.

use std::fmt;
use std::io;

use model::{Class, Classified};
use serde::{Deserialize, Serialize};

use crate::plan::BadSpec;

/// A step of the launch; errors and timelines name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Reading the spec.
    Spec,
    /// Making the cgroup and setting its limits.
    Cgroup,
    /// Making the process.
    Clone,
    /// Moving it into its cgroup (v1).
    JoinCgroup,
    /// Entering namespaces that exist.
    JoinNamespaces,
    /// Mounting the root file system.
    Root,
    /// The mounts of the spec.
    Mounts,
    /// Masked and read-only paths.
    Paths,
    /// Making the root the root.
    Pivot,
    /// Kernel parameters and the host name.
    Kernel,
    /// Standard streams and the terminal.
    Stdio,
    /// User, groups, capabilities, limits, working directory.
    Identity,
    /// Programs that run before it is started.
    Hooks,
    /// Finding and executing the program.
    Exec,
}

impl Phase {
    /// The word for logs and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::JoinCgroup => "join-cgroup",
            Self::JoinNamespaces => "join-namespaces",
            Self::Root => "root",
            Self::Mounts => "mounts",
            Self::Paths => "paths",
            Self::Pivot => "pivot",
            Self::Kernel => "kernel",
            Self::Stdio => "stdio",
            Self::Identity => "identity",
            Self::Hooks => "hooks",
            Self::Exec => "exec",
        }
    }
}

/// What failed inside a phase.
#[derive(Debug)]
pub struct Failure {
    /// The action and its object, for example `mount /data`.
    pub what: String,
    /// Why.
    pub source: io::Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl Failure {
    /// For `map_err`: adds what was done to why it failed.
    pub(crate) fn at<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self { what, source: source.into() }
    }

    /// The same of a process that is to be made.
    pub(crate) fn at_birth<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| {
            let source = source.into();
            let is_limit = source.raw_os_error() == Some(rustix::io::Errno::AGAIN.raw_os_error());
            let why = if is_limit {
                ": a limit of processes is reached, its cgroup's (pids.max) or its user's (RLIMIT_NPROC)"
            } else {
                ""
            };
            Self { what: format!("{what}{why}"), source }
        }
    }

    pub(crate) fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), source: io::Error::other(why.into()) }
    }

    /// This failure as the error of its phase.
    #[must_use]
    pub fn during(self, phase: Phase) -> LaunchError {
        let errno = self.source.raw_os_error();
        let mut message = self.to_string();
        // It has to fit into one message of the control socket.
        let mut end = message.len().min(LaunchError::LONGEST);
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        LaunchError { phase, message, errno }
    }
}

/// A process that could not be launched. It travels from the child to the parent and on to the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchError {
    /// Where.
    pub phase: Phase,
    /// What and why.
    pub message: String,
    /// The kernel's number for it, where it has one.
    pub errno: Option<i32>,
}

impl LaunchError {
    /// Longest message, in bytes.
    const LONGEST: usize = 4096;
}

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LaunchError {}

impl From<BadSpec> for LaunchError {
    fn from(bad: BadSpec) -> Self {
        Self { phase: Phase::Spec, message: bad.to_string(), errno: None }
    }
}

impl LaunchError {
    /// What a request can be blamed for depends on what was being done.
    fn class_of(&self, errno: rustix::io::Errno) -> Class {
        use rustix::io::Errno;
        match (self.phase, errno) {
            (Phase::Spec, _)
            | (Phase::Mounts, Errno::NOENT | Errno::NOTDIR | Errno::ISDIR)
            // The working directory.
            | (Phase::Paths | Phase::Identity, Errno::NOTDIR)
            // A kernel parameter that is not there, or a value that it does not take.
            | (Phase::Kernel, Errno::NOENT | Errno::INVAL | Errno::RANGE) => {
                Class::InvalidArgument
            }
            (Phase::Mounts, Errno::OPNOTSUPP) => Class::FailedPrecondition,
            _ => Class::Internal,
        }
    }
}

impl Classified for LaunchError {
    fn class(&self) -> Class {
        use rustix::io::Errno;
        match self.errno.map(Errno::from_raw_os_error) {
            Some(
                Errno::NOSPC
                | Errno::DQUOT
                | Errno::NOMEM
                | Errno::AGAIN
                | Errno::MFILE
                | Errno::NFILE,
            ) => Class::ResourceExhausted,
            Some(errno) => self.class_of(errno),
            None if self.phase == Phase::Spec => Class::InvalidArgument,
            None => Class::Internal,
        }
    }
}
