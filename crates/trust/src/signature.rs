//! Signatures as cosign stores them beside an image.

use std::collections::BTreeMap;

use model::Digest;
use oci_image::{Descriptor, ImageManifest};

/// The type of a layer that is a signature's payload.
const PAYLOAD_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The most signatures of one image that are looked at.
const MOST: usize = 64;

/// The tag of the manifest that holds the signatures of the manifest with this digest.
#[must_use]
pub fn signature_tag(digest: &Digest) -> String {
    format!("{}-{}.sig", digest.algorithm().name(), digest.hex())
}

/// A signature, with its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The bytes that were signed.
    pub payload: Vec<u8>,
    /// The signature, in base64.
    pub signature: String,
    /// The certificate that stands for the key, PEM.
    pub certificate: Option<String>,
    /// Certificates between that one and its authority, PEM.
    pub chain: Option<String>,
    /// The promise of a transparency log, JSON.
    pub bundle: Option<String>,
}

impl Signature {
    /// The signature that a layer's annotations say, over `payload`; `None` if there is none.
    #[must_use]
    pub fn of(annotations: &BTreeMap<String, String>, payload: Vec<u8>) -> Option<Self> {
        let take = |key: &str| annotations.get(key).filter(|v| !v.is_empty()).cloned();
        Some(Self {
            payload,
            signature: take("dev.cosignproject.cosign/signature")?,
            certificate: take("dev.sigstore.cosign/certificate"),
            chain: take("dev.sigstore.cosign/chain"),
            bundle: take("dev.sigstore.cosign/bundle"),
        })
    }
}

/// The payloads that a manifest of signatures lists, at most so many as are looked at.
#[must_use]
pub fn signatures(manifest: &ImageManifest) -> Vec<&Descriptor> {
    manifest.layers.iter().filter(|l| l.media_type == PAYLOAD_TYPE).take(MOST).collect()
}
