//! One request and its answer: bounded in time and size, with failures sorted into causes.

use std::error::Error as StdError;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::time::timeout;

use crate::config::Limits;
use crate::credentials::Credentials;
use crate::error::{Cause, harmless};
use crate::schedule::Failure;
use crate::window::Window;

/// What is read of an answer that is an error, in bytes.
const MAX_ERROR_BODY: u64 = 64 << 10;

/// Sends `request` and waits for the head of the answer.
pub(crate) async fn execute(
    request: reqwest::RequestBuilder,
    limit: Duration,
) -> Result<Response, Failure> {
    match timeout(limit, request.send()).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(e)) => Err(sending(&e).into()),
        Err(_) => Err(Cause::NoAnswer(limit).into()),
    }
}

/// What a failed request means.
fn sending(error: &reqwest::Error) -> Cause {
    let words = describe(error);
    match find_tls(error) {
        Some(rustls::Error::InvalidCertificate(_)) => Cause::Certificate(words),
        Some(_) | None => Cause::Unreachable(words),
    }
}

/// Whether the other side is there, but perhaps does not speak TLS.
pub(crate) fn may_speak_no_tls(cause: &Cause) -> bool {
    matches!(cause, Cause::Unreachable(words) if !words.contains("refused"))
}

/// The chain of an error's messages. The address is left out: its query may be a signature.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(e) = next {
        let text = e.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = e.source();
    }
    if parts.is_empty() {
        parts.push(if error.is_timeout() {
            "timed out".into()
        } else {
            "the request failed".into()
        });
    }
    harmless(&parts.join(": "))
}

fn find_tls(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next = error.source();
    while let Some(e) = next {
        if let Some(tls) = e.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        let inner = e.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = inner.and_then(|i| i.downcast_ref::<rustls::Error>()) {
            return Some(tls);
        }
        next = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => e.source(),
        };
    }
    None
}

/// The whole body of `answer`, of at most `limit` bytes.
pub(crate) async fn read_body(
    mut answer: Response,
    limit: u64,
    limits: &Limits,
) -> Result<Bytes, Failure> {
    if answer.content_length().is_some_and(|l| l > limit) {
        return Err(Cause::TooLarge { limit }.into());
    }
    let mut body = BytesMut::new();
    let mut window = Window::new(limits.stall, limits.min_rate);
    while let Some(chunk) = next_chunk(&mut answer, &mut window, body.len() as u64, limits).await? {
        if (body.len() + chunk.len()) as u64 > limit {
            return Err(Cause::TooLarge { limit }.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// The next bytes of a body, or that it stalled or broke. `received` is for the message.
pub(crate) async fn next_chunk(
    answer: &mut Response,
    window: &mut Window,
    received: u64,
    limits: &Limits,
) -> Result<Option<Bytes>, Cause> {
    loop {
        let began = Instant::now();
        let chunk = timeout(window.left(), answer.chunk()).await;
        let came = match &chunk {
            Ok(Ok(Some(bytes))) => bytes.len() as u64,
            Ok(Ok(None) | Err(_)) | Err(_) => 0,
        };
        let waited = match &chunk {
            // The timer may fire a little early against this clock.
            Err(_) => window.left(),
            Ok(_) => began.elapsed(),
        };
        let stalled = window.note(waited, came);
        match chunk {
            Ok(Ok(Some(bytes))) if !stalled => {
                if !bytes.is_empty() {
                    return Ok(Some(bytes));
                }
            }
            Ok(Ok(None)) => return Ok(None),
            Ok(Err(e)) => return Err(Cause::Broken { received, detail: describe(&e) }),
            Ok(Ok(Some(_))) | Err(_) if stalled => {
                return Err(Cause::Stalled {
                    received,
                    rate: limits.min_rate,
                    window: limits.stall,
                });
            }
            Ok(Ok(Some(_))) | Err(_) => {}
        }
    }
}

/// The host of an address, with its port; never its path or query.
pub(crate) fn host_of(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"))
}

/// Texts that no message may repeat, whatever a server sends back.
pub(crate) fn secrets(
    credentials: &Credentials,
    header: Option<&reqwest::header::HeaderValue>,
) -> Vec<String> {
    let mut all = Vec::new();
    match credentials {
        Credentials::None => {}
        Credentials::Basic { password, .. } => all.push(password.expose().clone()),
        Credentials::IdentityToken(token) | Credentials::RegistryToken(token) => {
            all.push(token.expose().clone());
        }
    }
    let value = header.and_then(|h| h.to_str().ok()).and_then(|h| h.split_once(' '));
    all.extend(value.map(|(_, v)| v.to_owned()));
    all.retain(|s| !s.is_empty());
    all
}

/// An answer that is no success.
#[derive(Debug)]
pub(crate) struct Refusal {
    status: u16,
    words: String,
    retry_after: Option<Duration>,
}

#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
    #[serde(default)]
    details: String,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Refusal {
    /// Reads what the server says about it.
    pub(crate) async fn read(answer: Response, secrets: &[String], limits: &Limits) -> Self {
        let status = answer.status();
        let header = answer.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok());
        let retry_after = header.and_then(|v| v.trim().parse().ok()).map(Duration::from_secs);
        let reading = read_body(answer, MAX_ERROR_BODY, limits);
        let body = timeout(limits.answer, reading).await.ok().and_then(Result::ok);
        let usual = || status.canonical_reason().unwrap_or("an error").to_owned();
        let mut words = body.as_deref().and_then(words_of).unwrap_or_else(usual);
        for secret in secrets {
            words = words.replace(secret.as_str(), "[secret]");
        }
        Self { status: status.as_u16(), words: harmless(&words), retry_after }
    }

    /// What it means.
    pub(crate) fn into_failure(self) -> Failure {
        let Self { status, words, retry_after } = self;
        let cause = match status {
            401 => Cause::Unauthorized(words),
            403 => Cause::Forbidden(words),
            404 => Cause::NotFound(words),
            429 => Cause::TooManyRequests(words),
            code => Cause::Status { code, message: words },
        };
        Failure { cause, retry_after }
    }
}

impl Refusal {
    /// What it means if a redirect's target says it: nothing about the credentials. Its words are
    /// left out, because a redirect may point anywhere, also into this node's own network.
    pub(crate) fn elsewhere(self) -> Failure {
        let message = "this is what the host says that the registry redirects to".to_owned();
        let cause = Cause::Status { code: self.status, message };
        Failure { cause, retry_after: self.retry_after }
    }
}

/// The first error of a registry's answer (OCI distribution specification, "Error Codes").
fn words_of(body: &[u8]) -> Option<String> {
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    match body.errors.first() {
        Some(e) if e.message.is_empty() => Some(e.code.clone()),
        Some(e) if e.code.is_empty() => Some(e.message.clone()),
        Some(e) => Some(format!("{}: {}", e.code, e.message)),
        None => (!body.details.is_empty()).then_some(body.details),
    }
}
