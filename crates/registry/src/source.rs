//! Where the bytes of a blob come from: one open answer, or several parts at once.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use oci_image::{Descriptor, Reference};
use reqwest::header::CONTENT_RANGE;
use reqwest::{Method, Response};
use tokio::sync::OwnedSemaphorePermit;

use crate::ahead::Ahead;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::Cause;
use crate::range::{Answer, is_part, judge};
use crate::registry::Inner;
use crate::request::Ask;
use crate::schedule::Failure;
use crate::transport::next_chunk;
use crate::window::Window;

/// Blobs of fewer parts than this are fetched in one piece.
const FEWEST_PARTS: u64 = 4;

/// What is fetched, and for whom.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) inner: Arc<Inner>,
    pub(crate) reference: Reference,
    pub(crate) descriptor: Descriptor,
    pub(crate) credentials: Option<Credentials>,
}

/// An origin of bytes, in order.
pub(crate) enum Source {
    /// One answer to its end.
    One(Body),
    /// Parts, fetched ahead.
    Parts(Box<Ahead>),
}

/// An open answer.
pub(crate) struct Body {
    answer: Response,
    window: Window,
    /// Bytes that are there already and come again.
    skip: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl Source {
    /// The next bytes; `None` at the end of the answer. `received` is for messages.
    pub(crate) async fn next(
        &mut self,
        wanted: &Wanted,
        received: u64,
    ) -> Result<Option<Bytes>, Failure> {
        if let Self::Parts(ahead) = self
            && let Some(endpoint) = ahead.needless()
            && received < wanted.descriptor.size
        {
            *self = Self::One(wanted.open_one(&endpoint, received).await?);
        }
        match self {
            Self::One(body) => Ok(body.next(wanted, received).await?),
            Self::Parts(ahead) => ahead.next(received).await,
        }
    }
}

impl Body {
    pub(crate) async fn next(
        &mut self,
        wanted: &Wanted,
        received: u64,
    ) -> Result<Option<Bytes>, Cause> {
        let limits = &wanted.inner.config.limits;
        loop {
            let came = next_chunk(&mut self.answer, &mut self.window, received, limits).await?;
            let Some(mut chunk) = came else {
                // The connection is free again, even if nobody drops this yet.
                self.permit = None;
                return Ok(None);
            };
            let again = usize::try_from(self.skip).unwrap_or(usize::MAX).min(chunk.len());
            chunk.advance(again);
            self.skip -= again as u64;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }
}

impl Wanted {
    /// The blob from `offset` on from one host: in parts if it is large and the host can do that,
    /// unless `in_one_piece`.
    pub(crate) async fn open(
        &self,
        endpoint: &Arc<Endpoint>,
        offset: u64,
        in_one_piece: bool,
    ) -> Result<Source, Failure> {
        let limits = &self.inner.config.limits;
        let part = limits.range_size.max(1);
        let large = (self.descriptor.size - offset) / part >= FEWEST_PARTS;
        let alone = limits.ranges_per_blob <= 1 || limits.ranges_ahead == 0;
        if in_one_piece || !large || alone || self.inner.is_rangeless(&endpoint.host) {
            return Ok(Source::One(self.open_one(endpoint, offset).await?));
        }
        let last = offset + part - 1;
        let permit = acquire(endpoint).await;
        let answer = self.ask(endpoint, offset, Some(last)).await?;
        if self.is_part(&answer, (offset, last)) {
            let first = self.body(answer, 0, permit);
            return Ok(Source::Parts(Box::new(Ahead::new(
                self.clone(),
                Arc::clone(endpoint),
                first,
                offset,
            ))));
        }
        match self.judge(&answer, offset) {
            // The host takes no notice of ranges: this is the whole already.
            Answer::FromStart => Ok(Source::One(self.body(answer, offset, permit))),
            Answer::AsAsked if answer.status() == 200 => {
                Ok(Source::One(self.body(answer, 0, permit)))
            }
            Answer::WrongSize(found) if answer.status() == 200 => Err(self.wrong_size(found)),
            Answer::AsAsked | Answer::BadRange | Answer::WrongSize(_) => {
                drop((answer, permit));
                self.distrust(endpoint);
                Ok(Source::One(self.open_one(endpoint, offset).await?))
            }
        }
    }

    /// An answer that begins at `offset`, or at the start with that much to skip.
    async fn open_one(&self, endpoint: &Endpoint, offset: u64) -> Result<Body, Failure> {
        let permit = acquire(endpoint).await;
        let mut from = if self.inner.is_rangeless(&endpoint.host) { 0 } else { offset };
        loop {
            let answer = self.ask(endpoint, from, None).await?;
            let skip = match self.judge(&answer, offset) {
                Answer::AsAsked => 0,
                Answer::FromStart => offset,
                Answer::BadRange if from > 0 => {
                    self.distrust(endpoint);
                    from = 0;
                    continue;
                }
                Answer::BadRange => {
                    let words = "it sends a part where the whole was asked for";
                    return Err(Cause::Protocol(words.into()).into());
                }
                Answer::WrongSize(found) => return Err(self.wrong_size(found)),
            };
            return Ok(self.body(answer, skip, permit));
        }
    }

    /// Exactly the bytes from `first` to `last`.
    pub(crate) async fn open_part(
        &self,
        endpoint: &Endpoint,
        (first, last): (u64, u64),
    ) -> Result<Body, Failure> {
        let permit = acquire(endpoint).await;
        let answer = self.ask(endpoint, first, Some(last)).await?;
        if self.is_part(&answer, (first, last)) {
            return Ok(self.body(answer, 0, permit));
        }
        self.distrust(endpoint);
        let detail = "it answers range requests wrongly".into();
        Err(Cause::Broken { received: first, detail }.into())
    }

    async fn ask(
        &self,
        endpoint: &Endpoint,
        from: u64,
        to: Option<u64>,
    ) -> Result<Response, Failure> {
        let given = self.credentials.as_ref();
        let credentials = self.inner.credentials_at(endpoint, &self.reference, given);
        let ask = Ask {
            method: Method::GET,
            repository: self.reference.repository(),
            what: format!("blobs/{}", self.descriptor.digest),
            accept: None,
            from,
            to,
            verified: true,
            sent: None,
        };
        self.inner.ask(endpoint, &ask, &credentials).await
    }

    fn judge(&self, answer: &Response, offset: u64) -> Answer {
        let (status, size) = (answer.status().as_u16(), self.descriptor.size);
        judge(offset, size, status, range_of(answer), answer.content_length())
    }

    fn is_part(&self, answer: &Response, part: (u64, u64)) -> bool {
        let (status, size) = (answer.status().as_u16(), self.descriptor.size);
        is_part(part, size, status, range_of(answer), answer.content_length())
    }

    fn body(&self, answer: Response, skip: u64, permit: Option<OwnedSemaphorePermit>) -> Body {
        let limits = &self.inner.config.limits;
        Body { answer, window: Window::new(limits.stall, limits.min_rate), skip, permit }
    }

    fn distrust(&self, endpoint: &Endpoint) {
        tracing::debug!(host = endpoint.host, "answers range requests wrongly");
        self.inner.remember_rangeless(&endpoint.host);
    }

    fn wrong_size(&self, found: u64) -> Failure {
        let digest = self.descriptor.digest.clone();
        Cause::SizeMismatch { digest, expected: self.descriptor.size, found }.into()
    }
}

fn range_of(answer: &Response) -> Option<&str> {
    answer.headers().get(CONTENT_RANGE).and_then(|v| v.to_str().ok())
}

/// A place among the downloads from this host, given back when dropped.
async fn acquire(endpoint: &Endpoint) -> Option<OwnedSemaphorePermit> {
    // It fails only if the semaphore is closed, which nobody does.
    Arc::clone(&endpoint.permits.downloads).acquire_owned().await.ok()
}
