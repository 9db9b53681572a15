//! What can go wrong, each with its class.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use image_store::{ImageStoreError, LayerError};
use model::{Class, Classified, Digest};
use operations::Lost;
use registry::{BadCredentials, RegistryError};

/// A failure of a use case of images.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The text names no image.
    #[error("{given:?} is not an image reference: {reason}")]
    BadReference {
        /// The text.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The credentials that came with a pull cannot be read.
    #[error(transparent)]
    BadCredentials(#[from] BadCredentials),
    /// There is no such image here.
    #[error("image {given:?} is not here")]
    NoImage {
        /// What was asked for.
        given: String,
    },
    /// The registry failed. Its message comes first: the kubelet looks for the word at its begin.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// What the registry or an archive gave is no image for this node.
    #[error("cannot use {object}: {problem}")]
    Unusable {
        /// The image, manifest or layer.
        object: String,
        /// What is wrong with it.
        problem: String,
        /// Its class.
        class: Class,
    },
    /// The node's policy does not let the image in. The kubelet looks for the first word.
    #[error("SignatureValidationFailed: {reference} may not be pulled: {problem}")]
    Untrusted {
        /// The image.
        reference: String,
        /// Why not.
        problem: String,
    },
    /// Content is not what its digest says.
    #[error("{object} has the digest {found}, not {expected}")]
    Digest {
        /// The file in the archive.
        object: String,
        /// What it should have.
        expected: Digest,
        /// What it has.
        found: Digest,
    },
    /// An archive cannot be read.
    #[error("cannot read the archive")]
    Archive(#[source] io::Error),
    /// An archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(ImageStoreError),
    /// A pull failed here, not at the registry.
    #[error("cannot pull {reference}")]
    Pull {
        /// What was pulled.
        reference: String,
        /// Why not.
        source: Arc<ImagesError>,
    },
    /// The pull as a whole took too long.
    #[error("cannot pull {reference}: not finished after {after:?}, it was at: {phase}")]
    Deadline {
        /// What was pulled.
        reference: String,
        /// What the pull was at.
        phase: &'static str,
        /// How long it was allowed to take.
        after: Duration,
    },
    /// The operation ended without an answer.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// A thread ended without an answer.
    #[error("the work was interrupted: {what}")]
    Interrupted {
        /// How.
        what: String,
    },
    /// The operation that this call joined failed.
    #[error(transparent)]
    Shared(#[from] Arc<ImagesError>),
}

/// A layer whose bytes stopped coming failed at the registry, which says better why.
impl From<ImageStoreError> for ImagesError {
    fn from(error: ImageStoreError) -> Self {
        let ImageStoreError::Layer { digest, source: LayerError::Read(source) } = error else {
            return Self::Store(error);
        };
        match source.downcast::<RegistryError>() {
            Ok(error) => Self::Registry(error),
            Err(source) => {
                Self::Store(ImageStoreError::Layer { digest, source: LayerError::Read(source) })
            }
        }
    }
}

impl ImagesError {
    /// The failure of a pull of `reference`; one that names it already stays as it is.
    pub(crate) fn of_pull(self: Arc<Self>, reference: &impl ToString) -> Self {
        match *self {
            Self::Store(_) | Self::Interrupted { .. } | Self::Lost(_) => {
                Self::Pull { reference: reference.to_string(), source: self }
            }
            Self::BadReference { .. }
            | Self::BadCredentials(_)
            | Self::NoImage { .. }
            | Self::Registry(_)
            | Self::Unusable { .. }
            | Self::Untrusted { .. }
            | Self::Digest { .. }
            | Self::Archive(_)
            | Self::Write(_)
            | Self::Pull { .. }
            | Self::Deadline { .. }
            | Self::Shared(_) => Self::Shared(self),
        }
    }
}

impl ImagesError {
    /// Whether the node's policy is what it failed at.
    pub(crate) fn is_untrusted(&self) -> bool {
        match self {
            Self::Untrusted { .. } => true,
            Self::Shared(source) | Self::Pull { source, .. } => source.is_untrusted(),
            Self::BadReference { .. }
            | Self::BadCredentials(_)
            | Self::NoImage { .. }
            | Self::Registry(_)
            | Self::Unusable { .. }
            | Self::Digest { .. }
            | Self::Archive(_)
            | Self::Write(_)
            | Self::Store(_)
            | Self::Deadline { .. }
            | Self::Lost(_)
            | Self::Interrupted { .. } => false,
        }
    }
}

impl Classified for ImagesError {
    fn class(&self) -> Class {
        match self {
            Self::BadReference { .. } => Class::InvalidArgument,
            Self::BadCredentials(source) => source.class(),
            Self::NoImage { .. } => Class::NotFound,
            Self::Registry(source) => source.class(),
            Self::Unusable { class, .. } => *class,
            Self::Untrusted { .. } => Class::PermissionDenied,
            Self::Digest { .. } => Class::DataLoss,
            Self::Archive(source) => {
                let class = Class::of_io(source);
                if class == Class::Internal { Class::InvalidArgument } else { class }
            }
            Self::Write(source) => Class::of_io(source),
            Self::Store(source) => source.class(),
            Self::Pull { source, .. } => source.class(),
            Self::Deadline { .. } => Class::DeadlineExceeded,
            Self::Lost(source) => source.class(),
            Self::Interrupted { .. } => Class::Internal,
            Self::Shared(source) => source.class(),
        }
    }
}
