//! A transparency log's promise (Rekor, SignedEntryTimestamp) that it has a signature, and since when.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use crate::key::PublicKey;
use crate::pem;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    body: String,
    integrated_time: u64,
    log_index: u64,
    #[serde(rename = "logID")]
    log_id: String,
}

#[derive(Deserialize)]
struct Entry {
    kind: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: Signed,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    content: String,
    public_key: Content,
}

#[derive(Deserialize)]
struct Content {
    content: String,
}

/// What the log is said to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged<'a> {
    /// The message that was signed.
    pub message: &'a [u8],
    /// The signature, in base64.
    pub signature: &'a str,
    /// The certificate (DER) that stands for the key.
    pub certificate: Option<&'a [u8]>,
    /// The key, where there is no certificate.
    pub key: Option<&'a PublicKey>,
}

/// When one of `logs` took `entry` in, in seconds since 1970.
///
/// # Errors
/// In words.
pub(crate) fn verify(bundle: &str, logs: &[PublicKey], entry: &Logged<'_>) -> Result<u64, String> {
    let bad = || "its promise of a transparency log cannot be read".to_owned();
    let bundle: Bundle = serde_json::from_str(bundle).map_err(|_| bad())?;
    let Payload { body, integrated_time, log_index, log_id } = &bundle.payload;
    // RFC 8785: names sorted, no white space. Only texts of base64 and hexadecimal digits are in it.
    let is_plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    if !is_plain(body) || !is_plain(log_id) {
        return Err(bad());
    }
    let canonical = format!(
        r#"{{"body":"{body}","integratedTime":{integrated_time},"logID":"{log_id}","logIndex":{log_index}}}"#
    );
    let promise = STANDARD.decode(&bundle.signed_entry_timestamp).map_err(|_| bad())?;
    if !logs.iter().any(|log| log.verifies(canonical.as_bytes(), &promise)) {
        return Err("the promise of its transparency log is not signed by a known log".to_owned());
    }
    let body = STANDARD.decode(body).map_err(|_| bad())?;
    let logged: Entry = serde_json::from_slice(&body).map_err(|_| bad())?;
    let hash = oci_image::sha256(entry.message);
    let key = STANDARD.decode(&logged.spec.signature.public_key.content).map_err(|_| bad())?;
    let is_same_key = match (entry.certificate, entry.key) {
        (Some(certificate), _) => pem::only(&key, "CERTIFICATE").as_deref() == Some(certificate),
        (None, Some(own)) => PublicKey::from_pem(&key)
            .is_ok_and(|keys| matches!(keys.as_slice(), [only] if only.spki() == own.spki())),
        (None, None) => false,
    };
    let fits = logged.kind == "hashedrekord"
        && logged.spec.data.hash.algorithm == "sha256"
        && logged.spec.data.hash.value == hash.hex()
        && logged.spec.signature.content == entry.signature
        && is_same_key;
    if fits {
        Ok(*integrated_time)
    } else {
        Err("the transparency log has another signature".to_owned())
    }
}
