//! Archives, layers and images for tests.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::{ContainerId, Digest};
use oci_image::{Compression, Descriptor, Reference, chain_ids, sha256};
use tempfile::TempDir;

use crate::tar::{Entry, Kind, Writer};
use crate::{
    HeldLayer, Image, ImageName, ImageStore, ImageStoreError, LayerJob, NewImage, NoFaults,
    Options, Steps,
};

pub(crate) fn entry(kind: Kind, path: &str) -> Entry {
    Entry {
        path: path.into(),
        kind,
        mode: if kind == Kind::Directory { 0o755 } else { 0o644 },
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (1_700_000_000, 0),
        link: Vec::new(),
        device: (0, 0),
        xattrs: Vec::new(),
        segments: None,
    }
}

pub(crate) fn dir(path: &str) -> (Entry, Vec<u8>) {
    (entry(Kind::Directory, path), Vec::new())
}

pub(crate) fn file(path: &str, content: &str) -> (Entry, Vec<u8>) {
    let size = content.len() as u64;
    (Entry { size, ..entry(Kind::File, path) }, content.as_bytes().to_vec())
}

pub(crate) fn link(kind: Kind, path: &str, target: &str) -> (Entry, Vec<u8>) {
    (Entry { link: target.into(), ..entry(kind, path) }, Vec::new())
}

pub(crate) fn symlink(path: &str, target: &str) -> (Entry, Vec<u8>) {
    link(Kind::Symlink, path, target)
}

pub(crate) fn hard_link(path: &str, target: &str) -> (Entry, Vec<u8>) {
    link(Kind::HardLink, path, target)
}

pub(crate) fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.entry(entry, &data[..]).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzEncoder::new(bytes, flate2::Compression::fast()).read_to_end(&mut out).unwrap();
    out
}

/// A layer's job for an archive without compression on top of `below` (diff ids).
pub(crate) fn job(tar: &[u8], below: &[Digest]) -> LayerJob {
    let digest = sha256(tar);
    let diff_ids: Vec<_> = below.iter().cloned().chain([digest.clone()]).collect();
    let mut chain = chain_ids(&diff_ids);
    let chain_id = chain.pop().unwrap();
    LayerJob {
        descriptor: Descriptor::new(
            "application/vnd.oci.image.layer.v1.tar",
            digest.clone(),
            tar.len() as u64,
        ),
        diff_id: digest,
        chain_id,
        parent: chain.pop(),
    }
}

pub(crate) fn unpack(
    store: &ImageStore,
    job: &LayerJob,
    tar: &[u8],
) -> Result<HeldLayer, ImageStoreError> {
    store.unpack_layer(job, Compression::None, tar, &AtomicU64::new(0))
}

pub(crate) fn name(text: &str) -> ImageName {
    ImageName::of(&Reference::parse(text).unwrap())
}

/// A configuration with these layers; `salt` tells images with the same layers apart.
pub(crate) fn config(diff_ids: &[Digest], salt: &str) -> Vec<u8> {
    let list: Vec<_> = diff_ids.iter().map(|d| format!("\"{d}\"")).collect();
    format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Labels":{{"salt":"{salt}"}}}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        list.join(",")
    )
    .into_bytes()
}

/// An image of these archives, the lowest first, unpacked and recorded.
pub(crate) fn commit(
    store: &ImageStore,
    tars: &[Vec<u8>],
    salt: &str,
    names: &[&str],
) -> Result<Image, ImageStoreError> {
    let diff_ids: Vec<_> = tars.iter().map(|t| sha256(t)).collect();
    let mut held = Vec::new();
    // From the top: layers come in any order.
    for i in (0..tars.len()).rev() {
        held.push(unpack(store, &job(&tars[i], &diff_ids[..i]), &tars[i])?);
    }
    let config = config(&diff_ids, salt);
    let manifest = format!("{{\"salt\":\"{salt}\"}}").into_bytes();
    let new = NewImage {
        manifest_digest: sha256(&manifest),
        manifest_media_type: "application/vnd.oci.image.manifest.v1+json".into(),
        manifest,
        index_digest: None,
        config_digest: sha256(&config),
        size: config.len() as u64,
        config,
        layers: chain_ids(&diff_ids),
    };
    let names: Vec<_> = names.iter().map(|n| name(n)).collect();
    store.commit_image(new, &names)
}

pub(crate) fn container(n: u8) -> ContainerId {
    ContainerId::from_random([n; 32])
}

/// A store in a directory of its own.
pub(crate) struct Place {
    pub dir: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// In memory where there is room: for tests of many stores, each of which syncs its file system.
    pub fn quick() -> Self {
        let memory = tempfile::tempdir_in("/dev/shm");
        Self { dir: memory.unwrap_or_else(|_| tempfile::tempdir().unwrap()) }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    pub fn open(&self) -> ImageStore {
        self.open_with(Arc::new(NoFaults)).unwrap()
    }

    pub fn open_with(&self, steps: Arc<dyn Steps>) -> Result<ImageStore, ImageStoreError> {
        let keep_unused = std::time::Duration::from_secs(3600);
        ImageStore::open(&self.root(), Options { steps, keep_unused, ..Options::default() })
    }

    pub fn count(&self, dir: &str) -> usize {
        std::fs::read_dir(self.root().join(dir)).unwrap().count()
    }
}

/// The files of the topmost layer of an image.
pub(crate) fn top(store: &ImageStore, image: &Image) -> PathBuf {
    store.inner.layout.layer_fs(image.layers.last().unwrap())
}

/// The files of a layer that was unpacked.
pub(crate) fn files(store: &ImageStore, layer: &HeldLayer) -> PathBuf {
    store.inner.layout.layer_fs(&layer.info().chain_id)
}

/// An error with all its causes.
pub(crate) fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        text.push_str(": ");
        text.push_str(&e.to_string());
        source = e.source();
    }
    text
}

pub(crate) fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let n = rustix::fs::lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(n);
    Some(value)
}
