//! Signatures that refer to an image, as cosign 3 leaves them. Nothing of them is trusted here: `trust`
//! verifies what this fetches.

use model::{Class, Classified as _, Digest};
use oci_image::{Descriptor, Manifest, Reference};
use trust::{BUNDLE_TYPE, Bundle, bundle_of, may_be_signature};

use crate::demands::{MAX_PAYLOAD, is_about_the_registry};
use crate::source::Origin;
use crate::{Images, ImagesError};

/// The most signatures in bundles that one image may have. Past it none of them counts: which of them
/// to leave out, nobody can say.
const MOST: usize = 64;
/// The largest manifest of a bundle, in bytes.
const MAX_BUNDLE_MANIFEST: u64 = 64 << 10;

/// What refers to an image.
#[derive(Debug, Default)]
pub(crate) struct Bundles {
    pub found: Vec<Bundle>,
    /// Why others are of no use, without repetitions.
    pub unusable: Vec<String>,
}

impl Images {
    /// The sigstore bundles that refer to the image with this digest.
    ///
    /// # Errors
    /// Why the registry did not give them; [`ImagesError::Unusable`] for too many. One that is no use
    /// spoils none of the others: whoever may push can add one.
    pub(crate) async fn bundles_of(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<Bundles, ImagesError> {
        let (origin, referrers) = self.referrers(origin, digest).await?;
        let mut wanted: Vec<Descriptor> = Vec::new();
        for referrer in referrers.into_iter().filter(may_be_signature) {
            if wanted.iter().all(|w| w.digest != referrer.digest) {
                wanted.push(referrer);
            }
        }
        if wanted.len() > MOST {
            return Err(ImagesError::Unusable {
                object: format!("what refers to {digest}"),
                problem: format!("{} signatures, at most {MOST} are read", wanted.len()),
                class: Class::ResourceExhausted,
            });
        }
        let mut bundles = Bundles::default();
        for referrer in wanted {
            match self.bundle(&origin, referrer).await {
                Ok(Some(bundle)) => bundles.found.push(bundle),
                Ok(None) => {}
                Err(e) if is_about_the_registry(e.class()) => return Err(e),
                Err(e) => {
                    let why = e.to_string();
                    if !bundles.unusable.contains(&why) {
                        bundles.unusable.push(why);
                    }
                }
            }
        }
        Ok(bundles)
    }

    /// What refers to the manifest, and where that is: the directory that the image came from, if it
    /// has a list, else the registry.
    async fn referrers(
        &self,
        origin: &Origin,
        digest: &Digest,
    ) -> Result<(Origin, Vec<Descriptor>), ImagesError> {
        let mut origin = origin.clone();
        if origin.layout.take().is_some() {
            let text = format!("{}:{}", origin.reference.name(), registry::referrers_tag(digest));
            let list = Reference::parse(&text).map_err(|e| ImagesError::BadReference {
                given: e.given.clone(),
                reason: e.reason.to_owned(),
            })?;
            if let Some((layout, top)) = self.preloaded(&list).await? {
                origin.layout = Some(layout);
                let document = Self::parse_document(&text, &top.bytes, &top.descriptor.media_type)?;
                let list = match document {
                    Manifest::Index(index) => index.manifests,
                    Manifest::Image(_) => Vec::new(),
                };
                return Ok((origin, list));
            }
        }
        let given = origin.credentials.as_ref();
        let registry = &self.inner.registry;
        let list = registry.referrers(&origin.reference, digest, BUNDLE_TYPE, given).await?;
        Ok((origin, list))
    }

    /// The bundle that `referrer` has; `None` where it is something else.
    async fn bundle(
        &self,
        origin: &Origin,
        referrer: Descriptor,
    ) -> Result<Option<Bundle>, ImagesError> {
        let object = format!("signature {}", referrer.digest);
        let unusable = |problem: String, class: Class| ImagesError::Unusable {
            object: object.clone(),
            problem,
            class,
        };
        let manifest = plain(&referrer);
        if manifest.size > MAX_BUNDLE_MANIFEST {
            let problem = format!("its manifest has {} bytes", manifest.size);
            return Err(unusable(problem, Class::ResourceExhausted));
        }
        let bytes = self.document(origin, &manifest).await?;
        let document = Self::parse_document(&object, &bytes, &manifest.media_type)?;
        let Manifest::Image(manifest) = document else { return Ok(None) };
        let Some(blob) = bundle_of(&manifest) else { return Ok(None) };
        let bytes = self.small(origin, &plain(blob), MAX_PAYLOAD).await?;
        let bundle = Bundle::parse(&bytes);
        bundle.map(Some).map_err(|e| unusable(e.to_string(), Class::PermissionDenied))
    }
}

/// The descriptor without what it says beside digest, size and type.
fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(&descriptor.media_type, descriptor.digest.clone(), descriptor.size)
}
