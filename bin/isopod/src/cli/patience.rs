//! How long an answer may take that should come at once.
//!
//! Owns: which calls those are. Always: a call that may well take long (a pull, a stop, a stream, whatever runs
//! in a container) is never given up; a runtime that has let one answer fail to come is not waited for again.
//! Callers: `node`, for each call.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Request;
use tower::Service;

/// What is waited for where nobody says otherwise.
pub const DEFAULT: &str = "30s";

/// Calls of which a runtime has the answer at hand.
const AT_ONCE: [&str; 23] = [
    "Version",
    "Status",
    "RuntimeConfig",
    "ListPodSandbox",
    "PodSandboxStatus",
    "PodSandboxStats",
    "ListPodSandboxStats",
    "ListContainers",
    "ContainerStatus",
    "ContainerStats",
    "ListContainerStats",
    "ListMetricDescriptors",
    "ListPodSandboxMetrics",
    "ListImages",
    "ImageStatus",
    "ImageFsInfo",
    "TagImage",
    "ListOperations",
    "Explain",
    "Metrics",
    "NetworkStatus",
    "ReloadConfig",
    "UpdateRuntimeConfig",
];

/// How long is waited for such an answer; for as long as it takes where there is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Patience(Option<Duration>);

impl Patience {
    /// As it is written: `500ms`, `30s`, `2m`, a number of seconds, or 0 for no bound.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "give a time such as 500ms, 30s or 2m, or 0 to wait for ever".to_owned();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        let time = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "" | "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3_600),
            _ => None,
        };
        let time = time.ok_or_else(wrong)?;
        Ok(Self(Some(time).filter(|time| !time.is_zero())))
    }

    /// The bound of the call at this path of an URL, `/SERVICE/METHOD`.
    fn of(self, path: &str) -> Option<Duration> {
        let method = path.rsplit('/').next().unwrap_or_default();
        self.0.filter(|_| AT_ONCE.contains(&method))
    }
}

/// No answer came in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the runtime does not answer: nothing came within {waited:?}")]
pub struct NoAnswer {
    /// What was waited.
    pub waited: Duration,
}

/// A connection whose short calls are bounded. Clones share what is known of the runtime.
#[derive(Debug, Clone)]
pub struct Patient<S> {
    inner: S,
    patience: Patience,
    given_up: Arc<AtomicBool>,
}

impl<S> Patient<S> {
    /// `inner` with `patience`; `given_up` is set when an answer has not come.
    pub fn new(inner: S, patience: Patience, given_up: Arc<AtomicBool>) -> Self {
        Self { inner, patience, given_up }
    }
}

type Boxed = Box<dyn Error + Send + Sync>;

impl<S, Body, Answer> Service<Request<Body>> for Patient<S>
where
    S: Service<Request<Body>, Response = Answer>,
    S::Future: Send + 'static,
    S::Error: Into<Boxed>,
    Answer: 'static,
{
    type Response = Answer;
    type Error = Boxed;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Boxed>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Boxed>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(waited) = self.patience.of(request.uri().path()) else {
            let answer = self.inner.call(request);
            return Box::pin(async move { answer.await.map_err(Into::into) });
        };
        if self.given_up.load(Ordering::Relaxed) {
            return Box::pin(async move { Err(NoAnswer { waited }.into()) });
        }
        let answer = self.inner.call(request);
        let given_up = Arc::clone(&self.given_up);
        Box::pin(async move {
            match tokio::time::timeout(waited, answer).await {
                Ok(answer) => answer.map_err(Into::into),
                Err(_) => {
                    given_up.store(true, Ordering::Relaxed);
                    Err(NoAnswer { waited }.into())
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        let seconds = |count| Ok(Patience(Some(Duration::from_secs(count))));
        for (text, want) in [
            ("30s", seconds(30)),
            ("5", seconds(5)),
            ("2m", seconds(120)),
            ("1h", seconds(3_600)),
            ("500ms", Ok(Patience(Some(Duration::from_millis(500))))),
            ("0", Ok(Patience(None))),
            ("0s", Ok(Patience(None))),
        ] {
            assert_eq!(Patience::parse(text), want, "{text}");
        }
        for wrong in ["", "s", "-1", "1y", "1.5s", "99999999999999999999", "ü"] {
            assert!(Patience::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Patience::parse(DEFAULT).is_ok());
    }

    #[test]
    fn what_may_take_long_is_not_bounded() {
        let patience = Patience::parse("1s").unwrap();
        let second = Some(Duration::from_secs(1));
        assert_eq!(patience.of("/runtime.v1.RuntimeService/Status"), second);
        assert_eq!(patience.of("/isopod.admin.v1.Admin/Explain"), second);
        for long in
            ["RunPodSandbox", "StopContainer", "ExecSync", "PullImage", "GetContainerEvents"]
        {
            assert_eq!(patience.of(&format!("/runtime.v1.RuntimeService/{long}")), None, "{long}");
        }
        assert_eq!(Patience::default().of("/runtime.v1.RuntimeService/Status"), None);
    }
}
