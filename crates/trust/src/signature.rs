//! Signatures as cosign 2 stores them beside an image.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Digest;
use oci_image::{Descriptor, ImageManifest};

use crate::claim::{Claim, Signer};
use crate::key::PublicKey;
use crate::pem;
use crate::rekor::{Kind, Logged, Promise};

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

impl Claim for Signature {
    fn message(&self) -> &[u8] {
        &self.payload
    }

    fn signature(&self) -> Result<Vec<u8>, String> {
        let bytes = STANDARD.decode(self.signature.trim());
        bytes.map_err(|_| "its signature is not base64".to_owned())
    }

    fn certificate(&self) -> Result<Vec<u8>, String> {
        let none = || "it has no certificate".to_owned();
        let text = self.certificate.as_ref().ok_or_else(none)?.as_bytes();
        pem::only(text, "CERTIFICATE")
            .ok_or_else(|| "it has not one certificate that can be read".to_owned())
    }

    fn between(&self) -> Result<Vec<Vec<u8>>, String> {
        let chain = self.chain.as_deref().unwrap_or_default();
        pem::blocks(chain.as_bytes(), "CERTIFICATE")
            .ok_or_else(|| "its certificate cannot be read".to_owned())
    }

    fn logged(&self, logs: &[PublicKey], signer: Signer<'_>) -> Result<u64, String> {
        let bundle = self.bundle.as_ref();
        let bundle = bundle.ok_or_else(|| "it has no promise of a transparency log".to_owned())?;
        let entry = Logged {
            kind: Kind::Record,
            message: &self.payload,
            signature: self.signature.trim(),
            signer,
        };
        Promise::of_annotation(bundle)?.verify(logs, &entry)
    }
}

/// The payloads that a manifest of signatures lists, at most so many as are looked at.
#[must_use]
pub fn signatures(manifest: &ImageManifest) -> Vec<&Descriptor> {
    manifest.layers.iter().filter(|l| l.media_type == PAYLOAD_TYPE).take(MOST).collect()
}
