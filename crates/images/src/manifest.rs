//! What a manifest and a configuration say together. Pure.

use image_store::{LayerJob, NewImage};
use model::{Class, Classified, Digest};
use oci_image::{
    Compression, ImageConfig, ImageManifest, Manifest, Platform, chain_ids, layer_compression,
};

use crate::ImagesError;

/// Indexes inside indexes that are followed.
pub(crate) const MAX_NESTED: usize = 3;

/// A layer to be brought, with how its blob is compressed.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub job: LayerJob,
    pub compression: Compression,
}

/// An image's texts and layers, checked against each other.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub parts: Vec<Part>,
    pub new: NewImage,
}

/// The texts of an image as they came, with their digests checked.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    pub index_digest: Option<Digest>,
    pub manifest_digest: Digest,
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
}

pub(crate) fn unusable(
    object: impl Into<String>,
    error: &(impl Classified + ?Sized),
) -> ImagesError {
    ImagesError::Unusable {
        object: object.into(),
        problem: error.to_string(),
        class: error.class(),
    }
}

/// The image manifest in `manifest`.
///
/// # Errors
/// [`ImagesError::Unusable`] for an index, a chart, a signature and the like.
pub(crate) fn image_manifest(
    object: &str,
    manifest: Manifest,
) -> Result<ImageManifest, ImagesError> {
    let problem = match manifest {
        Manifest::Image(image) if image.is_image() => return Ok(image),
        Manifest::Image(other) => format!(
            "it is no image but an artifact (its configuration is of type {:?})",
            other.config.media_type
        ),
        Manifest::Index(_) => "its indexes are nested too deep".to_owned(),
    };
    Err(ImagesError::Unusable { object: object.to_owned(), problem, class: Class::Unimplemented })
}

/// No image of an index fits.
pub(crate) fn no_platform(object: &str, index: &oci_image::Index, host: &Platform) -> ImagesError {
    let mut there: Vec<String> = index
        .manifests
        .iter()
        .filter_map(|d| d.platform.as_ref())
        .map(ToString::to_string)
        .collect();
    there.sort_unstable();
    there.dedup();
    ImagesError::Unusable {
        object: object.to_owned(),
        problem: format!("it has no image for {host}, only for: {}", there.join(", ")),
        class: Class::NotFound,
    }
}

/// What to bring and what to record.
///
/// # Errors
/// [`ImagesError::Unusable`]: texts that do not fit each other, layers of a type that cannot be used.
pub(crate) fn plan(
    object: &str,
    texts: Texts,
    manifest: &ImageManifest,
) -> Result<Plan, ImagesError> {
    let config = ImageConfig::parse(&texts.config).map_err(|e| unusable(object, &e))?;
    if config.diff_ids.len() != manifest.layers.len() {
        return Err(ImagesError::Unusable {
            object: object.to_owned(),
            problem: format!(
                "its manifest has {} layers, its configuration {}",
                manifest.layers.len(),
                config.diff_ids.len()
            ),
            class: Class::DataLoss,
        });
    }
    let chain = chain_ids(&config.diff_ids);
    let mut parts = Vec::with_capacity(chain.len());
    for (i, descriptor) in manifest.layers.iter().enumerate() {
        let compression = layer_compression(&descriptor.media_type)
            .map_err(|e| unusable(format!("layer {} of {object}", descriptor.digest), &e))?;
        let parent = i.checked_sub(1).map(|below| chain[below].clone());
        let job = LayerJob {
            descriptor: descriptor.clone(),
            diff_id: config.diff_ids[i].clone(),
            chain_id: chain[i].clone(),
            parent,
        };
        parts.push(Part { job, compression });
    }
    let size = manifest.total_size().saturating_add(texts.manifest.len() as u64);
    let new = NewImage {
        manifest_digest: texts.manifest_digest,
        manifest: texts.manifest,
        manifest_media_type: manifest.media_type.clone(),
        index_digest: texts.index_digest,
        config_digest: manifest.config.digest.clone(),
        config: texts.config,
        layers: chain,
        size,
    };
    Ok(Plan { parts, new })
}
