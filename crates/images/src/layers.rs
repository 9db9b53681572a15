//! Layers of a pull, in parallel, each brought once however many want it.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use image_store::{Check, Ended, HeldLayer, ImageStore, ImageStoreError, LayerError, Partial};
use model::{Class, Classified as _};
use operations::Phases;
use registry::{BlobReader, RegistryError};
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use crate::check::is_wrong;
use crate::manifest::Part;
use crate::progress::{LayerCell, LayerState};
use crate::source::{Brought, Origin, checked_here};
use crate::{Images, ImagesError};

/// A place among the layers that are brought at once, given back by whoever drops it last.
type Permit = Arc<OwnedSemaphorePermit>;

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
            let layer = async move { images.bring_layer(origin, part, cell).await };
            // A task of its own, and yet a part of this pull.
            tasks.spawn(operations::asked_by(operations::Origin::current(), layer));
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
                    if is_own.load(Ordering::Relaxed) {
                        self.inner.done.unpacked(layer.info());
                    }
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
        let permit = Arc::new(permit);
        let digest = &part.job.descriptor.digest;
        let here = match &origin.layout {
            Some(layout) => Some(layout.open(digest)?),
            None => self.inner.store.kept_blob(&part.job.descriptor),
        };
        if let Some(blob) = here {
            phases.enter("unpack", None);
            let done = self.unpack(&part, &cell, &permit, blob).await;
            match done {
                // A kept blob may have been damaged; the registry has another.
                Err(e) if origin.layout.is_none() => {
                    tracing::warn!(%digest, error = &e as &dyn std::error::Error, "a kept blob cannot be used");
                    cell.received.store(0, Ordering::Relaxed);
                }
                done => return done.map(Arc::new),
            }
        }
        let descriptor = part.job.descriptor.clone();
        let begun = self.blocking(move |store| Ok(store.partial(&descriptor))).await?;
        let have = begun.as_ref().map_or(0, Partial::have);
        let first = self.download(origin, &part, &cell, (&permit, phases), begun).await;
        match first {
            // What was here before was not the beginning of this blob.
            Err(e) if have > 0 && e.class() == Class::DataLoss => {
                cell.received.store(0, Ordering::Relaxed);
                self.download(origin, &part, &cell, (&permit, phases), None).await.map(Arc::new)
            }
            done => done.map(Arc::new),
        }
    }

    async fn unpack(
        &self,
        part: &Part,
        cell: &Arc<LayerCell>,
        permit: &Permit,
        blob: impl Read + Send + 'static,
    ) -> Result<HeldLayer, ImagesError> {
        cell.set(LayerState::Fetching);
        let (part, cell, permit) = (part.clone(), Arc::clone(cell), Arc::clone(permit));
        self.blocking(move |store| {
            let _permit = permit;
            store.bring_layer(&part.job, checked_here(&part.form), blob, &cell.received)
        })
        .await
    }

    async fn download(
        &self,
        origin: &Origin,
        part: &Part,
        cell: &Arc<LayerCell>,
        (permit, phases): (&Permit, &Phases),
        begun: Option<Partial>,
    ) -> Result<HeldLayer, ImagesError> {
        phases.enter("connect", None);
        let Origin { reference, credentials, .. } = origin;
        let have = begun.as_ref().map_or(0, Partial::have);
        let descriptor = &part.job.descriptor;
        let opened = self.inner.registry.blob(reference, descriptor, have, credentials.as_ref());
        let stream = match opened.await {
            Ok(stream) => stream,
            Err(e) => {
                begun.into_iter().for_each(Partial::give_up);
                return Err(e.into());
            }
        };
        phases.enter("fetch and unpack", None);
        cell.set(LayerState::Fetching);
        let reader = BlobReader::new(stream, Handle::current());
        // A stream that began at the beginning compares the digest itself.
        let check = if have == 0 { Check::ByReader } else { Check::Here };
        let (part, cell, permit) = (part.clone(), Arc::clone(cell), Arc::clone(permit));
        self.blocking(move |store| {
            // Kept by the thread: a pull that is given up leaves it working for a while.
            let _permit = permit;
            unpack_and_keep(store, &part, check, &cell, reader, begun)
        })
        .await
    }
}

fn unpack_and_keep(
    store: &ImageStore,
    part: &Part,
    check: Check,
    cell: &LayerCell,
    reader: BlobReader,
    begun: Option<Partial>,
) -> Brought {
    let blob = (&part.form, check);
    let Some(begun) = begun else {
        return store.bring_layer(&part.job, blob, reader, &cell.received);
    };
    let mut reader = begun.reader(reader);
    let done = store.bring_layer(&part.job, blob, &mut reader, &cell.received);
    reader.end(match &done {
        Ok(_) => Ended::Whole,
        Err(e) if is_wrong(class_of(e)) => Ended::Wrong,
        Err(_) => Ended::BrokeOff,
    });
    done
}

/// The class of a failure; the registry's own, where it is the one that failed.
fn class_of(error: &ImageStoreError) -> Class {
    if let ImageStoreError::Layer { source: LayerError::Read(source), .. } = error
        && let Some(of_registry) = source.get_ref().and_then(|e| e.downcast_ref::<RegistryError>())
    {
        return of_registry.class();
    }
    error.class()
}

/// Whether a failure depends on who asked.
fn is_personal(class: Class) -> bool {
    matches!(
        class,
        Class::Unauthenticated | Class::PermissionDenied | Class::NotFound | Class::Unavailable
    )
}
