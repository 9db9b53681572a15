//! One more name.

use image_store::{Image, ImageName};
use oci_image::Reference;

use crate::{Images, ImagesError};

impl Images {
    /// Gives the image that `text` names the further name `name`, taken from the image that had it.
    ///
    /// # Errors
    /// [`ImagesError::NoImage`]; [`ImagesError::BadReference`] for a name that is none, or is by digest.
    pub async fn tag(&self, text: &str, name: &str) -> Result<Image, ImagesError> {
        let name = parse_name(name)?;
        let image = self
            .find_prefix(text)?
            .ok_or_else(|| ImagesError::NoImage { given: text.to_owned() })?;
        self.blocking(move |store| store.tag(&name, &image.id)).await
    }
}

/// A name by tag, as a user writes it.
pub(crate) fn parse_name(text: &str) -> Result<ImageName, ImagesError> {
    let bad = |reason: String| ImagesError::BadReference { given: text.to_owned(), reason };
    let reference = Reference::parse(text).map_err(|e| bad(e.to_string()))?;
    if reference.digest().is_some() {
        return Err(bad("a name by digest cannot be given to an image".to_owned()));
    }
    Ok(ImageName::of(&reference))
}
