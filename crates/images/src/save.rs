//! Writes images into an archive.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use image_store::tar::{Entry, Kind, Writer};
use image_store::{Image, ImageStore, RawImage, Scratch};
use model::{Class, Digest};
use oci_image::{
    ANNOTATION_FULL_NAME, ANNOTATION_REF_NAME, ArchiveImage, DOCKER_MANIFEST_FILE, Descriptor,
    Hasher, ImageManifest, Index, LAYOUT_INDEX_FILE, LAYOUT_MARKER, LAYOUT_MARKER_FILE, Platform,
    Reference, blob_path, docker_archive_to_json, types,
};

use crate::push::{Kept, all_kept};
use crate::{Images, ImagesError};

impl Images {
    /// Writes the images that `texts` name to `out` as a tar of an OCI layout, which `docker load`
    /// reads too. Where all its blobs are kept, an image is written as it came. Else its layers are written
    /// without compression: the image keeps its id, and gets another manifest. A layer that does not give
    /// its archive any more (one that an older daemon unpacked) is packed anew from what was unpacked;
    /// then the image's id is another too.
    ///
    /// # Errors
    /// [`ImagesError::NoImage`] before anything is written; [`ImagesError::Write`].
    pub async fn save(
        &self,
        texts: &[String],
        out: impl Write + Send + 'static,
    ) -> Result<(), ImagesError> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for text in texts {
            let image = self
                .find_prefix(text)?
                .ok_or_else(|| ImagesError::NoImage { given: text.clone() })?;
            let names = self.names_by(text, &image);
            match wanted.iter_mut().find(|w| w.image.id == image.id) {
                Some(same) => same.names.extend(names),
                None => wanted.push(Wanted { image, names }),
            }
        }
        let store = self.inner.store.clone();
        match tokio::task::spawn_blocking(move || save(&store, &wanted, out)).await {
            Ok(done) => done,
            Err(e) => Err(ImagesError::Interrupted { what: e.to_string() }),
        }
    }
}

impl Images {
    /// The name by which `text` means the image, none where it is a digest; all where it is an id.
    fn names_by(&self, text: &str, image: &Image) -> Vec<String> {
        let candidates = self.candidates(text).unwrap_or_default();
        let mut tagged = candidates.iter().filter_map(Reference::tagged);
        match tagged.find(|name| image.repo_tags.contains(name)) {
            Some(name) => vec![name],
            None if candidates.iter().any(|c| c.digest().is_some()) => Vec::new(),
            None => image.repo_tags.clone(),
        }
    }
}

/// An image to be written, and the names that it is to have in the archive.
#[derive(Debug)]
struct Wanted {
    image: Image,
    names: Vec<String>,
}

/// A layer that was packed.
#[derive(Debug, Clone)]
pub(crate) struct Packed {
    pub path: PathBuf,
    pub descriptor: Descriptor,
    /// The digest of its tar.
    pub diff_id: Digest,
}

fn save(store: &ImageStore, wanted: &[Wanted], out: impl Write) -> Result<(), ImagesError> {
    let scratch = store.scratch()?;
    let mut archive = Archive { tar: Writer::new(out), written: Vec::new() };
    archive.file(LAYOUT_MARKER_FILE, LAYOUT_MARKER.as_bytes())?;
    let mut layers: HashMap<Digest, Packed> = HashMap::new();
    let mut index = Index {
        media_type: types::OCI_INDEX.to_owned(),
        manifests: Vec::new(),
        annotations: BTreeMap::new(),
    };
    let mut listed = Vec::new();
    for Wanted { image, names } in wanted {
        let raw = store.raw(&image.id)?;
        if let Some(kept) = all_kept(store, &raw, &scratch)?
            && are_whole(&kept)?
        {
            let manifest = archive.kept(&raw, &kept)?;
            index.manifests.extend(entries(&manifest, image, names));
            listed.push(docker_entry(&kept.0, names));
            continue;
        }
        let mut packed = Vec::new();
        for chain_id in &image.layers {
            if !layers.contains_key(chain_id) {
                layers.insert(chain_id.clone(), pack(store, &scratch, chain_id, layers.len())?);
            }
            packed.extend(layers.get(chain_id).cloned());
        }
        let manifest = archive.image(&raw, image, &packed)?;
        index.manifests.extend(entries(&manifest, image, names));
        listed.push(docker_entry(&manifest.1, names));
    }
    archive.file(LAYOUT_INDEX_FILE, &index.to_json())?;
    archive.file(DOCKER_MANIFEST_FILE, &docker_archive_to_json(&listed))?;
    archive.tar.finish().map(drop).map_err(ImagesError::Write)
}

fn docker_entry(manifest: &ImageManifest, names: &[String]) -> ArchiveImage {
    ArchiveImage {
        config: blob_path(&manifest.config.digest),
        repo_tags: names.to_vec(),
        layers: manifest.layers.iter().map(|l| blob_path(&l.digest)).collect(),
    }
}

/// Whether kept blobs are still what they were: an archive tells whoever reads it their digests.
fn are_whole((_, blobs): &Kept) -> Result<bool, ImagesError> {
    for (descriptor, path) in blobs {
        let file = File::open(path).map_err(ImagesError::Write)?;
        let mut hashing =
            Hashing { inner: io::sink(), hasher: Hasher::like(&descriptor.digest), size: 0 };
        io::copy(&mut io::BufReader::with_capacity(128 << 10, file), &mut hashing)
            .map_err(ImagesError::Write)?;
        let size = hashing.size();
        if size != descriptor.size || hashing.finish().1 != descriptor.digest {
            tracing::warn!(digest = %descriptor.digest, "a kept blob is damaged");
            return Ok(false);
        }
    }
    Ok(true)
}

/// The image's entries in the index: one for each of its names, or one without.
fn entries(
    (digest, manifest, size): &(Digest, ImageManifest, u64),
    image: &Image,
    names: &[String],
) -> Vec<Descriptor> {
    let mut plain = Descriptor::new(&manifest.media_type, digest.clone(), *size);
    let config = &image.config;
    plain.platform = Some(Platform::new(&config.os, &config.architecture, &config.variant));
    if names.is_empty() {
        return vec![plain];
    }
    let named = |name: &String| {
        let mut entry = plain.clone();
        let tag = name.rsplit(':').next().unwrap_or_default().to_owned();
        entry.annotations.insert(ANNOTATION_FULL_NAME.to_owned(), name.clone());
        entry.annotations.insert(ANNOTATION_REF_NAME.to_owned(), tag);
        entry
    };
    names.iter().map(named).collect()
}

/// A layer's archive, without compression, in what `begin` makes, empty each time: as it came where the
/// layer gives it, else packed anew.
pub(crate) fn unpacked<W: Write>(
    store: &ImageStore,
    chain_id: &Digest,
    begin: impl Fn() -> Result<W, ImagesError>,
) -> Result<W, ImagesError> {
    if let Some(whole) = store.rebuild_layer(chain_id, begin()?)? {
        return Ok(whole);
    }
    Ok(store.export_layer(chain_id, begin()?)?)
}

/// Packs a layer into the scratch space: its size and digest must be known before it is written.
fn pack(
    store: &ImageStore,
    scratch: &Scratch,
    chain_id: &Digest,
    number: usize,
) -> Result<Packed, ImagesError> {
    let path = scratch.path().join(number.to_string());
    let done = unpacked(store, chain_id, || {
        let file = File::create(&path).map_err(ImagesError::Write)?;
        Ok(Hashing::new(io::BufWriter::new(file)))
    })?;
    let size = done.size();
    let (_, digest) = done.finish();
    let descriptor = Descriptor::new(types::OCI_LAYER, digest.clone(), size);
    Ok(Packed { path, descriptor, diff_id: digest })
}

/// Hashes and counts what is written.
pub(crate) struct Hashing<W> {
    pub(crate) inner: W,
    pub(crate) hasher: Hasher,
    pub(crate) size: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.size += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The configuration with the diff ids of the layers as they are packed now; as it is, where it has them.
pub(crate) fn with_diff_ids(
    config: &[u8],
    diff_ids: &[Digest],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut value: serde_json::Value = serde_json::from_slice(config)?;
    let ids: Vec<_> = diff_ids.iter().map(Digest::as_str).collect();
    if value["rootfs"]["diff_ids"] == serde_json::json!(ids) {
        return Ok(config.to_vec());
    }
    value["rootfs"] = serde_json::json!({ "type": "layers", "diff_ids": ids });
    serde_json::to_vec(&value)
}

struct Archive<W> {
    tar: Writer<W>,
    written: Vec<String>,
}

impl<W: Write> Archive<W> {
    /// Writes an image as it came; its manifest is returned.
    fn kept(
        &mut self,
        raw: &RawImage,
        (manifest, blobs): &Kept,
    ) -> Result<(Digest, ImageManifest, u64), ImagesError> {
        for (descriptor, path) in blobs {
            let file = File::open(path).map_err(ImagesError::Write)?;
            self.entry(&blob_path(&descriptor.digest), descriptor.size, file)?;
        }
        self.file(&blob_path(&raw.manifest_digest), &raw.manifest)?;
        Ok((raw.manifest_digest.clone(), manifest.clone(), raw.manifest.len() as u64))
    }

    /// Writes an image's blobs as they are packed now; its manifest is returned.
    fn image(
        &mut self,
        raw: &RawImage,
        image: &Image,
        layers: &[Packed],
    ) -> Result<(Digest, ImageManifest, u64), ImagesError> {
        for layer in layers {
            let file = File::open(&layer.path).map_err(ImagesError::Write)?;
            self.entry(&blob_path(&layer.descriptor.digest), layer.descriptor.size, file)?;
        }
        let diff_ids: Vec<_> = layers.iter().map(|l| l.diff_id.clone()).collect();
        let config = with_diff_ids(&raw.config, &diff_ids).map_err(|e| ImagesError::Unusable {
            object: format!("the configuration of image {}", image.id),
            problem: e.to_string(),
            class: Class::DataLoss,
        })?;
        let config_digest = oci_image::sha256(&config);
        self.file(&blob_path(&config_digest), &config)?;
        let manifest = ImageManifest {
            media_type: types::OCI_MANIFEST.to_owned(),
            config: Descriptor::new(types::OCI_CONFIG, config_digest, config.len() as u64),
            layers: layers.iter().map(|l| l.descriptor.clone()).collect(),
            annotations: BTreeMap::new(),
        };
        let bytes = manifest.to_json();
        let digest = oci_image::sha256(&bytes);
        self.file(&blob_path(&digest), &bytes)?;
        Ok((digest, manifest, bytes.len() as u64))
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<(), ImagesError> {
        self.entry(path, bytes.len() as u64, bytes)
    }

    /// Writes a file, once: images share blobs.
    fn entry(&mut self, path: &str, size: u64, data: impl Read) -> Result<(), ImagesError> {
        if self.written.iter().any(|w| w == path) {
            return Ok(());
        }
        self.written.push(path.to_owned());
        let entry = Entry {
            path: path.as_bytes().to_vec(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size,
            mtime: (0, 0),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
            segments: None,
        };
        self.tar.entry(&entry, data).map_err(ImagesError::Write)
    }
}
