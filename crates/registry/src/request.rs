//! A question to a registry's host: authentication, redirects and the choice of scheme around it.

use bytes::Bytes;
use oci_image::Reference;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RANGE,
};
use reqwest::{Method, Response, StatusCode, Url};

use crate::auth::{Held, Key};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Scheme};
use crate::error::Cause;
use crate::registry::Inner;
use crate::schedule::Failure;
use crate::transport::{Refusal, execute, host_of, may_speak_no_tls, secrets};

/// Redirects that are followed for one question.
const MAX_REDIRECTS: usize = 6;
/// Challenges that are answered for one question: one for no token, one for a token that ended.
const MAX_CHALLENGES: usize = 2;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) repository: &'a str,
    /// `manifests/latest`, `blobs/sha256:…`.
    pub(crate) what: String,
    pub(crate) accept: Option<String>,
    /// The first byte that is wanted.
    pub(crate) from: u64,
    /// The last byte that is wanted, if not the content's last one.
    pub(crate) to: Option<u64>,
    /// Whether a digest will be checked, so that even an unprotected path cannot change what is
    /// taken.
    pub(crate) verified: bool,
    /// What goes along.
    pub(crate) sent: Option<Sent<'a>>,
}

/// A small document that goes along with a request.
#[derive(Debug, Clone)]
pub(crate) struct Sent<'a> {
    pub(crate) media_type: &'a str,
    pub(crate) bytes: Bytes,
}

impl<'a> Ask<'a> {
    /// A question about the whole of something.
    pub(crate) fn plain(method: Method, reference: &'a Reference, what: String) -> Self {
        let repository = reference.repository();
        Self {
            method,
            repository,
            what,
            accept: None,
            from: 0,
            to: None,
            verified: false,
            sent: None,
        }
    }

    /// Whether this status says that it was done.
    fn is_done(&self, status: StatusCode) -> bool {
        match status.as_u16() {
            200 | 206 => true,
            201 | 202 => self.method == Method::POST || self.method == Method::PUT,
            416 => self.is_part(),
            _ => false,
        }
    }
    /// Whether less than the whole is wanted.
    const fn is_part(&self) -> bool {
        self.from > 0 || self.to.is_some()
    }
}

/// What a request to one address carries.
struct Carried<'a> {
    held: &'a Held,
    same_origin: bool,
}

impl Inner {
    /// Asks one host. The answer's status is 200, 206 or 416; 201 or 202 where something was sent.
    pub(crate) async fn ask(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        credentials: &Credentials,
    ) -> Result<Response, Failure> {
        match endpoint.scheme {
            Scheme::Https => self.ask_by(endpoint, ask, credentials, false).await,
            Scheme::Http => self.ask_by(endpoint, ask, credentials, true).await,
            Scheme::Either => {
                if self.is_plain(&endpoint.host) {
                    let answer = self.ask_by(endpoint, ask, credentials, true).await;
                    if matches!(&answer, Err(f) if f.cause.is_unreachable()) {
                        self.forget_plain(&endpoint.host);
                    }
                    return answer;
                }
                let answer = self.ask_by(endpoint, ask, credentials, false).await;
                match answer {
                    Err(f) if may_speak_no_tls(&f.cause) => {
                        let answer = self.ask_by(endpoint, ask, credentials, true).await;
                        if !matches!(&answer, Err(f) if f.cause.is_unreachable()) {
                            self.remember_plain(&endpoint.host);
                        }
                        answer
                    }
                    other => other,
                }
            }
        }
    }

    async fn ask_by(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        credentials: &Credentials,
        plain: bool,
    ) -> Result<Response, Failure> {
        let url = endpoint
            .url(plain, &format!("{}/{}", ask.repository, ask.what))
            .map_err(Cause::Config)?;
        let key = Key {
            host: endpoint.host.clone(),
            repository: ask.repository.to_owned(),
            credentials: credentials.clone(),
        };
        let session = self.sessions.of(&key);
        let mut held = session.held().await;
        for challenges in 0.. {
            let (answer, at_home) = self.follow(endpoint, ask, url.clone(), &held).await?;
            let status = answer.status();
            if status == StatusCode::UNAUTHORIZED && at_home && challenges < MAX_CHALLENGES {
                let headers = answer.headers().clone();
                // The connection is of use again only once its answer has been read.
                let secrets = secrets(credentials, held.header.as_ref());
                let refusal = Refusal::read(answer, &secrets, &self.config.limits).await;
                if headers.contains_key(reqwest::header::WWW_AUTHENTICATE) {
                    let limits = &self.config.limits;
                    held = session.answer(&held, &headers, endpoint, plain, &key, limits).await?;
                    continue;
                }
                return Err(refusal.into_failure());
            }
            if ask.is_done(status) {
                return Ok(answer);
            }
            let secrets = secrets(credentials, held.header.as_ref());
            let refusal = Refusal::read(answer, &secrets, &self.config.limits).await;
            return Err(if at_home { refusal.into_failure() } else { refusal.elsewhere() });
        }
        Err(Cause::Unauthorized("the server challenges without end".into()).into())
    }

    /// Sends one request and follows redirects. Says also whether the answer is the host's own.
    async fn follow(
        &self,
        endpoint: &Endpoint,
        ask: &Ask<'_>,
        start: Url,
        held: &Held,
    ) -> Result<(Response, bool), Failure> {
        let mut url = start.clone();
        for _ in 0..=MAX_REDIRECTS {
            let same_origin = url.origin() == start.origin();
            let carried = Carried { held, same_origin };
            let request = build(endpoint, ask, url.clone(), &carried);
            let answer = execute(request, self.config.limits.answer)
                .await
                .map_err(|f| if same_origin { f } else { elsewhere(f, &url) })?;
            let redirect = matches!(answer.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !redirect {
                return Ok((answer, same_origin));
            }
            url = target(&url, answer.headers().get(LOCATION), ask.verified)?;
            tracing::debug!(host = endpoint.host, to = host_of(&url), "redirected");
        }
        Err(Cause::Protocol(format!("more than {MAX_REDIRECTS} redirects")).into())
    }
}

fn build(
    endpoint: &Endpoint,
    ask: &Ask<'_>,
    url: Url,
    carried: &Carried<'_>,
) -> reqwest::RequestBuilder {
    let mut request = endpoint.client.request(ask.method.clone(), url);
    if let Some(accept) = &ask.accept {
        request = request.header(ACCEPT, accept);
    }
    // A compressed transfer would have another size than the content.
    request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if let Some(Sent { media_type, bytes }) = &ask.sent {
        request = request.header(CONTENT_TYPE, *media_type).body(bytes.clone());
    }
    match ask.to {
        Some(to) => request = request.header(RANGE, format!("bytes={}-{to}", ask.from)),
        None if ask.from > 0 => request = request.header(RANGE, format!("bytes={}-", ask.from)),
        None => {}
    }
    // What is meant for this host goes to no other one.
    if carried.same_origin {
        let mut headers = endpoint.headers.clone();
        if let Some(header) = &carried.held.header {
            // It goes before one that the configuration sets.
            headers.insert(AUTHORIZATION, header.clone());
        }
        request = request.headers(headers);
    }
    request
}

fn target(from: &Url, location: Option<&HeaderValue>, verified: bool) -> Result<Url, Failure> {
    let bad = |what: &str| Failure::from(Cause::Protocol(format!("a redirect {what}")));
    let text = location.and_then(|l| l.to_str().ok()).ok_or_else(|| bad("without a target"))?;
    let to = from.join(text).map_err(|_| bad("to something that is no address"))?;
    match (from.scheme(), to.scheme()) {
        (_, "https") | ("http", "http") => Ok(to),
        ("https", "http") if verified => Ok(to),
        ("https", "http") => Err(bad("from https to plain http for content without a digest")),
        _ => Err(bad("to something that is neither http nor https")),
    }
}

/// A failure at the target of a redirect names the target.
fn elsewhere(mut failure: Failure, url: &Url) -> Failure {
    if let Cause::Unreachable(words) = &mut failure.cause {
        *words = format!("redirected to {}: {words}", host_of(url));
    }
    failure
}
