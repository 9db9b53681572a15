//! What the store writes down (docs/formats/image-store.md).

use model::{ContainerId, Digest};
use serde::{Deserialize, Serialize};
use store::{Key, Record};

use crate::names::ImageName;
use crate::types::{LayerInfo, Usage};

/// A layer whose data reached the disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub chain_id: Digest,
    pub parent: Option<Digest>,
    pub diff_id: Digest,
    pub blob: Digest,
    pub blob_size: u64,
    pub bytes: u64,
    pub inodes: u64,
    /// Whether the directories that the layer only implies have the attributes of the layers below.
    pub is_settled: bool,
}

impl LayerRecord {
    pub fn new(info: &LayerInfo, is_settled: bool) -> Self {
        Self {
            chain_id: info.chain_id.clone(),
            parent: info.parent.clone(),
            diff_id: info.diff_id.clone(),
            blob: info.blob.clone(),
            blob_size: info.blob_size,
            bytes: info.usage.bytes,
            inodes: info.usage.inodes,
            is_settled,
        }
    }

    pub fn info(&self) -> LayerInfo {
        LayerInfo {
            chain_id: self.chain_id.clone(),
            parent: self.parent.clone(),
            diff_id: self.diff_id.clone(),
            blob: self.blob.clone(),
            blob_size: self.blob_size,
            usage: Usage { bytes: self.bytes, inodes: self.inodes },
        }
    }
}

impl Record for LayerRecord {
    const KIND: &'static str = "layer";
    const VERSION: u32 = 1;
}

/// An image whose layers are recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ImageRecord {
    pub id: Digest,
    pub manifest_digest: Digest,
    pub manifest_media_type: String,
    pub index_digest: Option<Digest>,
    /// The manifest's text as it was hashed.
    pub manifest: String,
    /// The configuration's text as it was hashed.
    pub config: String,
    /// Chain ids, the lowest first.
    pub layers: Vec<Digest>,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub created: i64,
}

impl Record for ImageRecord {
    const KIND: &'static str = "image";
    const VERSION: u32 = 1;
}

/// A name of an image that is recorded.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NameRecord {
    pub name: ImageName,
    pub image: Digest,
}

impl Record for NameRecord {
    const KIND: &'static str = "image-name";
    const VERSION: u32 = 1;
}

/// What a container uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub container: ContainerId,
    /// Chain ids of its root file system's layers, the lowest first; `None` before it has one.
    pub root: Option<Vec<Digest>>,
    /// Chain ids of its image volumes' layers, each once.
    pub volumes: Vec<Digest>,
}

impl Record for ContainerRecord {
    const KIND: &'static str = "image-use";
    const VERSION: u32 = 1;
}

/// The key of what `digest` names.
pub(crate) fn key(digest: &Digest) -> Key {
    hex_key(digest.hex())
}

/// The key of a name: its SHA-256, because names are longer than file names and hold slashes.
pub(crate) fn name_key(name: &ImageName) -> Key {
    key(&oci_image::sha256(name.as_str().as_bytes()))
}

/// The key of a container.
pub(crate) fn container_key(id: &ContainerId) -> Key {
    hex_key(id.as_str())
}

#[expect(clippy::expect_used, reason = "hexadecimal digits, at most 128, are always a key")]
fn hex_key(hex: &str) -> Key {
    Key::parse(hex).expect("hexadecimal digits are a key")
}
