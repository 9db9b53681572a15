//! The store as one value.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use model::Digest;
use store::Store;

use crate::error::ImageStoreError;
use crate::keyed::Keyed;
use crate::layout::Layout;
use crate::names::Pattern;
use crate::options::Options;
use crate::quotas::Quotas;
use crate::steps::Step;
use crate::sync::Syncer;
use crate::tables::Tables;
use crate::trash::Trees;
use crate::types::{Finding, LayerInfo};

/// The store of one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub layout: Layout,
    pub options: Options,
    pub layer_records: Store,
    pub image_records: Store,
    pub name_records: Store,
    pub container_records: Store,
    pub syncer: Syncer,
    /// Held for moments, never during I/O.
    tables: Mutex<Tables>,
    /// Layers that are unpacked, settled or removed now.
    pub chains: Keyed<Digest>,
    /// Containers that are prepared or released now.
    pub busy_containers: Keyed<model::ContainerId>,
    /// Whoever changes records of images and names; readers and containers never wait for it.
    pub writer: Mutex<()>,
    pub trees: Trees,
    pub quotas: Quotas,
    /// Whether somebody has asked what containers take.
    pub asked: AtomicBool,
    pub findings: Vec<Finding>,
    /// Keeps other processes out.
    _lock: OwnedFd,
}

/// What opening put together.
#[derive(Debug)]
pub(crate) struct Opened {
    pub layout: Layout,
    pub options: Options,
    pub layer_records: Store,
    pub image_records: Store,
    pub name_records: Store,
    pub container_records: Store,
    pub syncer: Syncer,
    pub tables: Tables,
    pub quotas: Quotas,
    pub findings: Vec<Finding>,
    pub lock: OwnedFd,
}

impl ImageStore {
    pub(crate) fn assemble(opened: Opened) -> Self {
        let inner = Inner {
            layout: opened.layout,
            options: opened.options,
            layer_records: opened.layer_records,
            image_records: opened.image_records,
            name_records: opened.name_records,
            container_records: opened.container_records,
            syncer: opened.syncer,
            tables: Mutex::new(opened.tables),
            chains: Keyed::default(),
            busy_containers: Keyed::default(),
            writer: Mutex::new(()),
            trees: Trees::default(),
            quotas: opened.quotas,
            asked: AtomicBool::new(false),
            findings: opened.findings,
            _lock: opened.lock,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The directory that everything is in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.inner.layout.root
    }

    /// What was not as it should be when the store was opened, and was put right or aside.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.inner.findings
    }

    /// Replaces the patterns of pinned images.
    pub fn set_pinned(&self, pinned: Vec<Pattern>) {
        self.inner.tables().pinned = pinned;
    }

    /// The layer, if it is here.
    #[must_use]
    pub fn layer(&self, chain_id: &Digest) -> Option<LayerInfo> {
        self.inner.tables().layer(chain_id).map(|l| l.info.clone())
    }

    /// The layer, if it is here; it stays as long as the answer lives.
    #[must_use]
    pub fn hold_layer(&self, chain_id: &Digest) -> Option<HeldLayer> {
        let mut tables = self.inner.tables();
        let info = tables.layer(chain_id)?.info.clone();
        tables.use_layers(std::slice::from_ref(chain_id)).ok()?;
        Some(HeldLayer { inner: Arc::clone(&self.inner), info })
    }
}

impl Inner {
    pub fn tables(&self) -> MutexGuard<'_, Tables> {
        // Each call on the tables leaves them whole, so a panic elsewhere does not spoil them.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the hook, as a failure of `action` on `path`.
    pub fn step(
        &self,
        step: Step,
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> Result<(), ImageStoreError> {
        self.options.steps.before(step).map_err(crate::error::at(action, path))
    }
}

/// A layer that is not collected as long as this value lives.
#[derive(Debug)]
pub struct HeldLayer {
    inner: Arc<Inner>,
    info: LayerInfo,
}

impl HeldLayer {
    /// A layer whose use has been counted already.
    pub(crate) fn counted(inner: Arc<Inner>, info: LayerInfo) -> Self {
        Self { inner, info }
    }

    /// The layer.
    #[must_use]
    pub fn info(&self) -> &LayerInfo {
        &self.info
    }
}

impl Drop for HeldLayer {
    fn drop(&mut self) {
        let chain_id = std::slice::from_ref(&self.info.chain_id);
        // What nobody uses now is kept for a while, and collected later.
        let _idle = self.inner.tables().unuse_layers(chain_id, Instant::now());
    }
}
