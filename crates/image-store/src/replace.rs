//! A damaged layer is replaced by a whole one, under the images that have it.

use std::io::Read;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use model::Digest;

use crate::error::ImageStoreError;
use crate::store::ImageStore;
use crate::types::{Check, Form, Image, LayerJob};
use crate::unpack::{Staged, of_layer};

/// What came of replacing a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It is whole now.
    Done,
    /// A container has it mounted; under a mount nothing is exchanged.
    InUse,
    /// It is not here.
    Gone,
}

impl ImageStore {
    /// Images that have the layer.
    #[must_use]
    pub fn images_with(&self, chain_id: &Digest) -> Vec<Image> {
        let tables = self.inner.tables();
        tables.images_with(chain_id).iter().filter_map(|id| tables.image(id)).collect()
    }

    /// Whether a container has the image, as its root or as a volume.
    #[must_use]
    pub fn is_used(&self, image: &Image) -> bool {
        self.inner.tables().is_image_used(&image.layers)
    }

    /// Whether a container has the layer.
    #[must_use]
    pub fn is_in_a_container(&self, chain_id: &Digest) -> bool {
        self.inner.tables().is_used_by_container(chain_id)
    }

    /// Unpacks the layer of `job` anew and exchanges it for the one that is here. `below` are the layers
    /// under it, the lowest first.
    ///
    /// # Errors
    /// As [`ImageStore::unpack_layer`]; the layer stays as it was then.
    pub fn replace_layer(
        &self,
        job: &LayerJob,
        below: &[Digest],
        blob: (&Form, Check),
        reader: impl Read + Send,
        progress: &AtomicU64,
    ) -> Result<Replaced, ImageStoreError> {
        let inner = &self.inner;
        let _turn = inner.chains.take(&job.chain_id);
        if inner.tables().layer(&job.chain_id).is_none() {
            return Ok(Replaced::Gone);
        }
        let staged = inner.unpack(job, blob, reader, progress).map_err(|e| of_layer(job, e))?;
        let Staged { staging, info, is_settled } = staged;
        if !is_settled {
            inner.settle_dir(staging.dir(), &job.chain_id, below)?;
            inner.syncer.sync().map_err(crate::error::at("sync", inner.layout.root.clone()))?;
        }
        {
            // Two renames under the lock: a container that is prepared now would otherwise be given
            // the directory that goes.
            let mut tables = inner.tables();
            if tables.is_used_by_container(&job.chain_id) {
                return Ok(Replaced::InUse);
            }
            staging.exchange(job.chain_id.hex()).map_err(|e| of_layer(job, e))?;
            tables.insert_layer(info.clone(), true, Instant::now());
        }
        inner.record_layer(&info, true).map_err(|e| of_layer(job, e))?;
        Ok(Replaced::Done)
    }
}
