//! Names without a registry.

use image_store::Image;
use model::{Class, Classified as _};
use oci_image::Reference;

use crate::{Images, ImagesError};

impl Images {
    /// What `text` can mean: itself, where it names its registry or the node's configuration lists none;
    /// else the same name in each of the registries that it lists.
    pub(crate) fn candidates(&self, text: &str) -> Result<Vec<Reference>, ImagesError> {
        let parse = |text: &str| {
            Reference::parse(text).map_err(|e| ImagesError::BadReference {
                given: e.given.clone(),
                reason: e.reason.to_owned(),
            })
        };
        let plain = parse(text)?;
        let registries = &self.inner.sources.unqualified;
        if registries.is_empty() || Reference::says_registry(text) {
            return Ok(vec![plain]);
        }
        registries.iter().map(|registry| parse(&format!("{registry}/{text}"))).collect()
    }

    /// The image that `text` names, by id or by any of the names that it can mean.
    pub(crate) fn look_up(&self, text: &str) -> Result<Option<Image>, ImagesError> {
        let found = self.inner.store.find(text)?;
        let registries = &self.inner.sources.unqualified;
        if found.is_some() || registries.is_empty() || Reference::says_registry(text) {
            return Ok(found);
        }
        let Ok(candidates) = self.candidates(text) else { return Ok(None) };
        for reference in candidates {
            if let Some(image) = self.inner.store.find(&reference.to_string())? {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }
}

/// Whether the next registry of the list is to be asked: only where this one has no such image, or says
/// so in the words that registries have for what a stranger may not see.
pub(crate) fn is_elsewhere(error: &ImagesError) -> bool {
    let is_refused =
        matches!(error.class(), Class::NotFound | Class::Unauthenticated | Class::PermissionDenied);
    is_refused && !error.is_untrusted()
}
