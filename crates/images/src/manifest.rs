//! What a manifest and a configuration say together. Pure.

use image_store::{Form, LayerJob, NewImage};
use model::{Class, Classified, Digest};
use oci_image::{
    Descriptor, ImageConfig, ImageManifest, Manifest, Platform, chain_ids, layer_compression,
};

use crate::ImagesError;

/// Indexes inside indexes that are followed.
pub(crate) const MAX_NESTED: usize = 3;

/// Annotation of an artifact's blob: the name of the file that it is.
const ANNOTATION_TITLE: &str = "org.opencontainers.image.title";
/// The type of a blob that says that there is none.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// A layer to be brought, with what its blob is.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub job: LayerJob,
    pub form: Form,
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

/// The manifest of an image or an artifact in `manifest`.
///
/// # Errors
/// [`ImagesError::Unusable`] for an index.
pub(crate) fn image_manifest(
    object: &str,
    manifest: Manifest,
) -> Result<ImageManifest, ImagesError> {
    match manifest {
        Manifest::Image(image) => Ok(image),
        Manifest::Index(_) => Err(ImagesError::Unusable {
            object: object.to_owned(),
            problem: "its indexes are nested too deep".to_owned(),
            class: Class::Unimplemented,
        }),
    }
}

/// The configuration that stands for an artifact here: its files are its layers. What the artifact itself
/// has for a configuration is often the same empty one for all.
pub(crate) fn artifact_config(manifest: &ImageManifest, platform: &Platform) -> Vec<u8> {
    let diff_ids: Vec<String> =
        files(manifest).map(|(blob, name)| file_id(blob, &name).to_string()).collect();
    let config = serde_json::json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    // Texts and lists always serialise.
    serde_json::to_vec(&config).unwrap_or_default()
}

/// The files of an artifact, each with its name.
fn files(manifest: &ImageManifest) -> impl Iterator<Item = (&Descriptor, String)> {
    manifest.layers.iter().filter(|blob| blob.media_type != EMPTY).map(|blob| {
        let title = blob.annotations.get(ANNOTATION_TITLE).filter(|t| !t.is_empty());
        (blob, title.cloned().unwrap_or_else(|| blob.digest.hex().to_owned()))
    })
}

/// What tells a layer of one file from every other layer. No archive has this digest.
fn file_id(blob: &Descriptor, name: &str) -> Digest {
    oci_image::sha256(format!("a file of an artifact\0{}\0{name}", blob.digest).as_bytes())
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
    platform: &Platform,
) -> Result<Plan, ImagesError> {
    if !manifest.is_image() {
        return Ok(artifact_plan(texts, manifest, platform));
    }
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
        let job = job(i, descriptor, &config.diff_ids[i], &chain);
        parts.push(Part { job, form: Form::Archive(compression) });
    }
    let id = manifest.config.digest.clone();
    Ok(Plan { parts, new: new_image(texts, manifest, id, chain) })
}

/// What to bring of an artifact: each file is a layer of its own.
fn artifact_plan(mut texts: Texts, manifest: &ImageManifest, platform: &Platform) -> Plan {
    texts.config = artifact_config(manifest, platform);
    let all: Vec<_> = files(manifest).collect();
    let diff_ids: Vec<_> = all.iter().map(|(blob, name)| file_id(blob, name)).collect();
    let chain = chain_ids(&diff_ids);
    let parts = all
        .into_iter()
        .enumerate()
        .map(|(i, (blob, name))| Part {
            job: job(i, blob, &diff_ids[i], &chain),
            form: Form::File(name),
        })
        .collect();
    let id = oci_image::sha256(&texts.config);
    Plan { parts, new: new_image(texts, manifest, id, chain) }
}

fn job(i: usize, descriptor: &Descriptor, diff_id: &Digest, chain: &[Digest]) -> LayerJob {
    LayerJob {
        descriptor: descriptor.clone(),
        diff_id: diff_id.clone(),
        chain_id: chain[i].clone(),
        parent: i.checked_sub(1).map(|below| chain[below].clone()),
    }
}

fn new_image(
    texts: Texts,
    manifest: &ImageManifest,
    config_digest: Digest,
    layers: Vec<Digest>,
) -> NewImage {
    let size = manifest.total_size().saturating_add(texts.manifest.len() as u64);
    NewImage {
        manifest_digest: texts.manifest_digest,
        manifest: texts.manifest,
        manifest_media_type: manifest.media_type.clone(),
        index_digest: texts.index_digest,
        config_digest,
        config: texts.config,
        layers,
        size,
    }
}
