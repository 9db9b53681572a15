//! What is here.

use image_store::{FsInfo, Image};

use crate::{Images, ImagesError};

impl Images {
    /// All images, or those that `filter` names: none or one. Sorted by id; from memory.
    ///
    /// # Errors
    /// [`ImagesError::Store`] for a filter that is no reference.
    pub fn list(&self, filter: Option<&str>) -> Result<Vec<Image>, ImagesError> {
        match filter.filter(|f| !f.is_empty()) {
            None => Ok(self.inner.store.images()),
            Some(text) => Ok(self.inner.store.find(text)?.into_iter().collect()),
        }
    }

    /// The image that `text` names by id, name or digest; `None` if it is not here. From memory.
    ///
    /// # Errors
    /// [`ImagesError::Store`] for a text that is no reference.
    pub fn status(&self, text: &str) -> Result<Option<Image>, ImagesError> {
        Ok(self.inner.store.find(text)?)
    }

    /// As [`Images::status`], and by the first digits of an id. For people.
    ///
    /// # Errors
    /// [`ImagesError::Store`] for a text that is no reference, or that fits several images.
    pub fn find_prefix(&self, text: &str) -> Result<Option<Image>, ImagesError> {
        Ok(self.inner.store.find_prefix(text)?)
    }

    /// Space taken by images and containers, and what is left.
    ///
    /// # Errors
    /// [`ImagesError::Store`] when a file system does not answer.
    pub async fn fs_info(&self) -> Result<FsInfo, ImagesError> {
        self.blocking(|store| store.fs_info()).await
    }
}
