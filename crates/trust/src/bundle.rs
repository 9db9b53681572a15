//! Signatures as cosign 3 leaves them beside an image: sigstore bundles (protobuf-specs,
//! `sigstore_bundle.proto`, as JSON) of a DSSE envelope around an in-toto statement.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oci_image::{Descriptor, ImageManifest, strict_json};
use serde::Deserialize;

use crate::claim::{Claim, Signer};
use crate::key::PublicKey;
use crate::rekor::{Kind, Logged, Promise};
use crate::statement::{PAYLOAD_TYPE, PREDICATE_TYPE};

/// What refers to an image with a bundle.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The same, as it was written at first.
const BUNDLE_TYPE_AT_FIRST: &str = "application/vnd.dev.sigstore.bundle+json;version=0.3";
/// What some clients say in the place of an artifact's type.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// What a bundle's statement is about, as whoever pushed it says.
const ANNOTATION_PREDICATE: &str = "dev.sigstore.bundle.predicateType";
/// The most entries of transparency logs in a bundle.
const MOST_ENTRIES: usize = 8;
/// The most certificates in a bundle.
const MOST_CERTIFICATES: usize = 8;

/// A bundle that cannot be one of cosign's signatures, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBundle(String);

/// A signature in an envelope, with what is said to stand behind it. Nothing of it is verified.
#[derive(Debug, Clone)]
pub struct Bundle {
    payload: Vec<u8>,
    /// What is signed: the payload and its type (DSSE, "Pre-Authentication Encoding").
    message: Vec<u8>,
    /// In base64.
    signature: String,
    /// DER, its own first; none where a key stands for itself.
    certificates: Vec<Vec<u8>>,
    promises: Vec<Promise>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    #[serde(default)]
    media_type: String,
    verification_material: Material,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Material {
    certificate: Option<Certificate>,
    x509_certificate_chain: Option<Chain>,
    tlog_entries: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
struct Chain {
    certificates: Vec<Certificate>,
}

// What has its default value is left out (ProtoJSON).

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    log_index: Number,
    log_id: Option<LogId>,
    #[serde(default)]
    integrated_time: Number,
    inclusion_promise: Option<InclusionPromise>,
    #[serde(default)]
    canonicalized_body: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LogId {
    #[serde(default)]
    key_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct InclusionPromise {
    signed_entry_timestamp: String,
}

/// Numbers of 64 bits are texts in ProtoJSON, and readers take both.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(String),
    Plain(u64),
}

impl Default for Number {
    fn default() -> Self {
        Self::Plain(0)
    }
}

impl Number {
    fn value(&self) -> Result<u64, BadBundle> {
        match self {
            Self::Text(text) => text.parse().map_err(|_| bad("one of its numbers is none")),
            Self::Plain(number) => Ok(*number),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

fn bad(what: &str) -> BadBundle {
    BadBundle(what.to_owned())
}

fn decoded(what: &str, text: &str) -> Result<Vec<u8>, BadBundle> {
    STANDARD.decode(text).map_err(|_| BadBundle(format!("its {what} is not base64")))
}

impl Bundle {
    /// The bundle in `bytes`, JSON.
    ///
    /// # Errors
    /// [`BadBundle`]; a signature over anything but an in-toto statement is none of cosign's on an image.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadBundle> {
        let raw: Raw =
            strict_json(bytes).map_err(|e| BadBundle(format!("it is no bundle: {e}")))?;
        if !is_bundle(&raw.media_type) {
            return Err(bad("it is a bundle of another version than 0.3"));
        }
        let envelope = raw.dsse_envelope;
        let envelope = envelope.ok_or_else(|| bad("it has no statement in an envelope (DSSE)"))?;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(bad("what it signs is no in-toto statement"));
        }
        let [EnvelopeSignature { sig: signature }] =
            <[EnvelopeSignature; 1]>::try_from(envelope.signatures)
                .map_err(|_| bad("its envelope has not exactly one signature"))?;
        let payload = decoded("payload", &envelope.payload)?;
        let message = encoding(&envelope.payload_type, &payload);
        let Material { certificate, x509_certificate_chain, tlog_entries } =
            raw.verification_material;
        let certificates = certificates(certificate, x509_certificate_chain)?;
        let entries = tlog_entries.unwrap_or_default();
        if entries.len() > MOST_ENTRIES {
            return Err(BadBundle(format!("it has more than {MOST_ENTRIES} entries of logs")));
        }
        let promises: Result<Vec<_>, _> = entries.into_iter().map(Entry::promise).collect();
        let promises = promises?.into_iter().flatten().collect();
        Ok(Self { payload, message, signature, certificates, promises })
    }

    /// The statement that it signs.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// The certificates, the signer's own first.
fn certificates(one: Option<Certificate>, chain: Option<Chain>) -> Result<Vec<Vec<u8>>, BadBundle> {
    let all = match (one, chain) {
        (Some(_), Some(_)) => return Err(bad("it has a certificate and also a chain of them")),
        (Some(one), None) => vec![one],
        (None, Some(chain)) => chain.certificates,
        (None, None) => Vec::new(),
    };
    if all.len() > MOST_CERTIFICATES {
        return Err(BadBundle(format!("it has more than {MOST_CERTIFICATES} certificates")));
    }
    all.iter().map(|c| decoded("certificate", &c.raw_bytes)).collect()
}

impl Entry {
    /// The log's promise; `None` where it gave none, as Rekor 2 gives none.
    fn promise(self) -> Result<Option<Promise>, BadBundle> {
        let Some(InclusionPromise { signed_entry_timestamp: timestamp }) = self.inclusion_promise
        else {
            return Ok(None);
        };
        let key_id = self.log_id.map(|id| id.key_id).unwrap_or_default();
        let key_id = decoded("log's id", &key_id)?;
        Ok(Some(Promise {
            body: self.canonicalized_body,
            integrated_time: self.integrated_time.value()?,
            log_index: self.log_index.value()?,
            log_id: key_id.iter().map(|byte| format!("{byte:02x}")).collect(),
            timestamp,
        }))
    }
}

/// What is signed of a payload of this type (DSSE protocol, "Signature Definition").
fn encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut message =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    message.extend_from_slice(payload);
    message
}

impl Claim for Bundle {
    fn message(&self) -> &[u8] {
        &self.message
    }

    fn signature(&self) -> Result<Vec<u8>, String> {
        decoded("signature", &self.signature).map_err(|e| e.to_string())
    }

    fn certificate(&self) -> Result<Vec<u8>, String> {
        self.certificates.first().cloned().ok_or_else(|| "it has no certificate".to_owned())
    }

    fn between(&self) -> Result<Vec<Vec<u8>>, String> {
        Ok(self.certificates.iter().skip(1).cloned().collect())
    }

    fn logged(&self, logs: &[PublicKey], signer: Signer<'_>) -> Result<u64, String> {
        let (message, signature) = (self.payload.as_slice(), self.signature.as_str());
        let entry = Logged { kind: Kind::Envelope, message, signature, signer };
        let mut why = "it has no promise of a transparency log (Rekor 2 gives none)".to_owned();
        for promise in &self.promises {
            match promise.verify(logs, &entry) {
                Ok(at) => return Ok(at),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }
}

fn is_bundle(media_type: &str) -> bool {
    let plain: String = media_type.chars().filter(|c| *c != ' ').collect();
    plain == BUNDLE_TYPE || plain == BUNDLE_TYPE_AT_FIRST
}

/// Whether what refers to an image may be a signature of it, as far as the list says. A list says what
/// whoever made it liked: this saves reading what is none, and lets in nothing.
#[must_use]
pub fn may_be_signature(referrer: &Descriptor) -> bool {
    let kind = referrer.artifact_type.as_str();
    let is_known = kind.is_empty() || kind == EMPTY_TYPE || is_bundle(kind);
    is_known && referrer.annotations.get(ANNOTATION_PREDICATE).is_none_or(|p| p == PREDICATE_TYPE)
}

/// The bundle of a manifest that has one and nothing else.
#[must_use]
pub fn bundle_of(manifest: &ImageManifest) -> Option<&Descriptor> {
    match manifest.layers.as_slice() {
        [only] if is_bundle(&only.media_type) => Some(only),
        _ => None,
    }
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
