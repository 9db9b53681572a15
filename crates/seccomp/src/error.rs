//! Profiles that no filter can be made of.

use model::{Class, Classified};

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub enum BadProfile {
    /// It is not JSON of the shape of a profile.
    #[error("the profile cannot be read")]
    Json(#[source] serde_json::Error),
    /// It is longer than any profile is.
    #[error("the profile has {length} bytes, the limit is {limit}")]
    TooLong {
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A word that is not known.
    #[error("{field}: {given:?} is not known")]
    Unknown {
        /// Where.
        field: String,
        /// The word.
        given: String,
    },
    /// An action or a flag that needs something that this version does not do.
    #[error("{field}: {what} is not supported")]
    Unsupported {
        /// Where.
        field: String,
        /// What.
        what: String,
    },
    /// A value that means nothing.
    #[error("{field}: {problem}")]
    Bad {
        /// Where.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The program would be longer than the kernel takes.
    #[error("the filter needs {instructions} instructions, the kernel takes {limit}")]
    TooManyInstructions {
        /// How many it needs.
        instructions: usize,
        /// How many there may be (BPF_MAXINSNS).
        limit: usize,
    },
}

impl Classified for BadProfile {
    fn class(&self) -> Class {
        match self {
            Self::Unsupported { .. } => Class::Unimplemented,
            Self::Json(_)
            | Self::TooLong { .. }
            | Self::Unknown { .. }
            | Self::Bad { .. }
            | Self::TooManyInstructions { .. } => Class::InvalidArgument,
        }
    }
}
