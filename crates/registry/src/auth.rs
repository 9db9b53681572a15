//! Authentication towards one host: basic, or tokens from the server that a challenge names.
//!
//! One session per host, repository and credentials. A session's lock is held while a token is
//! fetched, so that many layers at once ask for one token and not for many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use model::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Method, Url};
use serde::Deserialize;

use crate::challenge::Challenge;
use crate::config::Limits;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, is_loopback, lock};
use crate::error::Cause;
use crate::schedule::Failure;
use crate::transport::{self, Refusal};

/// The most sessions that are kept; past it they all start anew.
const SESSIONS: usize = 512;
/// What a token server's answer may have at most, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// How long a token is good if its server does not say (distribution's token specification).
const USUAL_LIFE: Duration = Duration::from_secs(60);
/// The longest life that is believed.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);

/// What a session is for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) host: String,
    pub(crate) repository: String,
    pub(crate) credentials: Credentials,
}

/// All sessions.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<Key, Arc<Session>>>);

/// The authorization of requests to one host, as far as it is known.
#[derive(Default)]
pub(crate) struct Session(tokio::sync::Mutex<Current>);

#[derive(Default)]
struct Current {
    header: Option<HeaderValue>,
    until: Option<Instant>,
    /// Counts the headers, so that a request knows whether its own is already replaced.
    generation: u64,
}

/// A header, and which one of its session it is.
#[derive(Clone, Default)]
pub(crate) struct Held {
    pub(crate) header: Option<HeaderValue>,
    generation: u64,
}

impl Sessions {
    pub(crate) fn of(&self, key: &Key) -> Arc<Session> {
        let mut all = lock(&self.0);
        if let Some(session) = all.get(key) {
            return Arc::clone(session);
        }
        if all.len() >= SESSIONS {
            all.clear();
        }
        let session = Arc::new(Session::default());
        all.insert(key.clone(), Arc::clone(&session));
        session
    }
}

impl Current {
    fn held(&self) -> Held {
        let good = self.until.is_none_or(|u| u > Instant::now());
        let header = self.header.as_ref().filter(|_| good).cloned();
        Held { header, generation: self.generation }
    }
}

impl Session {
    /// What a request is to carry now.
    pub(crate) async fn held(&self) -> Held {
        self.0.lock().await.held()
    }

    /// Answers the challenge in `headers`, which a request that carried `used` got.
    pub(crate) async fn answer(
        &self,
        used: &Held,
        headers: &HeaderMap,
        endpoint: &Endpoint,
        plain: bool,
        key: &Key,
        limits: &Limits,
    ) -> Result<Held, Failure> {
        let mut current = self.0.lock().await;
        let held = current.held();
        if held.generation != used.generation && held.header.is_some() {
            return Ok(held);
        }
        let texts = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenges: Vec<_> = texts.flat_map(Challenge::parse_all).collect();
        let bearer = challenges.iter().find(|c| c.scheme == "bearer");
        let basic = challenges.iter().any(|c| c.scheme == "basic");
        let (header, life) = match (&key.credentials, bearer) {
            (Credentials::RegistryToken(token), _) => (bearer_header(token.expose())?, None),
            (_, Some(challenge)) => {
                let token = TokenRequest { challenge, endpoint, plain, key, limits }.send().await?;
                (bearer_header(token.0.expose())?, Some(token.1))
            }
            (Credentials::Basic { user, password }, None) if basic => {
                (basic_header(user, password), None)
            }
            (Credentials::None, None) => {
                return Err(Cause::Unauthorized(
                    "credentials are needed and none are given".into(),
                )
                .into());
            }
            (Credentials::Basic { .. } | Credentials::IdentityToken(_), None) => {
                let what =
                    "the server asks for an authentication that these credentials do not fit";
                return Err(Cause::Unauthorized(what.into()).into());
            }
        };
        if used.header.as_ref() == Some(&header) {
            // The same answer would get the same refusal.
            return Err(Cause::Unauthorized("the credentials are not accepted".into()).into());
        }
        current.header = Some(header);
        current.until = life.and_then(|l| Instant::now().checked_add(l));
        current.generation += 1;
        Ok(current.held())
    }
}

fn bearer_header(token: &str) -> Result<HeaderValue, Failure> {
    let bad = |_| Cause::Unauthorized("the token has characters that cannot be sent".into());
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(bad)?;
    value.set_sensitive(true);
    Ok(value)
}

fn basic_header(user: &str, password: &Secret<String>) -> HeaderValue {
    let pair = STANDARD.encode(format!("{user}:{}", password.expose()));
    let mut value = HeaderValue::try_from(format!("Basic {pair}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Secret<String>,
    #[serde(default)]
    access_token: Secret<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

/// A question to a token server (distribution's token and OAuth2 specifications).
struct TokenRequest<'a> {
    challenge: &'a Challenge,
    endpoint: &'a Endpoint,
    plain: bool,
    key: &'a Key,
    limits: &'a Limits,
}

impl TokenRequest<'_> {
    /// The token, and how long to use it.
    async fn send(&self) -> Result<(Secret<String>, Duration), Failure> {
        let realm = self.realm()?;
        let host = transport::host_of(&realm);
        let mut sent = None;
        let request = match &self.key.credentials {
            Credentials::IdentityToken(token) => self.refresh(realm, token),
            Credentials::Basic { user, password } => {
                let header = sent.insert(basic_header(user, password)).clone();
                self.get(realm, Some(user)).header(AUTHORIZATION, header)
            }
            Credentials::None | Credentials::RegistryToken(_) => self.get(realm, None),
        };
        let answer = transport::execute(request, self.limits.answer).await?;
        let status = answer.status();
        if !status.is_success() {
            let secrets = transport::secrets(&self.key.credentials, sent.as_ref());
            let refusal = Refusal::read(answer, &secrets, self.limits).await;
            let failure = refusal.into_failure();
            return Err(match status.as_u16() {
                400 | 401 | 403 => {
                    let words = format!("the token server {host} refuses: {}", failure.cause);
                    Cause::Unauthorized(words).into()
                }
                _ => failure,
            });
        }
        let body = transport::read_body(answer, MAX_ANSWER, self.limits).await?;
        // The parser's own message could repeat the token.
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|_| {
            Cause::Protocol(format!("the token server {host} sent no token answer"))
        })?;
        let token =
            [answer.token, answer.access_token].into_iter().find(|t| !t.expose().is_empty());
        let token = token
            .ok_or_else(|| Cause::Protocol(format!("the token server {host} sent no token")))?;
        let said = answer.expires_in.map_or(USUAL_LIFE, Duration::from_secs);
        // A little before its end, it would end on the way.
        let life = said.clamp(USUAL_LIFE, MAX_LIFE).mul_f32(0.9);
        Ok((token, life))
    }

    fn realm(&self) -> Result<Url, Failure> {
        let bad =
            |what: &str| Failure::from(Cause::Protocol(format!("the challenge's realm {what}")));
        let text = self.challenge.param("realm").ok_or_else(|| bad("is missing"))?;
        let url = Url::parse(text).map_err(|_| bad("is not an address"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(bad("is not an http address"));
        }
        let local = url.host_str().is_some_and(is_loopback);
        if url.scheme() == "http" && !self.plain && !local {
            return Err(bad("is plain http, while the registry is https: no credentials go there"));
        }
        Ok(url)
    }

    /// Service and scope as the challenge says them.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let usual = || format!("repository:{}:pull", self.key.repository);
        let scope = self.challenge.param("scope").map_or_else(usual, str::to_owned);
        let mut pairs = Vec::new();
        if let Some(service) = self.challenge.param("service") {
            pairs.push(("service", service.to_owned()));
        }
        // Several scopes are several parameters in the GET form.
        pairs.extend(scope.split(' ').filter(|s| !s.is_empty()).map(|s| ("scope", s.to_owned())));
        pairs
    }

    fn get(&self, mut url: Url, account: Option<&str>) -> reqwest::RequestBuilder {
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.pairs());
            if let Some(account) = account {
                query.append_pair("account", account);
            }
        }
        self.endpoint.client.request(Method::GET, url)
    }

    fn refresh(&self, url: Url, token: &Secret<String>) -> reqwest::RequestBuilder {
        let scopes: Vec<_> = self.pairs().into_iter().filter(|(k, _)| *k == "scope").collect();
        let scope = scopes.iter().map(|(_, v)| v.as_str()).collect::<Vec<_>>().join(" ");
        // The form encoding of a query is the one of a body.
        let mut form = Url::parse("http://form").unwrap_or_else(|_| url.clone());
        form.query_pairs_mut()
            .clear()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", self.challenge.param("service").unwrap_or_default())
            .append_pair("client_id", "isopod")
            .append_pair("scope", &scope)
            .append_pair("refresh_token", token.expose());
        let body = form.query().unwrap_or_default().to_owned();
        let request = self.endpoint.client.request(Method::POST, url);
        request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body)
    }
}
