//! What kind of failure an error is; the one map from these to gRPC codes lives in `cri-server`.

use serde::{Deserialize, Serialize};

/// The class of a failure, decided where it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Class {
    /// The request contradicts itself or the API; nothing was touched.
    InvalidArgument,
    /// The named object does not exist.
    NotFound,
    /// The object exists in a state that does not allow the call.
    FailedPrecondition,
    /// A deadline passed; the message names the phase.
    DeadlineExceeded,
    /// Disk, memory, addresses, process ids or a configured limit are used up.
    ResourceExhausted,
    /// Something outside (a registry, a plugin, a monitor) cannot be reached now; trying again may help.
    Unavailable,
    /// Credentials are missing or refused.
    Unauthenticated,
    /// The caller may not do this.
    PermissionDenied,
    /// This build, kernel or handler does not have the feature.
    Unimplemented,
    /// Data on disk or from a registry is not what its digest or checksum says.
    DataLoss,
    /// Anything else: a fault of ours or of the system.
    Internal,
}

/// An error that knows its class.
pub trait Classified: std::error::Error {
    /// The class of this failure.
    fn class(&self) -> Class;
}

impl Class {
    /// The class of a failed system call, where nothing better is known.
    #[must_use]
    pub fn of_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "a foreign, non-exhaustive list; the rest is internal"
        )]
        match error.kind() {
            K::StorageFull | K::QuotaExceeded | K::OutOfMemory | K::FileTooLarge => {
                Self::ResourceExhausted
            }
            K::TimedOut => Self::DeadlineExceeded,
            _ => Self::Internal,
        }
    }
}
