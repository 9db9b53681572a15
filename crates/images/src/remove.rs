//! Takes an image away.

use image_store::Removed;

use crate::{Images, ImagesError};

impl Images {
    /// Removes the image that `text` names, with all its names; `None` if it is not here. What
    /// containers use of it stays until they are gone.
    ///
    /// # Errors
    /// [`ImagesError::Store`].
    pub async fn remove(&self, text: &str) -> Result<Option<Removed>, ImagesError> {
        let Some(image) = self.inner.store.find(text)? else { return Ok(None) };
        self.blocking(move |store| store.remove_image(&image.id)).await
    }
}
