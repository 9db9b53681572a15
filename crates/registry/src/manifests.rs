//! Manifests from one host.

use bytes::Bytes;
use model::{Classified as _, Digest};
use oci_image::{
    Descriptor, DocumentKind, Hasher, MANIFEST_TYPES, MAX_MANIFEST, Manifest, Reference,
};
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, Response};

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::Cause;
use crate::registry::{Head, Inner, Resolved};
use crate::request::Ask;
use crate::schedule::Failure;
use crate::transport::read_body;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

impl Inner {
    pub(crate) async fn resolve_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Resolved, Failure> {
        let (bytes, headers) = self
            .document(endpoint, reference, reference.version(), reference.digest(), credentials)
            .await?;
        let announced = text(&headers, &CONTENT_TYPE);
        let manifest = Manifest::parse(&bytes, announced)
            .map_err(|e| Cause::Manifest(e.to_string(), e.class()))?;
        let named = reference.digest().cloned().or_else(|| digest_of(&headers));
        let digest = match named {
            Some(digest) => {
                check_digest(&bytes, &digest)?;
                digest
            }
            None => oci_image::sha256(&bytes),
        };
        let media_type = manifest.media_type().to_owned();
        Ok(Resolved { digest, media_type, bytes, source: endpoint.host.clone() })
    }

    pub(crate) async fn head_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        credentials: &Credentials,
    ) -> Result<Head, Failure> {
        let verified = reference.digest().is_some();
        let ask = ask_manifest(Method::HEAD, reference, reference.version(), verified);
        let permit = acquire(endpoint).await;
        let answer = self.ask(endpoint, &ask, credentials).await;
        drop(permit);
        let headers = match answer {
            Ok(answer) => answer.headers().clone(),
            // Not every server knows HEAD.
            Err(Failure { cause: Cause::Status { code: 405 | 501, .. }, .. }) => HeaderMap::new(),
            Err(failure) => return Err(failure),
        };
        let Some(digest) = digest_of(&headers) else {
            let resolved = self.resolve_at(endpoint, reference, credentials).await?;
            return Ok(Head {
                digest: resolved.digest,
                media_type: resolved.media_type,
                size: Some(resolved.bytes.len() as u64),
                source: resolved.source,
            });
        };
        if let Some(expected) = reference.digest().filter(|d| **d != digest) {
            return Err(Cause::DigestMismatch { expected: expected.clone(), found: digest }.into());
        }
        Ok(Head {
            digest,
            media_type: text(&headers, &CONTENT_TYPE).unwrap_or_default().to_owned(),
            size: text(&headers, &CONTENT_LENGTH).and_then(|l| l.parse().ok()),
            source: endpoint.host.clone(),
        })
    }

    pub(crate) async fn manifest_at(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        descriptor: &Descriptor,
        credentials: &Credentials,
    ) -> Result<Bytes, Failure> {
        let digest = &descriptor.digest;
        let (bytes, _) =
            self.document(endpoint, reference, digest.as_str(), Some(digest), credentials).await?;
        let found = bytes.len() as u64;
        if found != descriptor.size {
            let expected = descriptor.size;
            return Err(Cause::SizeMismatch { digest: digest.clone(), expected, found }.into());
        }
        Ok(bytes)
    }

    /// A manifest's bytes, checked against `digest` where it is known.
    async fn document(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        version: &str,
        digest: Option<&Digest>,
        credentials: &Credentials,
    ) -> Result<(Bytes, HeaderMap), Failure> {
        let ask = ask_manifest(Method::GET, reference, version, digest.is_some());
        let _permit = acquire(endpoint).await;
        let answer: Response = self.ask(endpoint, &ask, credentials).await?;
        let headers = answer.headers().clone();
        let announced = text(&headers, &CONTENT_TYPE).map(oci_image::document_kind);
        if announced == Some(DocumentKind::Other) {
            // A login page or a proxy's apology is no manifest, however well it reads.
            let kind: String =
                text(&headers, &CONTENT_TYPE).unwrap_or_default().chars().take(80).collect();
            return Err(
                Cause::Protocol(format!("a manifest was asked for and {kind:?} came")).into()
            );
        }
        let bytes = read_body(answer, MAX_MANIFEST, &self.config.limits).await?;
        if let Some(digest) = digest {
            check_digest(&bytes, digest)?;
        }
        Ok((bytes, headers))
    }
}

/// A place among the requests to this host, given back when dropped.
pub(crate) async fn acquire(endpoint: &Endpoint) -> Option<tokio::sync::OwnedSemaphorePermit> {
    // It fails only if the semaphore is closed, which nobody does.
    std::sync::Arc::clone(&endpoint.permits.requests).acquire_owned().await.ok()
}

fn ask_manifest<'a>(
    method: Method,
    reference: &'a Reference,
    version: &str,
    verified: bool,
) -> Ask<'a> {
    Ask {
        method,
        repository: reference.repository(),
        what: format!("manifests/{version}"),
        accept: Some(MANIFEST_TYPES.join(", ")),
        from: 0,
        to: None,
        verified,
        sent: None,
    }
}

fn check_digest(bytes: &[u8], expected: &Digest) -> Result<(), Cause> {
    let mut hasher = Hasher::like(expected);
    hasher.update(bytes);
    let found = hasher.finish();
    if found == *expected {
        Ok(())
    } else {
        Err(Cause::DigestMismatch { expected: expected.clone(), found })
    }
}

fn digest_of(headers: &HeaderMap) -> Option<Digest> {
    text(headers, &DIGEST).and_then(|d| Digest::parse(d.trim()).ok())
}

pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}
