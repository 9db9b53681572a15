//! A damaged layer is replaced by a whole one, under the images that have it.

use std::io::Read;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use model::Digest;

use crate::commit::record;
use crate::error::ImageStoreError;
use crate::records;
use crate::store::{ImageStore, Inner};
use crate::types::{Check, Form, Image, LayerJob};
use crate::unpack::{NotExchanged, Staged, of_layer};

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
    /// As [`ImageStore::unpack_layer`]. The layer stays as it was then, or, where it had left its place
    /// already, is gone with the images that had it.
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
        let staged = inner.unpack(job, blob, reader, progress).map_err(|e| {
            inner.make_room(&e);
            of_layer(job, e)
        })?;
        let Staged { staging, info, is_settled } = staged;
        if !is_settled {
            let mark = inner.syncer.mark();
            inner.settle_dir(staging.dir(), &job.chain_id, below)?;
            inner.syncer.sync(mark).map_err(crate::error::at("sync", inner.layout.root.clone()))?;
        }
        let exchanged = {
            // Renames under the lock, and nothing else: a container that is prepared now would otherwise
            // be given the directory that goes.
            let mut tables = inner.tables();
            if tables.is_used_by_container(&job.chain_id) {
                return Ok(Replaced::InUse);
            }
            let exchanged = staging.exchange(job.chain_id.hex());
            match &exchanged {
                Ok(()) => tables.insert_layer(info.clone(), true, Instant::now()),
                Err(failed) if failed.is_lost => tables.lose_layer(&job.chain_id),
                Err(_) => {}
            }
            exchanged
        };
        if let Err(NotExchanged { cause, is_lost }) = exchanged {
            if is_lost {
                inner.forget_lost(&job.chain_id);
            }
            return Err(of_layer(job, cause));
        }
        let recorded = inner.sync_places().and_then(|()| inner.record_layer(&info, true));
        recorded.map_err(|e| of_layer(job, e))?;
        Ok(Replaced::Done)
    }
}

impl Inner {
    /// Forgets images that are not whole any more, and the layer that they lack. What cannot be removed
    /// now is found at the next start.
    fn forget_lost(&self, chain_id: &Digest) {
        let images = self.tables().images_with(chain_id);
        let done =
            images.iter().try_for_each(|image| self.forget_image(image).map(drop)).and_then(|()| {
                let key = records::key(chain_id);
                self.layer_records.remove(&key).map_err(record("remove layer", chain_id.as_str()))
            });
        match done {
            Ok(()) => tracing::warn!(%chain_id, ?images, "a layer is lost, and images with it"),
            Err(error) => {
                tracing::warn!(%chain_id, ?images, %error, "images of a lost layer stay listed");
            }
        }
    }
}
