//! A transparency log's promise (Rekor, SignedEntryTimestamp) that it has a signature, and since when.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::claim::Signer;
use crate::key::PublicKey;
use crate::pem;

/// A promise, as it was given along. Nothing of it is verified.
#[derive(Debug, Clone)]
pub(crate) struct Promise {
    /// The entry, in base64.
    pub body: String,
    /// Seconds since 1970.
    pub integrated_time: u64,
    pub log_index: u64,
    /// Hexadecimal digits.
    pub log_id: String,
    /// The log's signature, in base64.
    pub timestamp: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Annotation {
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

/// An entry of the log, of whatever kind.
#[derive(Deserialize)]
struct Entry {
    kind: String,
}

/// An entry whose kind is known.
#[derive(Deserialize)]
struct Specified<T> {
    spec: T,
}

/// `hashedrekord`.
#[derive(Deserialize)]
struct Record {
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

/// `dsse`, version 0.0.1.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload_hash: Hash,
    signatures: Vec<EnvelopeSigned>,
}

#[derive(Deserialize)]
struct EnvelopeSigned {
    signature: String,
    verifier: String,
}

/// What the log has of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The hash of what was signed.
    Record,
    /// The hash of an envelope's payload.
    Envelope,
}

/// What the log is said to have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Logged<'a> {
    pub kind: Kind,
    /// What is hashed: the message that was signed, or an envelope's payload.
    pub message: &'a [u8],
    /// The signature, in base64.
    pub signature: &'a str,
    pub signer: Signer<'a>,
}

/// What the entry of a log says.
struct Said {
    hash: Hash,
    signature: String,
    /// PEM in base64.
    signer: String,
}

fn bad() -> String {
    "its promise of a transparency log cannot be read".to_owned()
}

impl Promise {
    /// The promise in an annotation of cosign 2.
    ///
    /// # Errors
    /// In words.
    pub fn of_annotation(text: &str) -> Result<Self, String> {
        let Annotation { signed_entry_timestamp: timestamp, payload } =
            serde_json::from_str(text).map_err(|_| bad())?;
        let Payload { body, integrated_time, log_index, log_id } = payload;
        Ok(Self { body, integrated_time, log_index, log_id, timestamp })
    }

    /// When one of `logs` took `entry` in, in seconds since 1970.
    ///
    /// # Errors
    /// In words.
    pub fn verify(&self, logs: &[PublicKey], entry: &Logged<'_>) -> Result<u64, String> {
        let Self { body, integrated_time, log_index, log_id, timestamp } = self;
        // RFC 8785: names sorted, no white space. Only texts of base64 and hexadecimal digits are in it.
        let is_plain =
            |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if !is_plain(body) || !is_plain(log_id) {
            return Err(bad());
        }
        let canonical = format!(
            r#"{{"body":"{body}","integratedTime":{integrated_time},"logID":"{log_id}","logIndex":{log_index}}}"#
        );
        let promise = STANDARD.decode(timestamp).map_err(|_| bad())?;
        if !logs.iter().any(|log| log.verifies(canonical.as_bytes(), &promise)) {
            return Err(
                "the promise of its transparency log is not signed by a known log".to_owned()
            );
        }
        let body = STANDARD.decode(body).map_err(|_| bad())?;
        if said(&body, entry.kind)?.is(entry)? {
            Ok(*integrated_time)
        } else {
            Err("the transparency log has another signature".to_owned())
        }
    }
}

fn said(body: &[u8], kind: Kind) -> Result<Said, String> {
    let entry: Entry = serde_json::from_slice(body).map_err(|_| bad())?;
    match (kind, entry.kind.as_str()) {
        (Kind::Record, "hashedrekord") => {
            let Record { data, signature } = spec(body)?;
            let Signed { content, public_key } = signature;
            Ok(Said { hash: data.hash, signature: content, signer: public_key.content })
        }
        (Kind::Envelope, "dsse") => {
            let Envelope { payload_hash, signatures } = spec(body)?;
            let [EnvelopeSigned { signature, verifier }] =
                <[EnvelopeSigned; 1]>::try_from(signatures).map_err(|_| bad())?;
            Ok(Said { hash: payload_hash, signature, signer: verifier })
        }
        (Kind::Record | Kind::Envelope, other) => {
            let other: String = other.chars().take(40).collect();
            Err(format!("the transparency log has it as {other:?}, which is not read here"))
        }
    }
}

fn spec<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map(|Specified { spec }| spec).map_err(|_| bad())
}

impl Said {
    fn is(&self, entry: &Logged<'_>) -> Result<bool, String> {
        let signer = STANDARD.decode(&self.signer).map_err(|_| bad())?;
        let is_same_signer = match entry.signer {
            Signer::Certificate(certificate) => {
                pem::only(&signer, "CERTIFICATE").as_deref() == Some(certificate)
            }
            Signer::Key(own) => PublicKey::from_pem(&signer)
                .is_ok_and(|keys| matches!(keys.as_slice(), [only] if only.spki() == own.spki())),
        };
        Ok(is_same_signer
            && self.hash.algorithm == "sha256"
            && self.hash.value == oci_image::sha256(entry.message).hex()
            && self.signature == entry.signature)
    }
}
