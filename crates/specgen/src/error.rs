//! Requests that no spec can be made of.

use std::path::PathBuf;

use model::{Class, Classified};

/// Why there is no spec. No variant shows an environment's value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither the request nor the image names a program.
    #[error("no command: neither the request nor the image's configuration names a program")]
    NoCommand,
    /// A privileged container in a sandbox that was not asked for as privileged.
    #[error("a privileged container needs a privileged sandbox")]
    PrivilegedInPlainSandbox,
    /// A capability that this version does not know.
    #[error("capability {name:?} is not known")]
    UnknownCapability {
        /// The name as it was given.
        name: String,
    },
    /// A user that the image's passwd does not have.
    #[error("user {name:?} is not in the image's /etc/passwd")]
    UnknownUser {
        /// The name.
        name: String,
    },
    /// A group that the image's group file does not have.
    #[error("group {name:?} is not in the image's /etc/group")]
    UnknownGroup {
        /// The name.
        name: String,
    },
    /// A user or group number that no process can have.
    #[error("{given:?} is not a user or group id (0 to 2147483647)")]
    BadId {
        /// The number as it was given.
        given: String,
    },
    /// A group without a user.
    #[error("run_as_group needs run_as_user or run_as_username")]
    GroupWithoutUser,
    /// A mount that contradicts itself.
    #[error("mount {}: {problem}", destination.display())]
    BadMount {
        /// Where it was to be.
        destination: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A recursively read-only mount where the handler cannot make one. The kubelet knows the first word.
    #[error("RROUnsupported: mount {}: the runtime handler has no recursive read-only mounts", destination.display())]
    RecursiveReadOnlyUnsupported {
        /// Where it was to be.
        destination: PathBuf,
    },
    /// Something that the handler or the host does not have.
    #[error("{what} needs {needs}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What it needs.
        needs: String,
    },
    /// A value that means nothing.
    #[error("{field}: {problem}")]
    Bad {
        /// The field of the request.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Classified for SpecError {
    fn class(&self) -> Class {
        match self {
            Self::Unsupported { .. } | Self::RecursiveReadOnlyUnsupported { .. } => {
                Class::Unimplemented
            }
            Self::NoCommand
            | Self::PrivilegedInPlainSandbox
            | Self::UnknownCapability { .. }
            | Self::UnknownUser { .. }
            | Self::UnknownGroup { .. }
            | Self::BadId { .. }
            | Self::GroupWithoutUser
            | Self::BadMount { .. }
            | Self::Bad { .. } => Class::InvalidArgument,
        }
    }
}
