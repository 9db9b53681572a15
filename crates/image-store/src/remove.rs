//! Takes images and layers away.

use std::time::{Duration, Instant};

use model::Digest;

use crate::commit::record;
use crate::error::ImageStoreError;
use crate::records;
use crate::steps::Step;
use crate::store::{ImageStore, Inner};
use crate::trash::{self, Area};
use crate::types::{Collected, Removed};

impl ImageStore {
    /// Removes an image with all its names, and the layers that nothing else uses. Layers that a
    /// container uses stay until it is released. `None` if there is no such image.
    ///
    /// # Errors
    /// What cannot be written; the image is listed with the names that are left then.
    pub fn remove_image(&self, id: &Digest) -> Result<Option<Removed>, ImageStoreError> {
        let inner = &self.inner;
        let Some((names, idle, kept)) = inner.forget_image(id)? else { return Ok(None) };
        let mut layers_freed = 0;
        let mut trees = Vec::new();
        for chain_id in &idle {
            if let Some(tree) = inner.free_layer(chain_id)? {
                layers_freed += 1;
                trees.push(tree);
            }
        }
        inner.delete(Area::Images, &trees);
        Ok(Some(Removed { id: id.clone(), names, layers_freed, layers_in_use: kept }))
    }

    /// Does at most `budget` pieces of collection: layers that nobody has used for a while go to the
    /// trash, the trash is emptied. What cannot be deleted does not stop the rest.
    ///
    /// # Errors
    /// A layer cannot be moved to the trash; the trash cannot be read.
    pub fn collect(&self, budget: usize) -> Result<Collected, ImageStoreError> {
        self.collect_older(self.inner.options.keep_unused, budget)
    }

    /// As [`ImageStore::collect`], for layers that nobody has used for `keep`.
    ///
    /// # Errors
    /// As there.
    pub fn collect_older(
        &self,
        keep: Duration,
        budget: usize,
    ) -> Result<Collected, ImageStoreError> {
        let inner = &self.inner;
        let idle = inner.tables().idle_layers(keep, Instant::now(), budget);
        let mut done = Collected::default();
        for chain_id in &idle {
            let size = inner.tables().layer(chain_id).map_or(0, |l| l.info.usage.bytes);
            if inner.free_layer(chain_id)?.is_some() {
                done.layers += 1;
                done.bytes += size;
            }
        }
        let emptied = inner.empty_trash(budget)?;
        done.deleted = emptied.deleted;
        done.undeletable = emptied.stuck;
        done.more = emptied.more || idle.len() >= budget;
        Ok(done)
    }
}

pub(crate) type Forgotten = (Vec<crate::ImageName>, Vec<Digest>, usize);

impl Inner {
    /// Removes names and record; the layers that nobody uses now, and how many others still use, are
    /// returned.
    pub fn forget_image(&self, id: &Digest) -> Result<Option<Forgotten>, ImageStoreError> {
        let _writer = self.writer();
        if !self.tables().has_image(id) {
            return Ok(None);
        }
        let names = self.tables().names_of(id);
        for name in &names {
            self.forget_name(name)?;
        }
        self.step(Step::ForgetImage, "remove an image from", self.layout.root.clone())?;
        self.image_records
            .remove(&records::key(id))
            .map_err(record("remove image", id.as_str()))?;
        let mut tables = self.tables();
        let Some(entry) = tables.remove_image(id) else { return Ok(None) };
        let idle = tables.unuse_layers(&entry.layers, Instant::now());
        let kept = entry.layers.len() - idle.len();
        Ok(Some((names, idle, kept)))
    }

    /// Moves a layer to the trash unless somebody uses it (again); its place there is returned.
    pub fn free_layer(&self, chain_id: &Digest) -> Result<Option<String>, ImageStoreError> {
        let _turn = self.chains.take(chain_id);
        let (blob, is_orphaned) = {
            let mut tables = self.tables();
            let Some(info) = tables.take_idle(chain_id) else { return Ok(None) };
            let is_orphaned = tables.take_orphaned_blob(&info.blob);
            (info.blob, is_orphaned)
        };
        if is_orphaned {
            self.drop_blob(&blob);
        }
        self.step(Step::ForgetLayer, "remove a layer from", self.layout.root.clone())?;
        self.layer_records
            .remove(&records::key(chain_id))
            .map_err(record("remove layer", chain_id.as_str()))?;
        let layers = &self.layout.layers_fd;
        let steps = &*self.options.steps;
        trash::trash(&self.layout, steps, Area::Images, layers, chain_id.hex().as_ref())
    }
}
