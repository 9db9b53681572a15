//! What can go wrong, each with its class.

use std::io;
use std::path::PathBuf;

use model::{Class, Classified, ContainerId, Digest};

use crate::tar::BadArchive;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum ImageStoreError {
    /// Another process has the store.
    #[error("the image store {} belongs to another process", path.display())]
    Locked {
        /// The store's directory.
        path: PathBuf,
    },
    /// The store was written by a newer program.
    #[error("the image store {} has format {found:?}, this program knows {known:?}", path.display())]
    Format {
        /// The store's directory.
        path: PathBuf,
        /// What is written there.
        found: String,
        /// What this program writes.
        known: &'static str,
    },
    /// A system call failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record cannot be read or written.
    #[error("cannot {action} {object}")]
    Record {
        /// What was tried.
        action: &'static str,
        /// Of what.
        object: String,
        /// Why not.
        source: store::StoreError,
    },
    /// A layer cannot be unpacked; nothing of it is left.
    #[error("cannot unpack layer {digest}")]
    Layer {
        /// The blob's digest.
        digest: Digest,
        /// Why not.
        source: LayerError,
    },
    /// An image's configuration cannot be read.
    #[error("image {id} has a bad configuration: {reason}")]
    BadConfig {
        /// The image.
        id: Digest,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer that something needs is not in the store.
    #[error("layer {chain_id}, needed by {needed_by}, is not in the image store")]
    NoLayer {
        /// The layer.
        chain_id: Digest,
        /// Who needs it.
        needed_by: String,
    },
    /// There is no such image.
    #[error("image {given:?} is not here")]
    NoImage {
        /// What was asked for.
        given: String,
    },
    /// The store knows nothing of this container.
    #[error("container {id} has no root file system here")]
    NoContainer {
        /// The container.
        id: ContainerId,
    },
    /// A writable directory cannot be kept to a size.
    #[error(
        "a writable layer cannot be kept to {bytes} bytes: {} has no project quotas (xfs mounted with \
         prjquota, or ext4 with the features quota and project, mounted with prjquota)",
        path.display()
    )]
    NoQuota {
        /// The directory of all containers.
        path: PathBuf,
        /// What was asked for.
        bytes: u64,
    },
    /// All project ids are taken.
    #[error("no project id from {first} to {last} is free for a writable layer")]
    NoProject {
        /// The first of the configured ones.
        first: u32,
        /// The last.
        last: u32,
    },
    /// The image has more in its volumes than a container may write.
    #[error(
        "it has more in its volumes than the container may write: {used} bytes of {limit} were taken when \
         this was noticed"
    )]
    OverLimit {
        /// The limit, in bytes.
        limit: u64,
        /// What the container had when that was noticed, in bytes: it may be less, where there was more to come.
        used: u64,
    },
    /// The text is no image reference.
    #[error("{given:?} is not an image reference: {reason}")]
    BadReference {
        /// The text.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than one image fits.
    #[error("{given:?} fits {count} images")]
    Ambiguous {
        /// The text.
        given: String,
        /// How many.
        count: usize,
    },
    /// A file in a root file system is longer than the caller takes.
    #[error("{} is longer than {max} bytes", path.display())]
    TooLong {
        /// The path inside the root.
        path: PathBuf,
        /// The most that is taken.
        max: u64,
    },
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The blob's bytes stop coming.
    #[error("its bytes cannot be read")]
    Read(#[source] io::Error),
    /// The blob is not compressed as its media type says.
    #[error("it cannot be decompressed")]
    Decompress(#[source] io::Error),
    /// The blob is not the one that was asked for.
    #[error("its digest is {found}")]
    Digest {
        /// Digest of the bytes that came.
        found: Digest,
    },
    /// The blob has another size than its descriptor says.
    #[error("it has {found} bytes, its descriptor says {expected}")]
    Size {
        /// Bytes that came; one more than expected where there are too many.
        found: u64,
        /// Bytes that the descriptor says.
        expected: u64,
    },
    /// The archive is not the one that the image's configuration names.
    #[error("its diff id is {found}, the configuration says {expected}")]
    DiffId {
        /// Digest of the decompressed bytes.
        found: Digest,
        /// Digest in the configuration.
        expected: Digest,
    },
    /// The archive is malformed or asks for something that is not allowed.
    #[error(transparent)]
    Archive(#[from] BadArchive),
    /// The archive holds more than the limit.
    #[error("it has more than {limit} {what}")]
    TooBig {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
    /// An entry cannot be written.
    #[error("entry {entry:?}: cannot {action}")]
    Write {
        /// The entry's name in the archive.
        entry: String,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The layer's record cannot be written.
    #[error("cannot record the layer")]
    Record(#[source] store::StoreError),
    /// The layer's directory cannot be made, synced or put in its place.
    #[error("cannot {action}")]
    Store {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Classified for LayerError {
    fn class(&self) -> Class {
        match self {
            Self::Read(source) => {
                let known = Class::of_io(source);
                if known == Class::Internal { Class::Unavailable } else { known }
            }
            Self::Decompress(_)
            | Self::Digest { .. }
            | Self::Size { .. }
            | Self::DiffId { .. }
            | Self::Archive(_) => Class::DataLoss,
            Self::TooBig { .. } => Class::ResourceExhausted,
            Self::Record(source) => source.class(),
            Self::Write { source, .. } | Self::Store { source, .. } => Class::of_io(source),
        }
    }
}

impl Classified for ImageStoreError {
    fn class(&self) -> Class {
        match self {
            Self::Locked { .. } | Self::Format { .. } | Self::NoQuota { .. } => {
                Class::FailedPrecondition
            }
            Self::Io { source, .. } => Class::of_io(source),
            Self::Record { source, .. } => source.class(),
            Self::Layer { source, .. } => source.class(),
            Self::BadConfig { .. } => Class::DataLoss,
            Self::NoLayer { .. } => Class::Internal,
            Self::NoImage { .. } | Self::NoContainer { .. } => Class::NotFound,
            Self::BadReference { .. } | Self::Ambiguous { .. } => Class::InvalidArgument,
            Self::TooLong { .. } | Self::NoProject { .. } | Self::OverLimit { .. } => {
                Class::ResourceExhausted
            }
        }
    }
}

/// Turns an I/O error into [`ImageStoreError::Io`].
pub(crate) fn at<E: Into<io::Error>>(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(E) -> ImageStoreError {
    let path = path.into();
    move |e| ImageStoreError::Io { action, path, source: e.into() }
}
