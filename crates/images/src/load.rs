//! Takes images out of an archive.

use std::io::Read;
use std::sync::atomic::AtomicU64;

use image_store::{Ended, ImageName, ImageStore};
use model::{Class, Digest};
use oci_image::{
    ANNOTATION_FULL_NAME, ANNOTATION_REF_NAME, ArchiveImage, Compression, DOCKER_MANIFEST_FILE,
    Descriptor, ImageManifest, LAYOUT_INDEX_FILE, LAYOUT_MARKER_FILE, MAX_CONFIG, MAX_MANIFEST,
    Manifest, Platform, Reference, blob_path, check_layout_marker, parse_docker_archive, types,
};

use crate::manifest::{self, MAX_NESTED, Plan, Texts, unusable};
use crate::source::checked_here;
use crate::spool::Spool;
use crate::work::Done;
use crate::{Images, ImagesError};

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id.
    pub id: Digest,
    /// The names that it has now.
    pub names: Vec<String>,
}

impl Images {
    /// Takes the images out of `archive`: an OCI layout or what `docker save` writes, as tar, plain
    /// or compressed by gzip or zstd. `name` replaces the names that the archive has for its image,
    /// which must be the only one for this platform then.
    ///
    /// # Errors
    /// [`ImagesError`]; images before the one that failed stay.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<&str>,
    ) -> Result<Vec<LoadedImage>, ImagesError> {
        let name = name.map(|text| self.new_name(text)).transpose()?;
        let images = self.clone();
        let work = move || load(&images, archive, name.as_ref());
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => Err(ImagesError::Interrupted { what: e.to_string() }),
        }
    }
}

/// An image of the archive and the names that it is to have.
struct Found {
    plan: Plan,
    names: Vec<ImageName>,
}

fn load(
    images: &Images,
    archive: impl Read,
    name: Option<&ImageName>,
) -> Result<Vec<LoadedImage>, ImagesError> {
    let (store, platform) = (&images.inner.store, &images.inner.limits.platform);
    let spool = Spool::read(store, archive)?;
    let listed = spool.bytes(DOCKER_MANIFEST_FILE, MAX_MANIFEST)?;
    let listed = match listed {
        Some(bytes) => parse_docker_archive(&bytes)
            .map_err(|e| unusable(format!("{DOCKER_MANIFEST_FILE} in the archive"), &e))?,
        None => Vec::new(),
    };
    let mut found = match spool.bytes(LAYOUT_INDEX_FILE, MAX_MANIFEST)? {
        Some(index) => of_layout(&spool, &index, &listed, platform)?,
        None => of_docker(&spool, &listed, platform)?,
    };
    if found.is_empty() {
        return Err(nothing(&format!("it has no image for {platform}")));
    }
    if let Some(name) = name {
        let [only] = found.as_mut_slice() else {
            return Err(nothing(&format!("it has {} images, so none can be named", found.len())));
        };
        only.names = vec![name.clone()];
    }
    found.into_iter().map(|f| commit(store, &images.inner.done, &spool, f)).collect()
}

fn nothing(problem: &str) -> ImagesError {
    ImagesError::Unusable {
        object: "the archive".to_owned(),
        problem: problem.to_owned(),
        class: Class::InvalidArgument,
    }
}

/// The images of an OCI layout's index that are for this platform.
fn of_layout(
    spool: &Spool,
    index: &[u8],
    listed: &[ArchiveImage],
    platform: &Platform,
) -> Result<Vec<Found>, ImagesError> {
    if let Some(marker) = spool.bytes(LAYOUT_MARKER_FILE, MAX_MANIFEST)? {
        check_layout_marker(&marker).map_err(|e| unusable(LAYOUT_MARKER_FILE, &e))?;
    }
    let Manifest::Index(index) = parse(LAYOUT_INDEX_FILE, index, None)? else {
        return Err(nothing("its index.json is no index"));
    };
    let runs = platform.runs();
    let mut found: Vec<Found> = Vec::new();
    for descriptor in &index.manifests {
        let fits = descriptor
            .platform
            .as_ref()
            .is_none_or(|p| runs.contains(&Platform::new(&p.os, &p.architecture, &p.variant)));
        if !fits {
            continue;
        }
        let Some((manifest, texts)) = follow(spool, descriptor, platform)? else { continue };
        let names = names_of(descriptor, &manifest, listed);
        // An image with several names stands in the index once for each.
        let same = found.iter_mut().find(|f| f.plan.new.manifest_digest == texts.manifest_digest);
        if let Some(same) = same {
            same.names.extend(names);
            continue;
        }
        let plan = manifest::plan(descriptor.digest.as_str(), texts, &manifest, platform)?;
        found.push(Found { plan, names });
    }
    Ok(found)
}

/// The manifest that `descriptor` leads to, with the texts of its image; `None` for an index without
/// this platform, and for what is no image.
fn follow(
    spool: &Spool,
    descriptor: &Descriptor,
    platform: &Platform,
) -> Result<Option<(ImageManifest, Texts)>, ImagesError> {
    let mut at = descriptor.clone();
    let mut index_digest = None;
    for _ in 0..=MAX_NESTED {
        let bytes = blob(spool, &at, MAX_MANIFEST)?;
        match parse(at.digest.as_str(), &bytes, Some(&at.media_type))? {
            Manifest::Image(manifest) if manifest.is_image() => {
                let config = blob(spool, &manifest.config, MAX_CONFIG)?;
                let texts =
                    Texts { index_digest, manifest_digest: at.digest, manifest: bytes, config };
                return Ok(Some((manifest, texts)));
            }
            Manifest::Image(_) => return Ok(None),
            Manifest::Index(index) => {
                let Some(chosen) = index.choose(platform) else { return Ok(None) };
                index_digest.get_or_insert(at.digest);
                at = chosen.clone();
            }
        }
    }
    Err(nothing("its indexes are nested too deep"))
}

fn parse(object: &str, bytes: &[u8], media_type: Option<&str>) -> Result<Manifest, ImagesError> {
    Manifest::parse(bytes, media_type).map_err(|e| unusable(format!("{object} in the archive"), &e))
}

/// A small blob of the layout, verified.
fn blob(spool: &Spool, descriptor: &Descriptor, max: u64) -> Result<Vec<u8>, ImagesError> {
    let path = blob_path(&descriptor.digest);
    let bytes = spool.bytes(&path, max)?.ok_or_else(|| missing(&path))?;
    verify(spool, &path, &descriptor.digest)?;
    Ok(bytes)
}

fn missing(path: &str) -> ImagesError {
    nothing(&format!("{path} is missing"))
}

fn verify(spool: &Spool, path: &str, expected: &Digest) -> Result<(), ImagesError> {
    let file = spool.file(path).ok_or_else(|| missing(path))?;
    if file.digest == *expected {
        return Ok(());
    }
    Err(ImagesError::Digest {
        object: format!("{path} in the archive"),
        expected: expected.clone(),
        found: file.digest.clone(),
    })
}

/// The names that an entry of a layout's index has: a whole name in either annotation, with its
/// digest, else what `docker save` listed beside it.
fn names_of(
    descriptor: &Descriptor,
    manifest: &ImageManifest,
    listed: &[ArchiveImage],
) -> Vec<ImageName> {
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let whole = annotation(ANNOTATION_FULL_NAME)
        .or_else(|| annotation(ANNOTATION_REF_NAME).filter(|n| n.contains(['/', ':'])))
        .and_then(|n| Reference::parse(n).ok());
    if let Some(reference) = whole {
        let by_digest = ImageName::by_digest(&reference, &descriptor.digest);
        return vec![ImageName::of(&reference), by_digest];
    }
    let config = blob_path(&manifest.config.digest);
    listed.iter().filter(|l| l.config == config).flat_map(tags).collect()
}

fn tags(image: &ArchiveImage) -> impl Iterator<Item = ImageName> {
    image.repo_tags.iter().filter_map(|n| Reference::parse(n).ok()).map(|r| ImageName::of(&r))
}

/// The images that `docker save` listed.
fn of_docker(
    spool: &Spool,
    listed: &[ArchiveImage],
    platform: &Platform,
) -> Result<Vec<Found>, ImagesError> {
    if listed.is_empty() {
        return Err(nothing("it is neither an OCI layout nor written by docker save"));
    }
    let mut found = Vec::new();
    for image in listed {
        let config =
            spool.bytes(&image.config, MAX_CONFIG)?.ok_or_else(|| missing(&image.config))?;
        let id = oci_image::sha256(&config);
        check_named(&image.config, &id)?;
        let descriptor = Descriptor::new(types::DOCKER_CONFIG, id.clone(), config.len() as u64);
        let mut layers = Vec::new();
        for path in &image.layers {
            let file = spool.file(path).ok_or_else(|| missing(path))?;
            let media_type = match file.compression()? {
                Compression::None => types::DOCKER_LAYER,
                Compression::Gzip => types::DOCKER_LAYER_GZIP,
                Compression::Zstd => types::DOCKER_LAYER_ZSTD,
            };
            layers.push(Descriptor::new(media_type, file.digest.clone(), file.size));
        }
        let manifest = ImageManifest {
            media_type: types::DOCKER_MANIFEST.to_owned(),
            config: descriptor,
            layers,
            annotations: std::collections::BTreeMap::new(),
        };
        let bytes = manifest.to_json();
        let texts = Texts {
            index_digest: None,
            manifest_digest: oci_image::sha256(&bytes),
            manifest: bytes,
            config,
        };
        let plan = manifest::plan(&image.config, texts, &manifest, platform)?;
        found.push(Found { plan, names: tags(image).collect() });
    }
    Ok(found)
}

/// A configuration that is named by a digest must have it.
fn check_named(path: &str, found: &Digest) -> Result<(), ImagesError> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let hex = file.strip_suffix(".json").unwrap_or(file);
    match Digest::parse(&format!("sha256:{hex}")) {
        Ok(expected) if expected != *found => Err(ImagesError::Digest {
            object: format!("{path} in the archive"),
            expected,
            found: found.clone(),
        }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Unpacks what is missing, then records the image and its names.
fn commit(
    store: &ImageStore,
    work: &Done,
    spool: &Spool,
    found: Found,
) -> Result<LoadedImage, ImagesError> {
    let mut held = Vec::new();
    for part in &found.plan.parts {
        if let Some(here) = store.hold_layer(&part.job.chain_id) {
            held.push(here);
            continue;
        }
        let descriptor = &part.job.descriptor;
        let file = spool.by_digest(descriptor)?.open()?;
        let blob = checked_here(&part.form);
        let Some(place) = store.place_to_keep(descriptor) else {
            let layer = store.bring_layer(&part.job, blob, file, &AtomicU64::new(0))?;
            work.unpacked(layer.info());
            held.push(layer);
            continue;
        };
        let mut reader = place.reader_anew(file);
        let done = store.bring_layer(&part.job, blob, &mut reader, &AtomicU64::new(0));
        reader.end(if done.is_ok() { Ended::Whole } else { Ended::Wrong });
        let layer = done?;
        work.unpacked(layer.info());
        held.push(layer);
    }
    let image = store.commit_image(found.plan.new, &found.names)?;
    drop(held);
    let names = image.repo_tags.into_iter().chain(image.repo_digests).collect();
    Ok(LoadedImage { id: image.id, names })
}
