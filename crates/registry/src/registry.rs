//! The client itself.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use model::Digest;
use oci_image::{Descriptor, Reference};
use tokio::sync::Semaphore;

use crate::auth::Sessions;
use crate::blob::BlobStream;
use crate::config::RegistryConfig;
use crate::course::Course;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Endpoints, lock};
use crate::error::{Cause, Phase, RegistryError};
use crate::source::Wanted;

/// The most hosts, and pairs of host and digest, that are remembered for their faults.
const REMEMBERED: usize = 256;

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
    /// Its media type, where the registry says it.
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

/// What all clones share.
pub(crate) struct Inner {
    pub(crate) config: RegistryConfig,
    pub(crate) sessions: Sessions,
    /// Places for parts that are fetched ahead.
    pub(crate) ahead: Arc<Semaphore>,
    endpoints: Endpoints,
    /// Loopback hosts that turned out to speak plain HTTP.
    plain: Mutex<HashSet<String>>,
    /// Hosts that answer range requests wrongly.
    rangeless: Mutex<HashSet<String>>,
    /// Who sent content that was not what its digest says: asked last for it from then on.
    suspects: Mutex<VecDeque<(String, Digest)>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dirs = &self.inner.config.hosts_dirs;
        f.debug_struct("Registry").field("hosts_dirs", dirs).finish_non_exhaustive()
    }
}

/// What a host must be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    Resolve,
    Pull,
    /// To take content: only a registry's own host does.
    Push,
}

impl Registry {
    /// A client that is set up as `config` says. Nothing is read or connected yet.
    #[must_use]
    pub fn new(config: RegistryConfig) -> Self {
        let inner = Inner {
            ahead: Arc::new(Semaphore::new(config.limits.ranges_ahead)),
            config,
            sessions: Sessions::default(),
            endpoints: Endpoints::default(),
            plain: Mutex::default(),
            rangeless: Mutex::default(),
            suspects: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// What `reference` means now: its manifest or index, checked against the digest where the
    /// reference or the registry names one, and small enough to be one.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    pub async fn resolve(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Resolved, RegistryError> {
        let mut course = self.course(reference, Phase::Resolve, want_for(reference)).await?;
        while let Some(endpoint) = course.next().await {
            let own = self.inner.credentials_at(&endpoint, reference, credentials);
            match self.inner.resolve_at(&endpoint, reference, &own).await {
                Ok(resolved) => return Ok(resolved),
                Err(failure) => course.failed(failure),
            }
        }
        Err(course.error())
    }

    /// The digest that `reference` means now, without fetching the document. Some registries count
    /// this less than a pull.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    pub async fn head(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Head, RegistryError> {
        let mut course = self.course(reference, Phase::Resolve, want_for(reference)).await?;
        while let Some(endpoint) = course.next().await {
            let own = self.inner.credentials_at(&endpoint, reference, credentials);
            match self.inner.head_at(&endpoint, reference, &own).await {
                Ok(head) => return Ok(head),
                Err(failure) => course.failed(failure),
            }
        }
        Err(course.error())
    }

    /// The manifest or index that `descriptor` (of an index) points at, checked against its digest
    /// and size.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    pub async fn manifest(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        credentials: Option<&Credentials>,
    ) -> Result<Bytes, RegistryError> {
        let mut course = self.course(reference, Phase::Manifest, Want::Pull).await?;
        while let Some(endpoint) = course.next().await {
            let own = self.inner.credentials_at(&endpoint, reference, credentials);
            match self.inner.manifest_at(&endpoint, reference, descriptor, &own).await {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => course.failed(failure),
            }
        }
        Err(course.error())
    }

    /// The whole of a small blob (an image's configuration), checked against its digest and size.
    ///
    /// # Errors
    /// [`RegistryError`] if it is larger than `limit` bytes, and after all hosts and all tries.
    pub async fn small_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Bytes, RegistryError> {
        // A second go leaves out whoever sent something wrong, if there is another one.
        let first = self.whole_blob(reference, descriptor, limit, credentials).await;
        match first {
            Err(e) if matches!(e.cause, Cause::DigestMismatch { .. }) => {
                self.whole_blob(reference, descriptor, limit, credentials).await
            }
            other => other,
        }
    }

    async fn whole_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        limit: u64,
        credentials: Option<&Credentials>,
    ) -> Result<Bytes, RegistryError> {
        if descriptor.size > limit {
            return Err(failed(reference, Phase::Blob, Cause::TooLarge { limit }));
        }
        let mut stream = self.blob(reference, descriptor, 0, credentials).await?;
        let mut all = BytesMut::new();
        while let Some(bytes) = stream.next().await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all.freeze())
    }

    /// The blob's bytes from `offset` on. The first connection is made here; later ones, after a
    /// break or a stall, inside the stream.
    ///
    /// With offset 0 the stream checks the digest at its end. With another one only the size can be
    /// checked here, and the digest is the caller's to check.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries.
    pub async fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
        credentials: Option<&Credentials>,
    ) -> Result<BlobStream, RegistryError> {
        if offset > descriptor.size {
            let digest = descriptor.digest.clone();
            let expected = descriptor.size;
            let cause = Cause::SizeMismatch { digest, expected, found: offset };
            return Err(failed(reference, Phase::Blob, cause));
        }
        let endpoints = self.endpoints(reference, Phase::Blob, Want::Pull).await?;
        let trusted = |e: &Arc<Endpoint>| !self.inner.is_suspect(&e.host, &descriptor.digest);
        let (mut order, suspects): (Vec<_>, Vec<_>) = endpoints.into_iter().partition(trusted);
        order.extend(suspects);
        let course = Course::new(order, &self.inner.config.limits, reference, Phase::Blob);
        let wanted = Wanted {
            inner: Arc::clone(&self.inner),
            reference: reference.clone(),
            descriptor: descriptor.clone(),
            credentials: credentials.cloned(),
        };
        BlobStream::open(wanted, course, offset).await
    }

    pub(crate) async fn course(
        &self,
        reference: &Reference,
        phase: Phase,
        want: Want,
    ) -> Result<Course, RegistryError> {
        let endpoints = self.endpoints(reference, phase, want).await?;
        Ok(Course::new(endpoints, &self.inner.config.limits, reference, phase))
    }

    pub(crate) const fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// The hosts that can do `want`, in the order in which they are asked.
    pub(crate) async fn endpoints(
        &self,
        reference: &Reference,
        phase: Phase,
        want: Want,
    ) -> Result<Vec<Arc<Endpoint>>, RegistryError> {
        let inner = Arc::clone(&self.inner);
        let registry = reference.registry().to_owned();
        let task = move || inner.endpoints.of(&registry, &inner.config);
        let plan = match tokio::task::spawn_blocking(task).await {
            Ok(Ok(plan)) => plan,
            Ok(Err(words)) => {
                return Err(failed(reference, Phase::Configure, Cause::Config(words)));
            }
            Err(e) => {
                return Err(failed(reference, Phase::Configure, Cause::Config(e.to_string())));
            }
        };
        let can = |e: &&Arc<Endpoint>| match want {
            Want::Resolve => e.capabilities.resolve,
            Want::Pull => e.capabilities.pull,
            Want::Push => e.own,
        };
        let all: Vec<_> = plan.iter().filter(can).cloned().collect();
        if all.is_empty() { Err(failed(reference, phase, Cause::NoHost)) } else { Ok(all) }
    }
}

/// A digest needs no host that is trusted with tags.
fn want_for(reference: &Reference) -> Want {
    if reference.digest().is_some() { Want::Pull } else { Want::Resolve }
}

fn failed(reference: &Reference, phase: Phase, cause: Cause) -> RegistryError {
    RegistryError {
        reference: reference.to_string(),
        host: reference.registry().to_owned(),
        phase,
        cause,
        tries: 0,
        others: Vec::new(),
    }
}

impl Inner {
    /// Who to be at `endpoint`: the request's credentials for the registry's own host; at a mirror
    /// this node's credentials for the mirror first.
    pub(crate) fn credentials_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        given: Option<&Credentials>,
    ) -> Credentials {
        let node = &endpoint.node;
        let repository = reference.repository();
        let given = given.filter(|c| **c != Credentials::None);
        let of_mirror = (!endpoint.own).then(|| node.find(&endpoint.host, repository)).flatten();
        let found = of_mirror.or(given).or_else(|| node.find(reference.registry(), repository));
        found.cloned().unwrap_or_default()
    }

    pub(crate) fn is_plain(&self, host: &str) -> bool {
        lock(&self.plain).contains(host)
    }

    pub(crate) fn remember_plain(&self, host: &str) {
        remember(&self.plain, host);
    }

    /// A host that spoke plain HTTP may have been replaced by one that does not.
    pub(crate) fn forget_plain(&self, host: &str) {
        lock(&self.plain).remove(host);
    }

    pub(crate) fn is_rangeless(&self, host: &str) -> bool {
        lock(&self.rangeless).contains(host)
    }

    pub(crate) fn remember_rangeless(&self, host: &str) {
        remember(&self.rangeless, host);
    }

    fn is_suspect(&self, host: &str, digest: &Digest) -> bool {
        lock(&self.suspects).iter().any(|(h, d)| h == host && d == digest)
    }

    pub(crate) fn suspect(&self, host: String, digest: Digest) {
        let mut suspects = lock(&self.suspects);
        if suspects.len() >= REMEMBERED {
            suspects.pop_front();
        }
        suspects.push_back((host, digest));
    }
}

fn remember(set: &Mutex<HashSet<String>>, host: &str) {
    let mut set = lock(set);
    if set.len() >= REMEMBERED {
        set.clear();
    }
    set.insert(host.to_owned());
}
