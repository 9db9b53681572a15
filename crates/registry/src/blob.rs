//! A blob as a stream that does not end before the blob does.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use oci_image::{Descriptor, Hasher, Reference};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::course::Course;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{Cause, RegistryError};
use crate::range::{Answer, judge};
use crate::registry::Inner;
use crate::request::Ask;
use crate::schedule::Failure;
use crate::transport::next_chunk;
use crate::window::Window;

/// After so many new bytes the tries are counted anew: whoever sends much may break often, and
/// whoever sends a byte for each try is given up.
const PROGRESS: u64 = 1 << 20;

/// The bytes of one blob. Dropping it gives its connection and its permit back.
pub struct BlobStream {
    inner: Arc<Inner>,
    course: Course,
    reference: Reference,
    descriptor: Descriptor,
    credentials: Option<Credentials>,
    body: Option<Body>,
    position: u64,
    /// The position at which the tries were last counted anew.
    credited: u64,
    /// `None` where the stream began in the middle.
    hasher: Option<Hasher>,
    /// The hosts that bytes came from.
    sources: Vec<String>,
    over: bool,
}

/// An open answer.
struct Body {
    answer: Response,
    window: Window,
    /// Bytes that are there already and come again.
    skip: u64,
    _permit: Option<OwnedSemaphorePermit>,
}

impl fmt::Debug for BlobStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobStream")
            .field("reference", &self.reference)
            .field("digest", &self.descriptor.digest)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl BlobStream {
    pub(crate) async fn open(
        inner: Arc<Inner>,
        course: Course,
        reference: Reference,
        descriptor: Descriptor,
        credentials: Option<Credentials>,
        offset: u64,
    ) -> Result<Self, RegistryError> {
        let mut stream = Self {
            hasher: (offset == 0).then(|| Hasher::like(&descriptor.digest)),
            inner,
            course,
            reference,
            descriptor,
            credentials,
            body: None,
            position: offset,
            credited: offset,
            sources: Vec::new(),
            over: false,
        };
        if stream.position < stream.descriptor.size {
            stream.connect().await?;
        }
        Ok(stream)
    }

    /// The next bytes, never empty; `None` after the last, when size and digest have been checked.
    /// What was read is good only once `None` came.
    ///
    /// # Errors
    /// [`RegistryError`] once every host and every try is used up, and when the content is not what
    /// its descriptor says. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<Bytes, RegistryError>> {
        while !self.over {
            if self.position == self.descriptor.size {
                return self.finish().map(Err);
            }
            let limits = &self.inner.config.limits;
            let came = match &mut self.body {
                None => match self.connect().await {
                    Ok(()) => continue,
                    Err(e) => {
                        self.over = true;
                        return Some(Err(e));
                    }
                },
                Some(body) => {
                    next_chunk(&mut body.answer, &mut body.window, self.position, limits).await
                }
            };
            let taken = match came {
                Ok(Some(chunk)) => self.take(chunk),
                Ok(None) => Err(Cause::Broken {
                    received: self.position,
                    detail: "it ended before the content did".into(),
                }),
                Err(cause) => Err(cause),
            };
            match taken {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Some(Ok(bytes)),
                Err(cause) => {
                    self.body = None;
                    self.course.failed(cause);
                }
            }
        }
        None
    }

    /// Bytes of the blob that have been handed out, the offset that it began at included.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// The host that the bytes come from at the moment.
    #[must_use]
    pub fn source(&self) -> &str {
        self.course.host()
    }

    /// What of `chunk` is new; possibly nothing.
    fn take(&mut self, mut chunk: Bytes) -> Result<Bytes, Cause> {
        if let Some(body) = &mut self.body {
            let again = usize::try_from(body.skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(again);
            body.skip -= again as u64;
        }
        let end = self.position + chunk.len() as u64;
        if end > self.descriptor.size {
            let digest = self.descriptor.digest.clone();
            return Err(Cause::SizeMismatch { digest, expected: self.descriptor.size, found: end });
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&chunk);
        }
        self.position = end;
        if end - self.credited >= PROGRESS {
            self.credited = end;
            self.course.progressed();
        }
        Ok(chunk)
    }

    /// The end: the connection goes back, the digest is checked.
    fn finish(&mut self) -> Option<RegistryError> {
        self.over = true;
        self.body = None;
        let found = self.hasher.take()?.finish();
        if found == self.descriptor.digest {
            return None;
        }
        for host in self.sources.drain(..) {
            self.inner.suspect(host, self.descriptor.digest.clone());
        }
        let expected = self.descriptor.digest.clone();
        Some(self.course.error_of(Cause::DigestMismatch { expected, found }))
    }

    async fn connect(&mut self) -> Result<(), RegistryError> {
        while let Some(endpoint) = self.course.next().await {
            let given = self.credentials.as_ref();
            let credentials = self.inner.credentials_at(&endpoint, &self.reference, given);
            let opened = self
                .inner
                .open_blob(
                    &endpoint,
                    &self.reference,
                    &self.descriptor,
                    self.position,
                    &credentials,
                )
                .await;
            match opened {
                Ok(body) => {
                    if !self.sources.contains(&endpoint.host) {
                        self.sources.push(endpoint.host.clone());
                    }
                    self.body = Some(body);
                    return Ok(());
                }
                Err(failure) => self.course.failed(failure),
            }
        }
        Err(self.course.error())
    }
}

impl Inner {
    /// An answer that begins at `offset`, or at the start with that much to skip.
    async fn open_blob(
        &self,
        endpoint: &Endpoint,
        reference: &Reference,
        descriptor: &Descriptor,
        offset: u64,
        credentials: &Credentials,
    ) -> Result<Body, Failure> {
        // It fails only if the semaphore is closed, which nobody does.
        let permit = Arc::clone(&endpoint.permits.downloads).acquire_owned().await.ok();
        let mut ask = Ask {
            method: Method::GET,
            repository: reference.repository(),
            what: format!("blobs/{}", descriptor.digest),
            accept: None,
            from: if self.is_rangeless(&endpoint.host) { 0 } else { offset },
            verified: true,
        };
        loop {
            let answer = self.ask(endpoint, &ask, credentials).await?;
            let range = answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok());
            let length = answer.content_length();
            let size = descriptor.size;
            let skip = match judge(offset, size, answer.status().as_u16(), range, length) {
                Answer::AsAsked => 0,
                Answer::FromStart => offset,
                Answer::BadRange if ask.from > 0 => {
                    tracing::debug!(host = endpoint.host, "answers range requests wrongly");
                    self.remember_rangeless(&endpoint.host);
                    ask.from = 0;
                    continue;
                }
                Answer::BadRange => {
                    let words = "it sends a part where the whole was asked for";
                    return Err(Cause::Protocol(words.into()).into());
                }
                Answer::WrongSize(found) => {
                    let digest = descriptor.digest.clone();
                    return Err(Cause::SizeMismatch { digest, expected: size, found }.into());
                }
            };
            let limits = &self.config.limits;
            let window = Window::new(limits.stall, limits.min_rate);
            return Ok(Body { answer, window, skip, _permit: permit });
        }
    }
}
