//! What the store takes and gives.

use std::sync::Arc;

use model::{Digest, Timestamp};
use oci_image::{Compression, Descriptor, ImageConfig};

use crate::names::ImageName;

/// An image that is here, whole.
#[derive(Debug, Clone)]
pub struct Image {
    /// The digest of its configuration.
    pub id: Digest,
    /// Its names by tag, sorted.
    pub repo_tags: Vec<String>,
    /// Its names by digest, sorted.
    pub repo_digests: Vec<String>,
    /// Bytes of its layers as they came over the wire, its configuration and its manifest.
    pub size: u64,
    /// Its configuration.
    pub config: Arc<ImageConfig>,
    /// Chain ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Whether the node's configuration says that it must stay.
    pub pinned: bool,
    /// When it was stored here.
    pub created: Timestamp,
}

/// An image whose layers are in the store, about to be recorded.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// The manifest, as it was hashed.
    pub manifest: Vec<u8>,
    /// Media type of the manifest.
    pub manifest_media_type: String,
    /// Digest of the index that led to the manifest, if one did.
    pub index_digest: Option<Digest>,
    /// Digest of the configuration: the image's id.
    pub config_digest: Digest,
    /// The configuration, as it was hashed.
    pub config: Vec<u8>,
    /// Chain ids of the layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Bytes of the layers as they came over the wire, the configuration and the manifest.
    pub size: u64,
}

/// The texts of an image, as they were hashed.
#[derive(Debug, Clone)]
pub struct RawImage {
    /// Digest of the manifest.
    pub manifest_digest: Digest,
    /// Digest of the index that led to the manifest, if one did.
    pub index_digest: Option<Digest>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The configuration.
    pub config: Vec<u8>,
}

/// A layer to be unpacked.
#[derive(Debug, Clone)]
pub struct LayerJob {
    /// The layer as the manifest describes it.
    pub descriptor: Descriptor,
    /// Digest of the archive without compression, from the image's configuration.
    pub diff_id: Digest,
    /// Digest of this layer and all below it.
    pub chain_id: Digest,
    /// Chain id of the layer below; `None` for the lowest.
    pub parent: Option<Digest>,
}

/// How the bytes of a blob become a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Form {
    /// They are a tar, compressed like this.
    Archive(Compression),
    /// They are one file of this name: what an OCI artifact has in place of layers.
    File(String),
}

/// Who compares a blob with its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The store.
    Here,
    /// The reader: it fails at its end unless the digest is right. Hashing twice would cost twice.
    ByReader,
}

/// A layer that is here, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Digest of this layer and all below it.
    pub chain_id: Digest,
    /// Chain id of the layer below; `None` for the lowest.
    pub parent: Option<Digest>,
    /// Digest of the archive without compression.
    pub diff_id: Digest,
    /// Digest of the blob that it was unpacked from.
    pub blob: Digest,
    /// Bytes of that blob.
    pub blob_size: u64,
    /// What it takes here.
    pub usage: Usage,
}

/// Space taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.inodes = self.inodes.saturating_add(other.inodes);
    }
}

/// What a container's writable directory took when it was last measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Space taken.
    pub usage: Usage,
    /// When.
    pub at: Timestamp,
}

/// A file system that the store lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsUsage {
    /// The directory of the store on it.
    pub mountpoint: std::path::PathBuf,
    /// What the store takes on it.
    pub used: Usage,
    /// What it has in all.
    pub capacity: Usage,
    /// What is free for the daemon.
    pub available: Usage,
    /// When this was true.
    pub at: Timestamp,
}

/// The file system of a container's writable directory: all of it, or as much of it as the container may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Its device, major and minor number.
    pub device: (u32, u32),
    /// What it has in all.
    pub capacity: Usage,
    /// What is free.
    pub available: Usage,
}

/// Space taken by images, and by the writable directories of containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsInfo {
    /// Images.
    pub images: FsUsage,
    /// Containers.
    pub containers: FsUsage,
    /// Whether both lie on one file system.
    pub is_shared: bool,
}

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The image.
    pub id: Digest,
    /// The names that are gone.
    pub names: Vec<ImageName>,
    /// Layers whose data is gone.
    pub layers_freed: usize,
    /// Layers whose data stays, because containers use it.
    pub layers_in_use: usize,
}

/// What one slice of collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Collected {
    /// Layers that nothing used, freed.
    pub layers: usize,
    /// Bytes of disk that these took.
    pub bytes: u64,
    /// Trees deleted from the trash.
    pub deleted: usize,
    /// Trees in the trash that could not be deleted now.
    pub undeletable: usize,
    /// Whether there is more to do.
    pub more: bool,
}

impl Collected {
    /// Takes the next slice in.
    pub fn add(&mut self, slice: &Self) {
        self.layers += slice.layers;
        self.bytes = self.bytes.saturating_add(slice.bytes);
        self.deleted += slice.deleted;
        (self.undeletable, self.more) = (slice.undeletable, slice.more);
    }
}

/// Something that was not as it should be, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The image, layer, name or path.
    pub object: String,
    /// What was wrong.
    pub problem: String,
}
