//! Whether what is here is still what was pulled, and what is done where it is not.

use std::io::Read;
use std::sync::atomic::AtomicU64;

use image_store::{Image, Replaced};
use model::{Class, Digest, with_causes};
use oci_image::{Manifest, Reference};
use registry::BlobReader;
use tokio::runtime::Handle;

use crate::layout;
use crate::manifest::{self, Part, Texts, unusable};
use crate::source::checked_here;
use crate::{Images, ImagesError};

pub use image_store::LayerCheck;

/// What is done about a layer that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing; it is reported.
    None,
    /// It is brought again, and no other one.
    Mend,
}

/// What came of a damaged layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// Nobody was asked to mend it.
    NotAsked,
    /// It is whole again; its bytes came from here.
    From(String),
    /// No image had it; it is gone.
    Removed,
    /// It was removed meanwhile.
    Gone,
    /// A container has it mounted: it can be mended once that is gone.
    InUse,
    /// Nobody could give it.
    Failed(String),
}

/// A damaged layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong with it.
    pub found: LayerCheck,
    /// Images that have it.
    pub images: Vec<Digest>,
    /// What came of it.
    pub mended: Mended,
}

/// What checking all layers found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Layers that were read.
    pub layers: usize,
    /// Files that were compared.
    pub files: usize,
    /// Layers that are not what was pulled.
    pub damaged: Vec<Damage>,
}

impl Images {
    /// Reads every layer and compares its files with the checksums that were taken when they were
    /// unpacked, one layer after the other.
    ///
    /// # Errors
    /// [`ImagesError::Store`] when the disk fails. A layer that cannot be mended is no error.
    pub async fn check(&self, repair: Repair) -> Result<Checked, ImagesError> {
        let mut checked = Checked::default();
        for chain_id in self.inner.store.layers() {
            let id = chain_id.clone();
            let Some(found) = self.blocking(move |store| store.check_layer(&id)).await? else {
                continue;
            };
            checked.layers += 1;
            checked.files += found.files;
            if found.is_good() {
                continue;
            }
            let images = self.inner.store.images_with(&chain_id);
            let mended = match repair {
                Repair::None => Mended::NotAsked,
                Repair::Mend => self.mend(&chain_id, &images).await?,
            };
            let images = images.into_iter().map(|i| i.id).collect();
            checked.damaged.push(Damage { found, images, mended });
        }
        Ok(checked)
    }

    async fn mend(&self, chain_id: &Digest, images: &[Image]) -> Result<Mended, ImagesError> {
        if self.inner.store.is_in_a_container(chain_id) {
            return Ok(Mended::InUse);
        }
        if images.is_empty() {
            let id = chain_id.clone();
            self.blocking(move |store| store.condemn_layer(&id)).await?;
            return Ok(Mended::Removed);
        }
        let mut last = "its image has no name at a registry".to_owned();
        for image in images {
            match self.mend_from(chain_id, image).await {
                Ok(Some(mended)) => return Ok(mended),
                Ok(None) => {}
                Err(error) => last = with_causes(&error),
            }
        }
        Ok(Mended::Failed(last))
    }

    /// Brings the layer again as `image` describes it; `None` where nobody can be asked for it.
    async fn mend_from(
        &self,
        chain_id: &Digest,
        image: &Image,
    ) -> Result<Option<Mended>, ImagesError> {
        let Some((part, below)) = self.part_of(chain_id, image).await? else { return Ok(None) };
        let digest = part.job.descriptor.digest.clone();
        if let Some(blob) = self.inner.store.kept_blob(&part.job.descriptor)
            && let Ok(done) = self.replace(&part, &below, blob, "the kept blob").await
        {
            return Ok(Some(done));
        }
        if let Some(blob) = layout::find_blob(&self.inner.sources.preloaded, &digest)
            && let Ok(done) = self.replace(&part, &below, blob, "a preloaded directory").await
        {
            return Ok(Some(done));
        }
        let mut failed = None;
        for name in image.repo_digests.iter().chain(&image.repo_tags) {
            let Ok(reference) = Reference::parse(name) else { continue };
            let stream = self.inner.registry.blob(&reference, &part.job.descriptor, 0, None).await;
            let done = match stream {
                Ok(stream) => {
                    let from = stream.source().to_owned();
                    let reader = BlobReader::new(stream, Handle::current());
                    self.replace(&part, &below, reader, &from).await
                }
                Err(e) => Err(e.into()),
            };
            match done {
                Ok(done) => return Ok(Some(done)),
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    async fn replace(
        &self,
        part: &Part,
        below: &[Digest],
        reader: impl Read + Send + 'static,
        from: &str,
    ) -> Result<Mended, ImagesError> {
        let (part, below) = (part.clone(), below.to_vec());
        let done = self
            .blocking(move |store| {
                let blob = checked_here(&part.form);
                store.replace_layer(&part.job, &below, blob, reader, &AtomicU64::new(0))
            })
            .await?;
        Ok(match done {
            Replaced::Done => Mended::From(from.to_owned()),
            Replaced::InUse => Mended::InUse,
            Replaced::Gone => Mended::Gone,
        })
    }

    /// How `image` describes the layer, and what lies under it.
    async fn part_of(
        &self,
        chain_id: &Digest,
        image: &Image,
    ) -> Result<Option<(Part, Vec<Digest>)>, ImagesError> {
        let id = image.id.clone();
        let raw = self.blocking(move |store| store.raw(&id)).await?;
        let object = format!("image {}", image.id);
        let parsed = Manifest::parse(&raw.manifest, None).map_err(|e| unusable(&object, &e))?;
        let Manifest::Image(manifest) = parsed else { return Ok(None) };
        let texts = Texts {
            index_digest: None,
            manifest_digest: raw.manifest_digest,
            manifest: raw.manifest,
            config: raw.config,
        };
        let platform = &self.inner.limits.platform;
        let plan = manifest::plan(&object, texts, &manifest, platform)?;
        let at = plan.parts.iter().position(|p| p.job.chain_id == *chain_id);
        let found = at.and_then(|at| plan.parts.get(at).zip(image.layers.get(..at)));
        Ok(found.map(|(part, below)| (part.clone(), below.to_vec())))
    }
}

/// Whether what went wrong says that the bytes were not the right ones, or found no room.
pub(crate) const fn is_wrong(class: Class) -> bool {
    matches!(class, Class::DataLoss | Class::ResourceExhausted)
}
