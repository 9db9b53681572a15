//! Room for archives while they are read or written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{ImageStoreError, at};
use crate::layout;
use crate::store::{ImageStore, Inner};
use crate::trash::{self, Area};

/// A directory on the store's file system that goes with this value, or at the next start.
#[derive(Debug)]
pub struct Scratch {
    inner: Arc<Inner>,
    name: String,
    path: PathBuf,
}

impl ImageStore {
    /// Makes an empty directory for the caller alone.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn scratch(&self) -> Result<Scratch, ImageStoreError> {
        let layout = &self.inner.layout;
        let name = layout.unique();
        let path = layout.root.join("staging").join(&name);
        layout::ensure_dir(&layout.staging_fd, &name).map_err(at("make", path.clone()))?;
        Ok(Scratch { inner: Arc::clone(&self.inner), name, path })
    }
}

impl Scratch {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let layout = &self.inner.layout;
        let steps = &*self.inner.options.steps;
        match trash::trash(layout, steps, Area::Images, &layout.staging_fd, self.name.as_ref()) {
            Ok(Some(name)) => self.inner.delete(Area::Images, &[name]),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a scratch directory stays until the next start"),
        }
    }
}
