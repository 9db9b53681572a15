//! Names without a registry. What they can mean, the store says: to pods, too.

use image_store::ImageStoreError;
use model::{Class, Classified as _};
use oci_image::Reference;

use crate::{Images, ImagesError};

impl Images {
    /// What `text` can mean, the first choice first.
    pub(crate) fn candidates(&self, text: &str) -> Result<Vec<Reference>, ImagesError> {
        self.inner.store.candidates(text).map_err(|error| match error {
            ImageStoreError::BadReference { given, reason } => {
                ImagesError::BadReference { given, reason }
            }
            ImageStoreError::Locked { .. }
            | ImageStoreError::Format { .. }
            | ImageStoreError::Io { .. }
            | ImageStoreError::Record { .. }
            | ImageStoreError::Layer { .. }
            | ImageStoreError::BadConfig { .. }
            | ImageStoreError::NoLayer { .. }
            | ImageStoreError::NoImage { .. }
            | ImageStoreError::NoContainer { .. }
            | ImageStoreError::NoQuota { .. }
            | ImageStoreError::NoProject { .. }
            | ImageStoreError::OverLimit { .. }
            | ImageStoreError::Ambiguous { .. }
            | ImageStoreError::TooLong { .. } => ImagesError::Store(error),
        })
    }

    /// What `text` means where it is to be a name: it is found by the same text afterwards.
    pub(crate) fn first_candidate(&self, text: &str) -> Result<Reference, ImagesError> {
        let first = self.candidates(text)?.into_iter().next();
        first.ok_or_else(|| ImagesError::NoImage { given: text.to_owned() })
    }
}

/// Whether the next registry of the list is to be asked: only where this one has no such image, or says
/// so in the words that registries have for what a stranger may not see.
pub(crate) fn is_elsewhere(error: &ImagesError) -> bool {
    let is_refused =
        matches!(error.class(), Class::NotFound | Class::Unauthenticated | Class::PermissionDenied);
    is_refused && !error.is_untrusted()
}
