//! What refers to a manifest (OCI distribution specification 1.1, "Listing Referrers").

use model::{Class, Digest};
use oci_image::{Descriptor, DocumentKind, MAX_MANIFEST, Manifest, Reference, strict_json, types};
use reqwest::header::{CONTENT_TYPE, HeaderMap, LINK};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{Cause, Phase, RegistryError};
use crate::manifests::{acquire, text};
use crate::registry::{Inner, Registry, Want};
use crate::request::Ask;
use crate::schedule::Failure;
use crate::transport::read_body;

/// The most documents that may refer to one manifest. Past it the list is an error, and nothing of it
/// counts.
pub const MAX_REFERRERS: usize = 1024;
/// The most pages of one list.
const MAX_PAGES: usize = 16;
/// Characters of a digest's hexadecimal digits that the tag of a list has.
const TAG_DIGITS: usize = 64;

#[derive(Deserialize)]
struct List {
    /// Go writes an empty list as `null`.
    manifests: Option<Vec<Descriptor>>,
}

impl Registry {
    /// The documents that refer to the manifest `digest` in the repository of `reference`: all of those
    /// of the type `artifact_type`, and perhaps others. None where nobody knows of any. Where a host has
    /// no API for it, the list under the tag that stands for the digest counts.
    ///
    /// Nothing of it is verified: whoever may push can say that something refers to something.
    ///
    /// # Errors
    /// [`RegistryError`] after all hosts and all tries, and for more than [`MAX_REFERRERS`].
    pub async fn referrers(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: &str,
        credentials: Option<&Credentials>,
    ) -> Result<Vec<Descriptor>, RegistryError> {
        // As trustworthy as a tag, so only hosts that are trusted with those are asked.
        let mut course = self.course(reference, Phase::Referrers, Want::Resolve).await?;
        while let Some(endpoint) = course.next().await {
            let own = self.inner().credentials_at(&endpoint, reference, credentials);
            let asked = Asked { inner: self.inner(), endpoint: &endpoint, reference, own: &own };
            match asked.referrers(digest, artifact_type).await {
                // A mirror that passes images on may have no part of what refers to them.
                Ok(found) if found.is_empty() && !endpoint.own => {
                    course.failed(Cause::NotFound("nothing refers to it there".into()));
                }
                Ok(found) => return Ok(found),
                Err(failure) => course.failed(failure),
            }
        }
        let error = course.error();
        if matches!(error.cause, Cause::NotFound(_)) { Ok(Vec::new()) } else { Err(error) }
    }
}

/// One host that is asked.
struct Asked<'a> {
    inner: &'a Inner,
    endpoint: &'a Endpoint,
    reference: &'a Reference,
    own: &'a Credentials,
}

impl Asked<'_> {
    async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, Failure> {
        match self.by_api(digest, artifact_type).await {
            Err(failure) if has_no_api(&failure.cause) => self.by_tag(digest).await,
            done => done,
        }
    }

    async fn by_api(
        &self,
        digest: &Digest,
        artifact_type: &str,
    ) -> Result<Vec<Descriptor>, Failure> {
        let mut query = format!("artifactType={}", encoded(artifact_type));
        let mut all = Vec::new();
        for _ in 0..MAX_PAGES {
            let what = format!("referrers/{digest}?{query}");
            let accept = Some(types::OCI_INDEX.to_owned());
            let ask = Ask { accept, ..Ask::plain(Method::GET, self.reference, what) };
            let _permit = acquire(self.endpoint).await;
            let answer = self.inner.ask(self.endpoint, &ask, self.own).await?;
            let (headers, url) = (answer.headers().clone(), answer.url().clone());
            let kind = text(&headers, &CONTENT_TYPE).map(oci_image::document_kind);
            if matches!(kind, Some(DocumentKind::Other)) {
                // Some servers have a page for every path.
                return Err(Cause::NotFound("it answers with something else".into()).into());
            }
            let bytes = read_body(answer, MAX_MANIFEST, &self.inner.config.limits).await?;
            let list: List = strict_json(&bytes).map_err(|e| {
                Cause::Manifest(format!("no list of referrers: {e}"), Class::DataLoss)
            })?;
            all.extend(list.manifests.unwrap_or_default());
            bounded(&all)?;
            match next_page(&headers, &url)? {
                Some(next) => query = next,
                None => return Ok(all),
            }
        }
        Err(too_many(&format!("{MAX_PAGES} pages")))
    }

    /// The list that clients keep under a tag where the registry itself keeps none.
    async fn by_tag(&self, digest: &Digest) -> Result<Vec<Descriptor>, Failure> {
        let name = format!("{}:{}", self.reference.name(), referrers_tag(digest));
        let tagged = Reference::parse(&name).map_err(|e| Cause::Config(e.to_string()))?;
        let found = self.inner.resolve_at(self.endpoint, &tagged, self.own).await?;
        match Manifest::parse(&found.bytes, Some(&found.media_type)) {
            Ok(Manifest::Index(index)) => {
                bounded(&index.manifests)?;
                Ok(index.manifests)
            }
            // Somebody's image by that name.
            Ok(Manifest::Image(_)) => Ok(Vec::new()),
            Err(e) => Err(Cause::Manifest(e.to_string(), model::Classified::class(&e)).into()),
        }
    }
}

/// The tag of the list of what refers to the manifest with this digest.
#[must_use]
pub fn referrers_tag(digest: &Digest) -> String {
    let hex = digest.hex();
    format!("{}-{}", digest.algorithm().name(), &hex[..hex.len().min(TAG_DIGITS)])
}

/// A value of a query (RFC 3986, 3.4).
fn encoded(value: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    value.bytes().map(one).collect()
}

/// Whether an answer says that the host has no such API.
fn has_no_api(cause: &Cause) -> bool {
    matches!(cause, Cause::NotFound(_) | Cause::Status { code: 400 | 405 | 406 | 501, .. })
}

fn bounded(all: &[Descriptor]) -> Result<(), Failure> {
    if all.len() > MAX_REFERRERS {
        return Err(too_many(&format!("{MAX_REFERRERS} documents")));
    }
    Ok(())
}

fn too_many(what: &str) -> Failure {
    Cause::Manifest(format!("more than {what} refer to it"), Class::ResourceExhausted).into()
}

/// The query of the next page, which is at the same address as this one (RFC 8288).
fn next_page(headers: &HeaderMap, at: &Url) -> Result<Option<String>, Failure> {
    let links = headers.get_all(LINK).iter().filter_map(|l| l.to_str().ok());
    let Some(target) = links.flat_map(|l| l.split(',')).find_map(next_target) else {
        return Ok(None);
    };
    let bad = || Failure::from(Cause::Protocol("it names another place for the next page".into()));
    let next = at.join(target).map_err(|_| bad())?;
    if next.origin() != at.origin() || next.path() != at.path() || next.query() == at.query() {
        return Err(bad());
    }
    next.query().map(|q| Some(q.to_owned())).ok_or_else(bad)
}

/// The target of a link, if it leads to the next page.
fn next_target(link: &str) -> Option<&str> {
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.split(';').any(|part| {
        let part = part.trim();
        part.eq_ignore_ascii_case("rel=\"next\"") || part.eq_ignore_ascii_case("rel=next")
    });
    is_next.then_some(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_at_the_same_place() {
        let at = Url::parse("http://r.example/v2/a/referrers/sha256:00?artifactType=x").unwrap();
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, link.parse().unwrap());
            next_page(&headers, &at).map_err(|f| f.cause.to_string())
        };
        let same = "</v2/a/referrers/sha256:00?last=5&n=2>; rel=\"next\"";
        assert_eq!(next(same), Ok(Some("last=5&n=2".to_owned())));
        assert_eq!(next("</v2/x>; rel=\"first\""), Ok(None));
        assert_eq!(next("nonsense"), Ok(None));
        for elsewhere in [
            "<http://e.example/v2/a/referrers/sha256:00?last=5>; rel=next",
            "</v2/b/referrers/sha256:00?last=5>; rel=next",
            "</v2/a/referrers/sha256:00>; rel=next",
            "<?artifactType=x>; rel=next",
        ] {
            assert!(next(elsewhere).is_err(), "{elsewhere}");
        }
    }

    #[test]
    fn the_tag_of_a_list_is_as_long_as_tags_may_be() {
        let of = |text: &str| referrers_tag(&Digest::parse(text).unwrap());
        let (short, long) = ("a".repeat(64), "b".repeat(128));
        assert_eq!(of(&format!("sha256:{short}")), format!("sha256-{short}"));
        assert_eq!(of(&format!("sha512:{long}")), format!("sha512-{}", "b".repeat(64)));
    }
}
