//! What can go wrong with a cgroup.

use std::io;
use std::path::PathBuf;

use model::{Class, Classified};

use crate::path::BadPath;

/// A failure, with the file and the value it is about.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// There is no cgroup hierarchy on this machine, or none that can be used.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A path that cannot name a cgroup.
    #[error(transparent)]
    BadPath(#[from] BadPath),
    /// A limit that contradicts itself or the hierarchy in use.
    #[error("{what}: {problem}")]
    BadLimit {
        /// The field.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// This machine lacks what a limit needs.
    #[error("{what} needs {needs}, which this machine does not have")]
    Unsupported {
        /// The field.
        what: String,
        /// A controller or a kernel version.
        needs: String,
    },
    /// A directory could not be made.
    #[error("make the cgroup {}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory could not be opened, or a file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a value.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused a limit.
    #[error("{what} is {value:?}: refused by {}", path.display())]
    Limit {
        /// The field of the runtime specification.
        what: String,
        /// The value.
        value: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The device program could not be loaded or attached.
    #[error("attach the device rules to {}", path.display())]
    Devices {
        /// The cgroup.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// systemd did not do what a unit needs.
    #[error("{what} the unit {unit}")]
    Systemd {
        /// The verb.
        what: &'static str,
        /// The unit.
        unit: String,
        /// Why.
        source: io::Error,
    },
    /// Processes outlived every attempt to kill them.
    #[error("kill all in {}: {left} processes are still there", path.display())]
    StillAlive {
        /// The cgroup.
        path: PathBuf,
        /// How many.
        left: usize,
    },
    /// Processes do not stand still.
    #[error("freeze {}: not all of its processes stand still", path.display())]
    NotFrozen {
        /// The directory.
        path: PathBuf,
    },
    /// A directory could not be removed.
    #[error("remove the cgroup {}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl CgroupError {
    /// The kernel's number for it, where it has one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.io().and_then(io::Error::raw_os_error)
    }

    fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Make { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Limit { source, .. }
            | Self::Devices { source, .. }
            | Self::Systemd { source, .. }
            | Self::Remove { source, .. } => Some(source),
            Self::NoHierarchy
            | Self::BadPath(_)
            | Self::BadLimit { .. }
            | Self::Unsupported { .. }
            | Self::StillAlive { .. }
            | Self::NotFrozen { .. } => None,
        }
    }
}

impl Classified for CgroupError {
    fn class(&self) -> Class {
        use rustix::io::Errno;
        match self {
            Self::NoHierarchy | Self::Unsupported { .. } => Class::Unimplemented,
            Self::BadPath(_) | Self::BadLimit { .. } => Class::InvalidArgument,
            Self::StillAlive { .. } | Self::NotFrozen { .. } => Class::Internal,
            Self::Make { .. }
            | Self::Read { .. }
            | Self::Write { .. }
            | Self::Limit { .. }
            | Self::Devices { .. }
            | Self::Systemd { .. }
            | Self::Remove { .. } => match self.errno().map(Errno::from_raw_os_error) {
                // A cpuset that the cgroup above has not.
                Some(Errno::ACCESS) if matches!(self, Self::Limit { .. }) => Class::InvalidArgument,
                Some(Errno::PERM | Errno::ACCESS) => Class::PermissionDenied,
                Some(Errno::INVAL | Errno::RANGE)
                    if matches!(self, Self::Write { .. } | Self::Limit { .. }) =>
                {
                    Class::InvalidArgument
                }
                // More is in use than is to be allowed.
                Some(Errno::BUSY) if matches!(self, Self::Limit { .. }) => {
                    Class::FailedPrecondition
                }
                Some(Errno::NOMEM | Errno::NOSPC | Errno::AGAIN) => Class::ResourceExhausted,
                _ => Class::Internal,
            },
        }
    }
}
