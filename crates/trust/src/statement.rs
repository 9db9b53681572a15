//! What cosign 3 signs of an image: an in-toto statement (Statement v1) with its own predicate.

use std::collections::BTreeMap;

use model::Digest;
use oci_image::strict_json;
use serde::Deserialize;

/// The type of a payload that is a statement.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What a statement says that is a signature and nothing else.
pub(crate) const PREDICATE_TYPE: &str = "https://sigstore.dev/cosign/sign/v1";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    #[serde(default)]
    name: String,
    digest: BTreeMap<String, String>,
}

/// The name under which the statement in `bytes` signs the manifest `digest`; `None` where it says none,
/// as cosign's statements do. Its signature has been verified.
///
/// # Errors
/// In words, where it is another statement, or about something else.
pub(crate) fn signed_name(bytes: &[u8], digest: &Digest) -> Result<Option<String>, String> {
    let Statement { kind, predicate_type, subject } = strict_json(bytes)
        .map_err(|_| "what it signs is no in-toto statement that can be read".to_owned())?;
    if kind != STATEMENT_TYPE {
        return Err(format!("what it signs is of the kind {:?}", shown(&kind)));
    }
    if predicate_type != PREDICATE_TYPE {
        return Err(format!("what it says is no signature but {:?}", shown(&predicate_type)));
    }
    let [Subject { name, digest: digests }] = <[Subject; 1]>::try_from(subject)
        .map_err(|all| format!("its statement is about {} things, not about one", all.len()))?;
    if digests.get(digest.algorithm().name()).map(String::as_str) != Some(digest.hex()) {
        return Err("it is for another image".to_owned());
    }
    Ok(Some(name).filter(|n| !n.is_empty()))
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}
