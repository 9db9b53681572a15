//! The store and its calls.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use model::{ContainerId, Digest, Rootfs};
use oci_image::Compression;

use crate::error::ImageStoreError;
use crate::names::{ImageName, Pattern};
use crate::options::Options;
use crate::types::{
    Collected, Finding, FsInfo, Image, LayerInfo, LayerJob, Measured, NewImage, RawImage, Removed,
};

/// The store of one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Options>,
}

/// A layer that is not collected as long as this value lives.
#[derive(Debug)]
pub struct HeldLayer {
    info: LayerInfo,
}

impl HeldLayer {
    /// The layer.
    #[must_use]
    pub fn info(&self) -> &LayerInfo {
        &self.info
    }
}

fn not_yet<T>(what: &str) -> Result<T, ImageStoreError> {
    Err(ImageStoreError::NoImage { given: what.to_owned() })
}

impl ImageStore {
    /// Opens the store in `root`, which is made if it is missing, and sweeps what a dead daemon left.
    ///
    /// # Errors
    /// [`ImageStoreError::Locked`] while another process has it; what cannot be read or made.
    pub fn open(root: &Path, options: Options) -> Result<Self, ImageStoreError> {
        let _ = root;
        Ok(Self { inner: Arc::new(options) })
    }

    /// What was not as it should be when the store was opened.
    #[must_use]
    pub fn findings(&self) -> Vec<Finding> {
        let _ = &self.inner;
        Vec::new()
    }

    /// The layer, if it is here.
    #[must_use]
    pub fn layer(&self, chain_id: &Digest) -> Option<LayerInfo> {
        let _ = chain_id;
        None
    }

    /// The layer, if it is here; it stays as long as the answer lives.
    #[must_use]
    pub fn hold_layer(&self, chain_id: &Digest) -> Option<HeldLayer> {
        let _ = chain_id;
        None
    }

    /// Reads a layer's blob, checks it and unpacks it, in one pass. `progress` counts the bytes read.
    ///
    /// # Errors
    /// [`ImageStoreError::Layer`]; nothing of the layer is left then.
    pub fn unpack_layer(
        &self,
        job: &LayerJob,
        compression: Compression,
        reader: impl Read,
        progress: &AtomicU64,
    ) -> Result<HeldLayer, ImageStoreError> {
        let _ = (job, compression, reader, progress);
        not_yet("unpack")
    }

    /// Records an image whose layers are here, then its names.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`], [`ImageStoreError::BadConfig`]; what cannot be written.
    pub fn commit_image(
        &self,
        new: NewImage,
        names: &[ImageName],
    ) -> Result<Image, ImageStoreError> {
        let _ = (new, names);
        not_yet("commit")
    }

    /// Gives an image one more name; the name leaves the image that had it.
    ///
    /// # Errors
    /// [`ImageStoreError::NoImage`]; what cannot be written.
    pub fn tag(&self, name: &ImageName, id: &Digest) -> Result<Image, ImageStoreError> {
        let _ = (name, id);
        not_yet("tag")
    }

    /// Takes a name away. An image that has no name left stays until it is removed by id.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn untag(&self, name: &ImageName) -> Result<(), ImageStoreError> {
        let _ = name;
        Ok(())
    }

    /// Removes an image with all its names. Layers that a container uses stay until it is released.
    /// `None` if there is no such image.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn remove_image(&self, id: &Digest) -> Result<Option<Removed>, ImageStoreError> {
        let _ = id;
        Ok(None)
    }

    /// All images, sorted by id.
    #[must_use]
    pub fn images(&self) -> Vec<Image> {
        Vec::new()
    }

    /// The image that `text` names: by id (with or without `sha256:`), by name or by name@digest.
    ///
    /// # Errors
    /// [`ImageStoreError::BadReference`].
    pub fn find(&self, text: &str) -> Result<Option<Image>, ImageStoreError> {
        let _ = text;
        Ok(None)
    }

    /// As [`ImageStore::find`], and by the first digits of an id. For people.
    ///
    /// # Errors
    /// [`ImageStoreError::BadReference`], [`ImageStoreError::Ambiguous`].
    pub fn find_prefix(&self, text: &str) -> Result<Option<Image>, ImageStoreError> {
        let _ = text;
        Ok(None)
    }

    /// An image's manifest and configuration as they were hashed.
    ///
    /// # Errors
    /// [`ImageStoreError::NoImage`]; what cannot be read.
    pub fn raw(&self, id: &Digest) -> Result<RawImage, ImageStoreError> {
        let _ = id;
        not_yet("raw")
    }

    /// Writes a layer as a new tar archive without compression; its digest differs from the first one's.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; what cannot be read or written.
    pub fn export_layer(&self, chain_id: &Digest, out: impl Write) -> Result<(), ImageStoreError> {
        let _ = (chain_id, out);
        not_yet("export")
    }

    /// Replaces the patterns of pinned images.
    pub fn set_pinned(&self, pinned: Vec<Pattern>) {
        let _ = pinned;
    }

    /// Makes the writable directories of a container. The image's data stays until
    /// [`ImageStore::release`]. Called again, it gives the same answer.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; what cannot be made.
    pub fn prepare(
        &self,
        image: &Image,
        container: &ContainerId,
    ) -> Result<Rootfs, ImageStoreError> {
        let _ = (image, container);
        not_yet("prepare")
    }

    /// The image as a read-only root, for an image volume of `container`; its data stays until the
    /// container is released.
    ///
    /// # Errors
    /// [`ImageStoreError::NoLayer`]; what cannot be written.
    pub fn read_only_root(
        &self,
        image: &Image,
        container: &ContainerId,
    ) -> Result<Rootfs, ImageStoreError> {
        let _ = (image, container);
        not_yet("root")
    }

    /// A container's directory for the anonymous volume at `path` of its image, made with the
    /// content, the mode and the owner that the image has there. Called again, it is the same one.
    ///
    /// # Errors
    /// [`ImageStoreError::NoContainer`] before `prepare`; what cannot be made.
    pub fn volume(&self, container: &ContainerId, path: &Path) -> Result<PathBuf, ImageStoreError> {
        let _ = (container, path);
        not_yet("volume")
    }

    /// Deletes what a container had here, and lets its image's data go. Succeeds for one that is gone.
    ///
    /// # Errors
    /// What cannot be moved out of the way; trees that cannot be deleted stay in the trash.
    pub fn release(&self, container: &ContainerId) -> Result<(), ImageStoreError> {
        let _ = container;
        Ok(())
    }

    /// Every container that has something here, for the scan for orphans.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn containers(&self) -> Result<Vec<ContainerId>, ImageStoreError> {
        Ok(Vec::new())
    }

    /// A file of a root file system as the container will see it; links lead only inside the root.
    /// `None` if there is no such regular file.
    ///
    /// # Errors
    /// [`ImageStoreError::TooLong`]; what cannot be read.
    pub fn read_file(
        &self,
        root: &Rootfs,
        path: &Path,
        max: u64,
    ) -> Result<Option<Vec<u8>>, ImageStoreError> {
        let _ = (root, path, max);
        Ok(None)
    }

    /// What a container's writable directory took when it was last measured; from memory.
    #[must_use]
    pub fn usage(&self, container: &ContainerId) -> Option<Measured> {
        let _ = container;
        None
    }

    /// Measures a container's writable directory and remembers the answer. Walks the tree.
    ///
    /// # Errors
    /// [`ImageStoreError::NoContainer`]; what cannot be read.
    pub fn measure(&self, container: &ContainerId) -> Result<Measured, ImageStoreError> {
        let _ = container;
        not_yet("measure")
    }

    /// Space taken by images and containers, and what their file systems have left.
    ///
    /// # Errors
    /// A file system that does not answer.
    pub fn fs_info(&self) -> Result<FsInfo, ImageStoreError> {
        not_yet("fs_info")
    }

    /// Does at most `budget` pieces of collection: unused layers go to the trash, the trash is
    /// emptied. What cannot be deleted does not stop the rest.
    ///
    /// # Errors
    /// The trash cannot be read.
    pub fn collect(&self, budget: usize) -> Result<Collected, ImageStoreError> {
        let _ = budget;
        Ok(Collected::default())
    }
}
