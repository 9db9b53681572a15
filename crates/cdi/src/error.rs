//! What goes wrong with devices.

use std::io;
use std::path::PathBuf;

use model::{Class, Classified};

/// Why a container does not get its devices.
#[derive(Debug, thiserror::Error)]
pub enum CdiError {
    /// No name of a device.
    #[error("{given:?} is not the name of a CDI device: vendor/class=name is needed")]
    BadName {
        /// As it was given.
        given: String,
    },
    /// An annotation that means no devices.
    #[error("annotation {key}: {problem}")]
    BadAnnotation {
        /// Its key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No file has it.
    #[error("CDI device {name} is not known on this node{hint}")]
    Unknown {
        /// The device.
        name: String,
        /// What of the files may be the reason, or nothing.
        hint: String,
    },
    /// Two files have it, and neither comes first.
    #[error("CDI device {name} is defined twice: in {} and {}", first.display(), second.display())]
    Conflict {
        /// The device.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A device whose description cannot be honoured.
    #[error("CDI device {name} ({}): {field}: {problem}", file.display())]
    Bad {
        /// The device, or `vendor/class` for what all of a file's devices have.
        name: String,
        /// Where it is described.
        file: PathBuf,
        /// Which part.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A device whose description was carried out and failed.
    #[error("CDI device {name} ({}): {problem}", file.display())]
    Failed {
        /// The device, or `vendor/class` for what all of a file's devices have.
        name: String,
        /// Where it is described.
        file: PathBuf,
        /// What failed, and why.
        problem: String,
        /// Of which kind that is.
        class: Class,
    },
    /// A directory of specs could not be read.
    #[error("read the CDI specs in {}", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Classified for CdiError {
    fn class(&self) -> Class {
        match self {
            Self::BadName { .. } | Self::BadAnnotation { .. } => Class::InvalidArgument,
            Self::Unknown { .. } | Self::Conflict { .. } | Self::Bad { .. } => {
                Class::FailedPrecondition
            }
            Self::Failed { class, .. } => *class,
            Self::Read { .. } => Class::Internal,
        }
    }
}
