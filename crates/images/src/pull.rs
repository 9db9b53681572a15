//! Brings an image here.

use std::hash::BuildHasher as _;
use std::time::{Duration, SystemTime};

use image_store::ImageName;
use model::{Digest, ImageSpec, Timestamp};
use oci_image::{Descriptor, ImageManifest, Manifest, Platform, Reference};
use operations::Phases;
use registry::Credentials;

use crate::credentials::are_for;
use crate::demands::Demands;
use crate::manifest::{self, MAX_NESTED, Part, Texts};
use crate::progress::Row;
use crate::short::is_elsewhere;
use crate::source::{Origin, Top};
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
        let candidates = self.candidates(&spec.image)?;
        let last = candidates.len().saturating_sub(1);
        for (i, reference) in candidates.into_iter().enumerate() {
            let given = credentials.clone().filter(|_| are_for(&spec.image, &reference));
            match self.pull_one(reference, given).await {
                Err(e) if i < last && is_elsewhere(&e) => {
                    tracing::debug!(image = spec.image, error = %e, "the next registry is asked");
                }
                done => return done,
            }
        }
        Err(ImagesError::NoImage { given: spec.image.clone() })
    }

    async fn pull_one(
        &self,
        reference: Reference,
        credentials: Option<Credentials>,
    ) -> Result<Pulled, ImagesError> {
        let who = self.inner.hasher.hash_one(&credentials);
        let (key, object) = (format!("{reference} {who:016x}"), reference.to_string());
        let images = self.clone();
        let origin = Origin { reference, credentials, layout: None };
        let work = move |phases: Phases| async move { images.pull_within(origin, phases).await };
        let done = self.inner.operations.run("PullImage", key, object.clone(), work).await;
        done.map_err(|e| e.of_pull(&object))
    }

    /// The pull, bounded by the deadline.
    async fn pull_within(&self, origin: Origin, phases: Phases) -> Result<Pulled, ImagesError> {
        let row = self.inner.progress.begin(&origin.reference.to_string());
        let at = At { row: &row, phases: &phases };
        let reference = origin.reference.to_string();
        let pull = Box::pin(self.pull_now(origin, &at));
        let Some(after) = self.inner.limits.deadline else { return pull.await };
        match tokio::time::timeout(after, pull).await {
            Ok(done) => done,
            Err(_) => Err(ImagesError::Deadline { reference, phase: row.at(), after }),
        }
    }

    async fn pull_now(&self, mut origin: Origin, at: &At<'_>) -> Result<Pulled, ImagesError> {
        at.enter("resolve");
        let demands = self.demands(&origin.reference).await?;
        let top = match self.preloaded(&origin.reference).await? {
            Some((layout, top)) => {
                origin.layout = Some(layout);
                top
            }
            None => {
                if let Some(here) = self.still_here(&origin, &demands).await? {
                    return Ok(here);
                }
                let given = origin.credentials.as_ref();
                let found = self.inner.registry.resolve(&origin.reference, given).await?;
                let size = found.bytes.len() as u64;
                let descriptor = Descriptor::new(&found.media_type, found.digest, size);
                Top { descriptor, bytes: found.bytes.to_vec() }
            }
        };
        let digest = top.descriptor.digest.clone();
        let (texts, manifest) = self.read_texts(&origin, top, at).await?;
        if !demands.is_empty() {
            at.enter("verify");
            let digests: Vec<_> =
                texts.index_digest.iter().chain([&texts.manifest_digest]).cloned().collect();
            self.verify(&origin, &demands, &digests).await?;
        }
        let object = origin.reference.to_string();
        let plan = manifest::plan(&object, texts, &manifest, &self.inner.limits.platform)?;
        at.enter("layers");
        let cells: Vec<_> = plan
            .parts
            .iter()
            .map(|Part { job, .. }| {
                self.inner.progress.cell(&job.chain_id, &job.descriptor.digest, job.descriptor.size)
            })
            .collect();
        at.row.layers(cells.clone());
        let held = self.bring_layers(&origin, plan.parts, &cells).await?;
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
    async fn still_here(
        &self,
        origin: &Origin,
        demands: &Demands,
    ) -> Result<Option<Pulled>, ImagesError> {
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
        if !demands.is_empty() {
            let id = image.id.clone();
            let raw = self.blocking(move |store| store.raw(&id)).await?;
            let recorded: Vec<_> =
                raw.index_digest.into_iter().chain([raw.manifest_digest]).collect();
            // The image came by other documents than those that the registry has for it: which ones
            // lead to it there, only they themselves say.
            if !recorded.contains(&head.digest) {
                return Ok(None);
            }
            let others = recorded.into_iter().filter(|digest| *digest != head.digest);
            let digests: Vec<_> = std::iter::once(head.digest.clone()).chain(others).collect();
            self.verify(origin, demands, &digests).await?;
        }
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
        top: Top,
        at: &At<'_>,
    ) -> Result<(Texts, ImageManifest), ImagesError> {
        let object = origin.reference.to_string();
        let mut index_digest = None;
        let Top { mut descriptor, mut bytes } = top;
        let mut manifest = Self::parse_document(&object, &bytes, &descriptor.media_type)?;
        at.enter("manifest");
        for _ in 0..MAX_NESTED {
            let Manifest::Index(index) = &manifest else { break };
            let platform = &self.inner.limits.platform;
            let chosen = index
                .choose(platform)
                .cloned()
                .ok_or_else(|| manifest::no_platform(&object, index, platform))?;
            index_digest.get_or_insert(descriptor.digest);
            bytes = self.document(origin, &chosen).await?;
            manifest = Self::parse_document(&object, &bytes, &chosen.media_type)?;
            descriptor = chosen;
        }
        let manifest = manifest::image_manifest(&object, manifest)?;
        at.enter("config");
        let config = if manifest.is_image() {
            self.config_of(origin, &manifest.config).await?
        } else {
            Vec::new()
        };
        let manifest_digest = descriptor.digest;
        let texts = Texts { index_digest, manifest_digest, manifest: bytes, config };
        Ok((texts, manifest))
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
