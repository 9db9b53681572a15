//! One more name.

use image_store::{Image, ImageName};

use crate::{Images, ImagesError};

impl Images {
    /// Gives the image that `text` names the further name `name`, taken from the image that had it.
    ///
    /// # Errors
    /// [`ImagesError::NoImage`]; [`ImagesError::BadReference`] for a name that is none, or is by digest.
    pub async fn tag(&self, text: &str, name: &str) -> Result<Image, ImagesError> {
        let name = self.new_name(name)?;
        let image = self
            .find_prefix(text)?
            .ok_or_else(|| ImagesError::NoImage { given: text.to_owned() })?;
        self.blocking(move |store| store.tag(&name, &image.id)).await
    }

    /// A name by tag, as a user writes it.
    pub(crate) fn new_name(&self, text: &str) -> Result<ImageName, ImagesError> {
        let reference = self.first_candidate(text)?;
        if reference.digest().is_some() {
            let reason = "a name by digest cannot be given to an image".to_owned();
            return Err(ImagesError::BadReference { given: text.to_owned(), reason });
        }
        Ok(ImageName::of(&reference))
    }
}
