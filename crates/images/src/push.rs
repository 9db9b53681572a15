//! Sends an image to a registry.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use flate2::write::GzEncoder;
use image_store::{Image, ImageStore, RawImage, Scratch};
use model::{Algorithm, Class, Digest};
use oci_image::{Descriptor, Hasher, ImageManifest, Manifest, Reference, types};
use operations::Phases;
use registry::{AuthParts, Credentials};

use crate::credentials::{are_for, credentials};
use crate::manifest::unusable;
use crate::save::{Hashing, Packed, unpacked, with_diff_ids};
use crate::{Images, ImagesError};

/// An image that a registry has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The name that it was sent as, in full.
    pub name: String,
    /// The digest of its manifest there.
    pub digest: Digest,
}

/// What is sent.
struct Parcel {
    /// The blobs, and the files that they are in.
    blobs: Vec<(Descriptor, PathBuf)>,
    media_type: String,
    manifest: Vec<u8>,
    _scratch: Scratch,
}

impl Images {
    /// Sends the image that `text` names to the registry of `name`, or of its own name. Where all its
    /// blobs are kept, it keeps its digest; else its layers are packed anew.
    ///
    /// # Errors
    /// [`ImagesError`]; what has been sent by then stays at the registry, without a name.
    pub async fn push(
        &self,
        text: &str,
        name: Option<&str>,
        auth: &AuthParts,
    ) -> Result<Pushed, ImagesError> {
        let image = self
            .find_prefix(text)?
            .ok_or_else(|| ImagesError::NoImage { given: text.to_owned() })?;
        let own = image.repo_tags.iter().find(|t| t.as_str() == text).or(image.repo_tags.first());
        let name = name.map(str::to_owned).or_else(|| own.cloned());
        let name = name.ok_or_else(|| ImagesError::BadReference {
            given: text.to_owned(),
            reason: "the image has no name, so one must be given".to_owned(),
        })?;
        let reference = self.first_candidate(&name)?;
        let given = credentials(&name, "", auth)?.filter(|_| are_for(&name, &reference));
        if reference.digest().is_some() {
            let reason = "an image is pushed by a tag".to_owned();
            return Err(ImagesError::BadReference { given: name, reason });
        }
        let who = std::hash::BuildHasher::hash_one(&self.inner.hasher, &given);
        let key = format!("{} {reference} {who:016x}", image.id);
        let (images, object) = (self.clone(), reference.to_string());
        let work = move |phases: Phases| async move {
            images.push_now(&image, &reference, given.as_ref(), &phases).await
        };
        let done = self.inner.operations.run("PushImage", key, object, work).await;
        done.map_err(ImagesError::Shared)
    }

    async fn push_now(
        &self,
        image: &Image,
        reference: &Reference,
        given: Option<&Credentials>,
        phases: &Phases,
    ) -> Result<Pushed, ImagesError> {
        phases.enter("pack", None);
        let (store, image) = (self.inner.store.clone(), image.clone());
        let packed = tokio::task::spawn_blocking(move || pack_all(&store, &image)).await;
        let parcel = packed.map_err(|e| ImagesError::Interrupted { what: e.to_string() })??;
        phases.enter("send blobs", None);
        let registry = &self.inner.registry;
        for (descriptor, file) in &parcel.blobs {
            registry.push_blob(reference, descriptor, file, given).await?;
        }
        phases.enter("send the manifest", None);
        let (media_type, manifest) = (&parcel.media_type, parcel.manifest.into());
        let digest = registry.push_manifest(reference, media_type, manifest, given).await?;
        Ok(Pushed { name: reference.to_string(), digest })
    }
}

fn pack_all(store: &ImageStore, image: &Image) -> Result<Parcel, ImagesError> {
    let scratch = store.scratch()?;
    let raw = store.raw(&image.id)?;
    if let Some(kept) = all_kept(store, &raw, &scratch)? {
        let (manifest, blobs) = kept;
        let media_type = manifest.media_type;
        return Ok(Parcel { blobs, media_type, manifest: raw.manifest, _scratch: scratch });
    }
    let mut packed: Vec<Packed> = Vec::new();
    for (i, chain_id) in image.layers.iter().enumerate() {
        packed.push(pack(store, &scratch, chain_id, i)?);
    }
    let diff_ids: Vec<_> = packed.iter().map(|p| p.diff_id.clone()).collect();
    let config = with_diff_ids(&raw.config, &diff_ids).map_err(|e| ImagesError::Unusable {
        object: format!("the configuration of image {}", image.id),
        problem: e.to_string(),
        class: Class::DataLoss,
    })?;
    let config_file = write(&scratch, "config", &config)?;
    let manifest = ImageManifest {
        media_type: types::OCI_MANIFEST.to_owned(),
        config: Descriptor::new(types::OCI_CONFIG, oci_image::sha256(&config), config.len() as u64),
        layers: packed.iter().map(|p| p.descriptor.clone()).collect(),
        annotations: std::collections::BTreeMap::new(),
    };
    let mut blobs: Vec<_> = packed.into_iter().map(|p| (p.descriptor, p.path)).collect();
    blobs.push((manifest.config.clone(), config_file));
    let (media_type, manifest) = (manifest.media_type.clone(), manifest.to_json());
    Ok(Parcel { blobs, media_type, manifest, _scratch: scratch })
}

pub(crate) type Kept = (ImageManifest, Vec<(Descriptor, PathBuf)>);

/// The image's own manifest and blobs, if all of them are kept.
pub(crate) fn all_kept(
    store: &ImageStore,
    raw: &RawImage,
    scratch: &Scratch,
) -> Result<Option<Kept>, ImagesError> {
    let parsed = Manifest::parse(&raw.manifest, None).map_err(|e| unusable("the manifest", &e))?;
    let Manifest::Image(manifest) = parsed else { return Ok(None) };
    if !manifest.is_image() {
        return Ok(None);
    }
    let mut blobs = Vec::new();
    for layer in &manifest.layers {
        match store.kept_blob_path(layer) {
            Some(path) => blobs.push((layer.clone(), path)),
            None => return Ok(None),
        }
    }
    blobs.push((manifest.config.clone(), write(scratch, "config", &raw.config)?));
    Ok(Some((manifest, blobs)))
}

fn write(scratch: &Scratch, name: &str, bytes: &[u8]) -> Result<PathBuf, ImagesError> {
    let path = scratch.path().join(name);
    std::fs::write(&path, bytes).map_err(ImagesError::Write)?;
    Ok(path)
}

/// Packs a layer as most registries expect it: a tar in gzip.
fn pack(
    store: &ImageStore,
    scratch: &Scratch,
    chain_id: &Digest,
    number: usize,
) -> Result<Packed, ImagesError> {
    let path = scratch.path().join(number.to_string());
    let done = unpacked(store, chain_id, || {
        let file = File::create(&path).map_err(ImagesError::Write)?;
        let file = Hashing::new(io::BufWriter::new(file));
        Ok(Hashing::new(GzEncoder::new(file, flate2::Compression::fast())))
    })?;
    let (gzip, diff_id) = done.finish();
    let mut file = gzip.finish().map_err(ImagesError::Write)?;
    file.flush().map_err(ImagesError::Write)?;
    let size = file.size();
    let (_, digest) = file.finish();
    let descriptor = Descriptor::new(types::OCI_LAYER_GZIP, digest, size);
    Ok(Packed { path, descriptor, diff_id })
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hasher: Hasher::new(Algorithm::Sha256), size: 0 }
    }

    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The writer below, and the digest of what went through.
    pub(crate) fn finish(self) -> (W, Digest) {
        (self.inner, self.hasher.finish())
    }
}
