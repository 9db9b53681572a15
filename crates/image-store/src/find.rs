//! Which images are here.

use model::Digest;
use oci_image::Reference;

use crate::error::ImageStoreError;
use crate::names::ImageName;
use crate::store::ImageStore;
use crate::types::Image;

impl ImageStore {
    /// All images, sorted by id.
    #[must_use]
    pub fn images(&self) -> Vec<Image> {
        self.inner.tables().all_images()
    }

    /// What `text` can mean: itself, where it names its registry or the node's configuration lists none;
    /// else the same name in each of the registries that it lists, in that order, and nothing else.
    /// There is at least one.
    ///
    /// # Errors
    /// [`ImageStoreError::BadReference`].
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>, ImageStoreError> {
        let parse = |text: &str| {
            Reference::parse(text).map_err(|e| ImageStoreError::BadReference {
                given: e.given,
                reason: e.reason.to_owned(),
            })
        };
        let plain = parse(text)?;
        let registries = &self.inner.options.unqualified;
        if registries.is_empty() || Reference::says_registry(text) {
            return Ok(vec![plain]);
        }
        registries.iter().map(|registry| parse(&format!("{registry}/{text}"))).collect()
    }

    /// The image that `text` names: by id (with or without `sha256:`), else by name or name@digest, the
    /// first of its [candidates](Self::candidates) that is here.
    ///
    /// # Errors
    /// [`ImageStoreError::BadReference`].
    pub fn find(&self, text: &str) -> Result<Option<Image>, ImageStoreError> {
        let by_id = Digest::parse(text).or_else(|_| Digest::parse(&format!("sha256:{text}")));
        if let Ok(id) = by_id {
            return Ok(self.inner.tables().image(&id));
        }
        let candidates = self.candidates(text)?;
        let tables = self.inner.tables();
        // With a tag and a digest, the digest says what is meant; the same image may be here under it
        // or, where it was loaded from an archive, under its id.
        let mut named = candidates.iter().filter_map(|r| tables.named(&ImageName::of(r)));
        Ok(named.find_map(|id| tables.image(id)))
    }

    /// As [`ImageStore::find`], and by the first digits of an id. For people.
    ///
    /// # Errors
    /// [`ImageStoreError::BadReference`], [`ImageStoreError::Ambiguous`].
    pub fn find_prefix(&self, text: &str) -> Result<Option<Image>, ImageStoreError> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_prefix = (3..64).contains(&digits.len())
            && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix {
            return self.find(text);
        }
        // A repository may be called like digits; its name comes first.
        if digits.len() == text.len()
            && let Ok(Some(image)) = self.find(text)
        {
            return Ok(Some(image));
        }
        let tables = self.inner.tables();
        match tables.ids_from(digits).as_slice() {
            [] => Ok(None),
            [id] => Ok(tables.image(id)),
            many => Err(ImageStoreError::Ambiguous { given: text.to_owned(), count: many.len() }),
        }
    }
}
