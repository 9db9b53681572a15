//! Content goes to a registry (OCI distribution specification, "Pushing").

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use model::Digest;
use oci_image::{Descriptor, Reference};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Url};

use crate::auth::Key;
use crate::course::Course;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{Cause, Phase, RegistryError};
use crate::registry::{Inner, Registry, Want};
use crate::request::{Ask, Sent};
use crate::schedule::Failure;
use crate::transport::{Refusal, execute, secrets};

/// The slowest connection over which an upload may still take its time, in bytes per second.
const SLOWEST: u64 = 64 << 10;

impl Registry {
    /// Sends the blob that `descriptor` describes, whose bytes are in `file`, unless the registry has it.
    /// Goes to the registry's own host; mirrors take nothing.
    ///
    /// # Errors
    /// [`RegistryError`] after all tries.
    pub async fn push_blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        file: &Path,
        credentials: Option<&Credentials>,
    ) -> Result<(), RegistryError> {
        let mut course = self.own_course(reference).await?;
        while let Some(endpoint) = course.next().await {
            let own = self.inner().credentials_at(&endpoint, reference, credentials);
            let upload = Upload { inner: self.inner(), endpoint: &endpoint, reference, own: &own };
            match upload.blob(descriptor, file).await {
                Ok(()) => return Ok(()),
                Err(failure) => course.failed(failure),
            }
        }
        Err(course.error())
    }

    /// Gives the registry a manifest whose blobs it has; under the tag of `reference`, or its digest.
    ///
    /// # Errors
    /// [`RegistryError`] after all tries.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        manifest: Bytes,
        credentials: Option<&Credentials>,
    ) -> Result<Digest, RegistryError> {
        let digest = oci_image::sha256(&manifest);
        let mut course = self.own_course(reference).await?;
        while let Some(endpoint) = course.next().await {
            let own = self.inner().credentials_at(&endpoint, reference, credentials);
            let ask = Ask {
                sent: Some(Sent { media_type, bytes: manifest.clone() }),
                ..Ask::plain(Method::PUT, reference, format!("manifests/{}", reference.version()))
            };
            match self.inner().ask(&endpoint, &ask, &own).await {
                Ok(_) => return Ok(digest),
                Err(failure) => course.failed(failure),
            }
        }
        Err(course.error())
    }

    async fn own_course(&self, reference: &Reference) -> Result<Course, RegistryError> {
        let endpoints = self.endpoints(reference, Phase::Push, Want::Push).await?;
        Ok(Course::new(endpoints, &self.inner().config.limits, reference, Phase::Push))
    }
}

struct Upload<'a> {
    inner: &'a Arc<Inner>,
    endpoint: &'a Endpoint,
    reference: &'a Reference,
    own: &'a Credentials,
}

impl Upload<'_> {
    async fn blob(&self, descriptor: &Descriptor, file: &Path) -> Result<(), Failure> {
        let here = format!("blobs/{}", descriptor.digest);
        let ask = Ask::plain(Method::HEAD, self.reference, here);
        match self.inner.ask(self.endpoint, &ask, self.own).await {
            Ok(_) => return Ok(()),
            Err(Failure { cause: Cause::NotFound(_), .. }) => {}
            Err(failure) => return Err(failure),
        }
        let ask = Ask::plain(Method::POST, self.reference, "blobs/uploads/".to_owned());
        let begun = self.inner.ask(self.endpoint, &ask, self.own).await?;
        let at = begun.headers().get(LOCATION).and_then(|l| l.to_str().ok());
        let bad = || Failure::from(Cause::Protocol("it names no place for an upload".into()));
        let mut place = begun.url().join(at.ok_or_else(bad)?).map_err(|_| bad())?;
        place.query_pairs_mut().append_pair("digest", descriptor.digest.as_str());
        // The answer may be that of another host, to which the registry redirected: what is meant for the
        // registry goes to its own origin only.
        let is_at_home = self.endpoint.is_at_home(&place, begun.url().scheme() == "http");
        if !is_at_home && place.scheme() != "https" {
            return Err(Cause::Protocol("it sends an upload to a plain http host".into()).into());
        }
        self.put(place, is_at_home, descriptor, file).await
    }

    async fn put(
        &self,
        place: Url,
        is_at_home: bool,
        descriptor: &Descriptor,
        file: &Path,
    ) -> Result<(), Failure> {
        let opened = tokio::fs::File::open(file).await;
        let opened = opened.map_err(|e| Cause::Config(format!("cannot read the blob: {e}")))?;
        let client = &self.endpoint.client;
        let mut request = client
            .request(Method::PUT, place)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, descriptor.size)
            .body(opened);
        let mut header = None;
        if is_at_home {
            let key = Key {
                host: self.endpoint.host.clone(),
                repository: self.reference.repository().to_owned(),
                credentials: self.own.clone(),
            };
            let mut headers = self.endpoint.headers.clone();
            header = self.inner.sessions.of(&key).held().await.header;
            if let Some(header) = &header {
                headers.insert(AUTHORIZATION, header.clone());
            }
            request = request.headers(headers);
        }
        let limits = &self.inner.config.limits;
        let time = limits.answer + Duration::from_secs(descriptor.size / SLOWEST);
        let answer = execute(request, time).await?;
        if answer.status().is_success() {
            return Ok(());
        }
        let secrets = secrets(self.own, header.as_ref());
        Err(Refusal::read(answer, &secrets, limits).await.into_failure())
    }
}
