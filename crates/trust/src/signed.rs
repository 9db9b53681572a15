//! What a signature must be to count.

use model::Digest;
use oci_image::Reference;
use serde::Deserialize;

use crate::bundle::Bundle;
use crate::certificate::Authorities;
use crate::claim::{Claim, Signer};
use crate::key::PublicKey;
use crate::signature::Signature;
use crate::statement;

const PAYLOAD_KIND: &str = "cosign container image signature";

/// An image that nobody signed as is asked. Says why no signature counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no signature is accepted: {}", told(reasons))]
pub struct Unsigned {
    /// One for each signature, without repetitions; none where there is no signature.
    pub reasons: Vec<String>,
}

fn told(reasons: &[String]) -> String {
    if reasons.is_empty() { "there is none".to_owned() } else { reasons.join("; ") }
}

/// A demand for a signature.
#[derive(Debug, Clone)]
pub struct Signed {
    pub(crate) by: By,
    /// Logs of which one must have the signature; none need to where there are none.
    pub(crate) logs: Vec<PublicKey>,
    pub(crate) identity: Identity,
}

#[derive(Debug, Clone)]
pub(crate) enum By {
    /// One of these keys.
    Keys(Vec<PublicKey>),
    /// A key that an authority gave this identity a certificate for.
    Identity { authorities: Authorities, issuer: String, subject: String },
}

/// How the name in a signature must fit the name that is pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The repository, where a digest is pulled; else repository and tag. The signature must have a
    /// tag or a digest.
    RepositoryOrExact,
    /// Repository and tag or digest.
    Exact,
    /// The repository.
    Repository,
    /// This name, whatever is pulled.
    ExactReference(String),
    /// This repository, whatever is pulled.
    ExactRepository(String),
    /// No name at all: the signature is for the manifest, wherever it is pulled from.
    Any,
    /// As [`Self::RepositoryOrExact`], for the pulled name with another beginning.
    Remapped { prefix: String, signed_prefix: String },
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: PayloadIdentity,
    image: PayloadImage,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct PayloadIdentity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Deserialize)]
struct PayloadImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

impl Signed {
    /// Whether one of `signatures` is good for the manifest `digest` that `wanted` led to.
    ///
    /// # Errors
    /// [`Unsigned`] unless one is.
    pub fn check(
        &self,
        signatures: &[Signature],
        wanted: &Reference,
        digest: &Digest,
    ) -> Result<(), Unsigned> {
        any(signatures, |signature| {
            self.check_signer(signature)?;
            self.check_payload(&signature.payload, wanted, digest)
        })
    }

    /// As [`Self::check`], for signatures in bundles.
    ///
    /// # Errors
    /// [`Unsigned`] unless one is good.
    pub fn check_bundles(
        &self,
        bundles: &[Bundle],
        wanted: &Reference,
        digest: &Digest,
    ) -> Result<(), Unsigned> {
        any(bundles, |bundle| {
            self.check_signer(bundle)?;
            match statement::signed_name(bundle.payload(), digest)? {
                Some(name) => self.check_name(&name, wanted),
                None if self.identity == Identity::Any => Ok(()),
                None => Err(
                    "it signs the image under no name, as cosign 3 does, and the policy wants one \
                     (signedIdentity; matchDigest wants none)"
                        .to_owned(),
                ),
            }
        })
    }

    /// Whether what is claimed to be signed is, by whom the policy says.
    fn check_signer(&self, claim: &impl Claim) -> Result<(), String> {
        let signature = claim.signature()?;
        match &self.by {
            By::Keys(keys) => {
                let key = keys.iter().find(|k| k.verifies(claim.message(), &signature));
                let key =
                    key.ok_or_else(|| "it is not signed by a key of the policy".to_owned())?;
                if !self.logs.is_empty() {
                    claim.logged(&self.logs, Signer::Key(key))?;
                }
            }
            By::Identity { authorities, issuer, subject } => {
                // Read once: the certificate that the log has is the one that the authority gave.
                let certificate = claim.certificate()?;
                // A certificate is good for minutes; the log says that it was used within them.
                let at = claim.logged(&self.logs, Signer::Certificate(&certificate))?;
                let leaf = authorities.verify(&certificate, claim.between()?, at)?;
                if leaf.issuer.as_ref() != Some(issuer) {
                    return Err(format!("its signer was not known to {issuer}"));
                }
                if !leaf.names.contains(subject) {
                    return Err(format!("it is signed by {:?}, not by {subject}", leaf.names));
                }
                if !leaf.key.verifies(claim.message(), &signature) {
                    return Err("it is not signed by the key of its certificate".to_owned());
                }
            }
        }
        Ok(())
    }

    fn check_payload(
        &self,
        bytes: &[u8],
        wanted: &Reference,
        digest: &Digest,
    ) -> Result<(), String> {
        let Payload { critical } = serde_json::from_slice(bytes)
            .map_err(|_| "what it signs is not cosign's payload".to_owned())?;
        if critical.kind != PAYLOAD_KIND {
            return Err(format!("it is of the kind {:?}", critical.kind));
        }
        if critical.image.digest != digest.as_str() {
            return Err("it is for another image".to_owned());
        }
        self.check_name(&critical.identity.reference, wanted)
    }

    fn check_name(&self, name: &str, wanted: &Reference) -> Result<(), String> {
        if self.identity.fits(name, wanted) {
            Ok(())
        } else {
            Err(format!("it is for the name {name:?}"))
        }
    }
}

/// Whether `check` takes one of `all`.
fn any<T>(all: &[T], check: impl Fn(&T) -> Result<(), String>) -> Result<(), Unsigned> {
    let mut reasons: Vec<String> = Vec::new();
    for one in all {
        match check(one) {
            Ok(()) => return Ok(()),
            Err(reason) if reasons.contains(&reason) => {}
            Err(reason) => reasons.push(reason),
        }
    }
    Err(Unsigned { reasons })
}

impl Identity {
    fn fits(&self, signed: &str, wanted: &Reference) -> bool {
        if *self == Self::Any {
            return true;
        }
        let Some((repository, version)) = split(signed) else { return false };
        let exact = |reference: &Reference| {
            repository == reference.name() && version.as_deref() == Some(reference.version())
        };
        // The digest that is pulled is compared with the signed one in any case. A signature without
        // any version is for no tag (matchRepoDigestOrExact).
        let repository_or_exact = |name: &str| {
            repository == name
                && version
                    .as_deref()
                    .is_some_and(|v| wanted.digest().is_some() || v == wanted.version())
        };
        match self {
            Self::Any => true,
            Self::RepositoryOrExact => repository_or_exact(wanted.name()),
            Self::Exact => exact(wanted),
            Self::Repository => repository == wanted.name(),
            Self::ExactReference(text) => Reference::parse(text).is_ok_and(|r| exact(&r)),
            Self::ExactRepository(text) => {
                split(text).is_some_and(|(of_policy, _)| of_policy == repository)
            }
            Self::Remapped { prefix, signed_prefix } => {
                // What is outside of the prefix keeps its name.
                match below(wanted.name(), prefix) {
                    Some(rest) => repository_or_exact(&format!("{signed_prefix}{rest}")),
                    None => repository_or_exact(wanted.name()),
                }
            }
        }
    }
}

/// What follows `prefix`, where it ends at the end of a part of the name.
fn below<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Repository and version of a name; no version where it has neither tag nor digest, as cosign writes it.
fn split(text: &str) -> Option<(String, Option<String>)> {
    let reference = Reference::parse(text).ok()?;
    let last = text.rsplit('/').next().unwrap_or(text);
    let version = last.contains([':', '@']).then(|| reference.version().to_owned());
    Some((reference.name().to_owned(), version))
}

#[cfg(test)]
#[path = "signed_tests.rs"]
mod tests;
