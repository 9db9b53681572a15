//! Layers of a pull, in parallel, each brought once however many want it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image_store::HeldLayer;
use model::{Class, Classified as _};
use oci_image::Reference;
use operations::Phases;
use registry::{BlobReader, Credentials};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::manifest::Part;
use crate::progress::{LayerCell, LayerState};
use crate::{Images, ImagesError};

/// Whose pull it is.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub reference: Reference,
    pub credentials: Option<Credentials>,
}

impl Images {
    /// Brings all layers here. They stay as long as the answer lives.
    pub(crate) async fn bring_layers(
        &self,
        origin: &Origin,
        parts: Vec<Part>,
        cells: &[Arc<LayerCell>],
    ) -> Result<Vec<Arc<HeldLayer>>, ImagesError> {
        let mut tasks = JoinSet::new();
        for (part, cell) in parts.into_iter().zip(cells) {
            let (images, origin, cell) = (self.clone(), origin.clone(), Arc::clone(cell));
            tasks.spawn(async move { images.bring_layer(origin, part, cell).await });
        }
        let mut held = Vec::new();
        // The first failure ends the wait; layers that are under way are finished and kept for a
        // while, so that the next pull goes on from there.
        while let Some(done) = tasks.join_next().await {
            let layer = done.map_err(|e| ImagesError::Interrupted { what: e.to_string() })??;
            held.push(layer);
        }
        Ok(held)
    }

    async fn bring_layer(
        &self,
        origin: Origin,
        part: Part,
        cell: Arc<LayerCell>,
    ) -> Result<Arc<HeldLayer>, ImagesError> {
        let chain_id = part.job.chain_id.clone();
        loop {
            if let Some(here) = self.inner.store.hold_layer(&chain_id) {
                cell.set(LayerState::Present);
                return Ok(Arc::new(here));
            }
            let is_own = Arc::new(AtomicBool::new(false));
            let work = {
                let (images, origin, part) = (self.clone(), origin.clone(), part.clone());
                let (cell, is_own) = (Arc::clone(&cell), Arc::clone(&is_own));
                move |phases: Phases| {
                    is_own.store(true, Ordering::Relaxed);
                    async move { images.fetch_layer(&origin, part, cell, &phases).await }
                }
            };
            let object = part.job.descriptor.digest.to_string();
            let done =
                self.inner.operations.run("PullLayer", chain_id.to_string(), object, work).await;
            match done {
                Ok(layer) => {
                    cell.set(LayerState::Done);
                    return Ok(layer);
                }
                // Another pull was not allowed to have the layer, or knew another place for it; that
                // says nothing about this one.
                Err(e) if !is_own.load(Ordering::Relaxed) && is_personal(e.class()) => {}
                Err(e) => return Err(e.of_pull(&origin.reference)),
            }
        }
    }

    async fn fetch_layer(
        &self,
        origin: &Origin,
        part: Part,
        cell: Arc<LayerCell>,
        phases: &Phases,
    ) -> Result<Arc<HeldLayer>, ImagesError> {
        phases.enter("wait for a permit", None);
        let permit = Arc::clone(&self.inner.layer_permits).acquire_owned().await;
        let permit = permit.map_err(|e| ImagesError::Interrupted { what: e.to_string() })?;
        phases.enter("connect", None);
        let Origin { reference, credentials } = origin;
        let stream = self
            .inner
            .registry
            .blob(reference, &part.job.descriptor, 0, credentials.as_ref())
            .await?;
        phases.enter("fetch and unpack", None);
        cell.set(LayerState::Fetching);
        let reader = BlobReader::new(stream, Handle::current());
        let held = self
            .blocking(move |store| {
                // Kept by the thread: a pull that is given up leaves it working for a while.
                let _permit = permit;
                store.unpack_layer(&part.job, part.compression, reader, &cell.received)
            })
            .await?;
        Ok(Arc::new(held))
    }
}

/// Whether a failure depends on who asked.
fn is_personal(class: Class) -> bool {
    matches!(
        class,
        Class::Unauthenticated | Class::PermissionDenied | Class::NotFound | Class::Unavailable
    )
}
