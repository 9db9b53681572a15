//! The client itself.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use model::Digest;
use oci_image::{Descriptor, Reference};

use crate::blob::BlobStream;
use crate::config::RegistryConfig;
use crate::credentials::Credentials;
use crate::error::{Cause, Phase, RegistryError};

/// What a reference means at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The digest of `bytes`.
    pub digest: Digest,
    /// What the registry, or else the document, says that it is.
    pub media_type: String,
    /// The manifest or index, already checked to be one.
    pub bytes: Bytes,
    /// The host that it came from.
    pub source: String,
}

/// What a reference means at this moment, without the document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The manifest's or index's digest, as the registry says it.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// Its size in bytes, where the registry says it.
    pub size: Option<u64>,
    /// The host that it came from.
    pub source: String,
}

/// A client for all registries. Cheap to clone; all clones share connections, tokens and limits.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    config: RegistryConfig,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("hosts_dirs", &self.inner.config.hosts_dirs)
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// A client that is set up as `config` says. Nothing is read or connected yet.
    #[must_use]
    pub fn new(config: RegistryConfig) -> Self {
        Self { inner: Arc::new(Inner { config }) }
    }

    /// What `reference` means now: its manifest or index, checked against the digest where the
    /// reference or the registry names one, and small enough to be one.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    #[expect(clippy::unused_async, reason = "the body comes with the transport")]
    pub async fn resolve(
        &self,
        reference: &Reference,
        _credentials: Option<&Credentials>,
    ) -> Result<Resolved, RegistryError> {
        Err(unfinished(reference, Phase::Resolve))
    }

    /// The digest that `reference` means now, without fetching the document. Some registries count
    /// this less than a pull.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    #[expect(clippy::unused_async, reason = "the body comes with the transport")]
    pub async fn head(
        &self,
        reference: &Reference,
        _credentials: Option<&Credentials>,
    ) -> Result<Head, RegistryError> {
        Err(unfinished(reference, Phase::Resolve))
    }

    /// The manifest or index that `descriptor` (of an index) points at, checked against its digest
    /// and size.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    #[expect(clippy::unused_async, reason = "the body comes with the transport")]
    pub async fn manifest(
        &self,
        reference: &Reference,
        _descriptor: &Descriptor,
        _credentials: Option<&Credentials>,
    ) -> Result<Bytes, RegistryError> {
        Err(unfinished(reference, Phase::Manifest))
    }

    /// The whole of a small blob (an image's configuration), checked against its digest and size.
    ///
    /// # Errors
    /// [`RegistryError`] if it is larger than `limit` bytes, and after all hosts and all tries.
    #[expect(clippy::unused_async, reason = "the body comes with the transport")]
    pub async fn small_blob(
        &self,
        reference: &Reference,
        _descriptor: &Descriptor,
        _limit: u64,
        _credentials: Option<&Credentials>,
    ) -> Result<Bytes, RegistryError> {
        Err(unfinished(reference, Phase::Blob))
    }

    /// The blob's bytes from `offset` on. The first connection is made here; later ones, after a
    /// break or a stall, inside the stream.
    ///
    /// With offset 0 the stream checks the digest at its end. With another one only the size can be
    /// checked here, and the digest is the caller's to check.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    #[expect(clippy::unused_async, reason = "the body comes with the transport")]
    pub async fn blob(
        &self,
        reference: &Reference,
        _descriptor: &Descriptor,
        _offset: u64,
        _credentials: Option<&Credentials>,
    ) -> Result<BlobStream, RegistryError> {
        Err(unfinished(reference, Phase::Blob))
    }
}

fn unfinished(reference: &Reference, phase: Phase) -> RegistryError {
    RegistryError {
        reference: reference.to_string(),
        host: reference.registry().to_owned(),
        phase,
        cause: Cause::NoHost,
        tries: 0,
        others: Vec::new(),
    }
}
