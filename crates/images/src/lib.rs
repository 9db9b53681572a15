//! Use cases of images: pull, push, load, save, tag, list, status, remove, check, prune, fs_info, progress,
//! collection.
//!
//! Owns: the order of a pull (resolve, manifest, configuration, layers in parallel, record, names)
//! and what a caller may ask about images. Always: a pull belongs to the daemon, so a caller that
//! gives up cancels nothing and a second pull of the same joins the first; every byte is verified
//! before it counts; credentials are in no error and no log.
//! Callers: `cri-server` (ImageService, Admin) and the daemon's wiring.

mod bundles;
mod check;
mod collect;
mod credentials;
mod demands;
mod error;
mod layers;
mod layout;
mod list;
mod load;
mod manifest;
mod progress;
mod prune;
mod pull;
mod push;
mod remove;
mod save;
mod short;
mod source;
mod spool;
mod tag;
mod work;

use std::hash::RandomState;
use std::sync::Arc;

use image_store::ImageStore;
use operations::Operations;
use registry::Registry;

pub use check::{Checked, Damage, Mended, Repair};
pub use credentials::credentials;
pub use error::ImagesError;
pub use image_store::{FsInfo, FsUsage, Image, ImageStoreError, LayerCheck, Removed, Usage};
pub use load::LoadedImage;
pub use progress::{LayerProgress, LayerState, PullProgress};
pub use prune::{Prune, Pruned};
pub use pull::{PullLimits, Pulled};
pub use push::Pushed;
pub use registry::{AuthParts, Credentials};
pub use source::Sources;
pub use work::Work;

/// The images of a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: ImageStore,
    registry: Registry,
    operations: Operations,
    limits: PullLimits,
    sources: Sources,
    progress: progress::Table,
    done: work::Done,
    /// Keys of pulls hold a hash of their credentials, of no use to anybody else.
    hasher: RandomState,
    layer_permits: Arc<tokio::sync::Semaphore>,
}

impl Images {
    /// The use cases on `store`, pulling through `registry`, as operations of `operations`.
    #[must_use]
    pub fn new(
        store: ImageStore,
        registry: Registry,
        operations: Operations,
        limits: PullLimits,
        sources: Sources,
    ) -> Self {
        let layer_permits = Arc::new(tokio::sync::Semaphore::new(limits.layers_at_once.max(1)));
        let progress = progress::Table::default();
        let hasher = RandomState::new();
        let done = work::Done::default();
        let inner = Inner {
            store,
            registry,
            operations,
            limits,
            sources,
            progress,
            done,
            hasher,
            layer_permits,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The store below.
    #[must_use]
    pub fn store(&self) -> &ImageStore {
        &self.inner.store
    }

    /// Runs `work` on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImageStore) -> Result<T, ImageStoreError> + Send + 'static,
    ) -> Result<T, ImagesError> {
        let store = self.inner.store.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => Ok(done?),
            Err(e) => Err(ImagesError::Interrupted { what: e.to_string() }),
        }
    }
}
