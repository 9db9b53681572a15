//! Brings an image here.

use std::hash::BuildHasher as _;
use std::time::{Duration, SystemTime};

use image_store::ImageName;
use model::{Class, Digest, ImageSpec, Timestamp};
use oci_image::{MAX_CONFIG, Manifest, Platform, Reference};
use operations::Phases;
use registry::{Credentials, Resolved};

use crate::layers::Origin;
use crate::manifest::{self, MAX_NESTED, Part, Plan, Texts, unusable};
use crate::progress::Row;
use crate::{Images, ImagesError};

/// Bounds of pulls.
#[derive(Debug, Clone)]
pub struct PullLimits {
    /// Layers that are fetched and unpacked at the same time, over all pulls. Past it they wait.
    pub layers_at_once: usize,
    /// How long a pull may take as a whole; no limit where `None`. A registry that stalls is cut off
    /// earlier by the registry's own limits.
    pub deadline: Option<Duration>,
    /// The platform that images are chosen for.
    pub platform: Platform,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { layers_at_once: 6, deadline: None, platform: Platform::host() }
    }
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id, the digest of its configuration: CRI's `image_ref`.
    pub id: Digest,
    /// The digest that the registry gave for the reference: of the index, or of the manifest.
    pub digest: Digest,
}

/// The time by the wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

/// Where a pull is, for those who watch and for errors.
struct At<'a> {
    row: &'a Row,
    phases: &'a Phases,
}

impl At<'_> {
    fn enter(&self, phase: &'static str) {
        self.row.phase(phase);
        self.phases.enter(phase, None);
    }
}

impl Images {
    /// Brings the image that `spec` names here, whole and verified, or joins the pull that does.
    ///
    /// # Errors
    /// [`ImagesError`]; nothing of a layer that failed is left, layers that are whole are kept for a
    /// while, so that the next pull goes on from there.
    pub async fn pull(
        &self,
        spec: &ImageSpec,
        credentials: Option<Credentials>,
    ) -> Result<Pulled, ImagesError> {
        let reference = Reference::parse(&spec.image).map_err(|e| ImagesError::BadReference {
            given: e.given.clone(),
            reason: e.reason.to_owned(),
        })?;
        let who = self.inner.hasher.hash_one(&credentials);
        let (key, object) = (format!("{reference} {who:016x}"), reference.to_string());
        let images = self.clone();
        let origin = Origin { reference, credentials };
        let work = move |phases: Phases| async move { images.pull_within(origin, phases).await };
        let done = self.inner.operations.run("PullImage", key, object.clone(), work).await;
        done.map_err(|e| e.of_pull(&object))
    }

    /// The pull, bounded by the deadline.
    async fn pull_within(&self, origin: Origin, phases: Phases) -> Result<Pulled, ImagesError> {
        let row = self.inner.progress.begin(&origin.reference.to_string());
        let at = At { row: &row, phases: &phases };
        let pull = Box::pin(self.pull_now(&origin, &at));
        let Some(after) = self.inner.limits.deadline else { return pull.await };
        match tokio::time::timeout(after, pull).await {
            Ok(done) => done,
            Err(_) => Err(ImagesError::Deadline {
                reference: origin.reference.to_string(),
                phase: row.at(),
                after,
            }),
        }
    }

    async fn pull_now(&self, origin: &Origin, at: &At<'_>) -> Result<Pulled, ImagesError> {
        at.enter("resolve");
        if let Some(here) = self.still_here(origin).await? {
            return Ok(here);
        }
        let registry = &self.inner.registry;
        let resolved = registry.resolve(&origin.reference, origin.credentials.as_ref()).await?;
        let digest = resolved.digest.clone();
        let plan = self.read_texts(origin, resolved, at).await?;
        at.enter("layers");
        let cells: Vec<_> = plan
            .parts
            .iter()
            .map(|Part { job, .. }| {
                self.inner.progress.cell(&job.chain_id, &job.descriptor.digest, job.descriptor.size)
            })
            .collect();
        at.row.layers(cells.clone());
        let held = self.bring_layers(origin, plan.parts, &cells).await?;
        at.enter("commit");
        let names = names(&origin.reference, &digest);
        let id = plan.new.config_digest.clone();
        self.blocking(move |store| {
            let image = store.commit_image(plan.new, &names);
            // Until here the layers were kept by this pull; now the image keeps them.
            drop(held);
            image
        })
        .await?;
        Ok(Pulled { id, digest })
    }

    /// The image, if its name is here and means the same at the registry, which also says whether
    /// the caller may have it. A registry that cannot tell is asked in full.
    async fn still_here(&self, origin: &Origin) -> Result<Option<Pulled>, ImagesError> {
        let store = &self.inner.store;
        let reference = &origin.reference;
        if store.find(&reference.to_string())?.is_none() {
            return Ok(None);
        }
        let head = self.inner.registry.head(reference, origin.credentials.as_ref()).await;
        let Ok(head) = head else { return Ok(None) };
        let Some(image) = store.find(&reference.with_digest(&head.digest))? else {
            return Ok(None);
        };
        let (names, id) = (names(reference, &head.digest), image.id.clone());
        self.blocking(move |store| {
            names.iter().try_for_each(|n| store.tag(n, &image.id).map(drop))
        })
        .await?;
        Ok(Some(Pulled { id, digest: head.digest }))
    }

    /// Follows indexes to the manifest for this platform, and fetches the configuration.
    async fn read_texts(
        &self,
        origin: &Origin,
        resolved: Resolved,
        at: &At<'_>,
    ) -> Result<Plan, ImagesError> {
        let Origin { reference, credentials } = origin;
        let (registry, credentials) = (&self.inner.registry, credentials.as_ref());
        let object = reference.to_string();
        let parse = |bytes: &[u8], media_type: &str| {
            Manifest::parse(bytes, Some(media_type)).map_err(|e| unusable(&object, &e))
        };
        let mut index_digest = None;
        let (mut digest, mut bytes) = (resolved.digest, resolved.bytes);
        let mut manifest = parse(&bytes, &resolved.media_type)?;
        at.enter("manifest");
        for _ in 0..MAX_NESTED {
            let Manifest::Index(index) = &manifest else { break };
            let platform = &self.inner.limits.platform;
            let chosen = index
                .choose(platform)
                .cloned()
                .ok_or_else(|| manifest::no_platform(&object, index, platform))?;
            index_digest.get_or_insert(digest);
            bytes = registry.manifest(reference, &chosen, credentials).await?;
            manifest = parse(&bytes, &chosen.media_type)?;
            digest = chosen.digest;
        }
        let manifest = manifest::image_manifest(&object, manifest)?;
        at.enter("config");
        let config = match self.inner.store.find(manifest.config.digest.as_str())? {
            // The same image by another manifest: its configuration is here.
            Some(image) => self.blocking(move |store| store.raw(&image.id)).await?.config,
            None => {
                let config = &manifest.config;
                if config.size > MAX_CONFIG {
                    return Err(ImagesError::Unusable {
                        object,
                        problem: format!("its configuration has {} bytes", config.size),
                        class: Class::ResourceExhausted,
                    });
                }
                registry.small_blob(reference, config, MAX_CONFIG, credentials).await?.to_vec()
            }
        };
        let texts =
            Texts { index_digest, manifest_digest: digest, manifest: bytes.to_vec(), config };
        manifest::plan(&object, texts, &manifest)
    }
}

/// The names that a pull gives: the tag, unless a digest says what is meant, and the digest.
fn names(reference: &Reference, digest: &Digest) -> Vec<ImageName> {
    let mut names = vec![ImageName::by_digest(reference, digest)];
    if reference.digest().is_none() {
        names.push(ImageName::of(reference));
    }
    names
}
