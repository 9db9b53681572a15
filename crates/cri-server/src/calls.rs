//! Every call is logged with its duration and code.
//!
//! Owns: the middleware around both services. Always: it reads no message, so no secret of a request can
//! reach a log; a call counts as over when its answer's head is there, a stream's too. A caller whose
//! deadline passes is told so: what is below says "cancelled", which means something else to a kubelet.
//! Callers: the daemon, which puts it around everything that it serves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::codegen::http;
use tower::{Layer, Service};

/// Logs calls: at debug level, and at info level those that take at least as long as this.
#[derive(Debug, Clone, Copy)]
pub struct CallLog {
    /// From here on a call is slow.
    pub slow: Duration,
}

impl<S> Layer<S> for CallLog {
    type Service = Logged<S>;

    fn layer(&self, inner: S) -> Logged<S> {
        Logged { inner, slow: self.slow }
    }
}

/// A service whose calls are logged.
#[derive(Debug, Clone)]
pub struct Logged<S> {
    inner: S,
    slow: Duration,
}

type Answer<R, E> = Pin<Box<dyn Future<Output = Result<R, E>> + Send>>;

impl<S, B, R> Service<http::Request<B>> for Logged<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send,
    R: Default + Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or(path).to_owned();
        let (begun, slow) = (Instant::now(), self.slow);
        let mut watch = Watch { method, begun, slow, answered: false };
        let deadline = request.headers().get("grpc-timeout").and_then(deadline);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let result = match deadline {
                None => answer.await,
                Some(after) => tokio::time::timeout(after, answer).await.unwrap_or_else(|_| {
                    let said = "the caller's deadline has passed; what it asked for goes on";
                    Ok(tonic::Status::deadline_exceeded(said).into_http())
                }),
            };
            watch.answered = true;
            if let Ok(response) = &result {
                // A failed unary call answers with its code in the head; success comes in the trailer.
                let code = response
                    .headers()
                    .get("grpc-status")
                    .map_or("0", |v| v.to_str().unwrap_or("?"));
                watch.log(code_name(code));
            }
            result
        })
    }
}

/// How long a caller waits (gRPC over HTTP2, "Timeout"), less the moment that it takes to tell it.
fn deadline(header: &http::HeaderValue) -> Option<Duration> {
    let (number, unit) = header.to_str().ok()?.split_at_checked(header.len().checked_sub(1)?)?;
    let digits = (1..=8).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits)?;
    let time = match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(time.saturating_sub(Duration::from_millis(2)))
}

/// A call; one whose caller went away before the answer is logged as well.
struct Watch {
    method: String,
    begun: Instant,
    slow: Duration,
    answered: bool,
}

impl Watch {
    fn log(&self, code: &str) {
        let took = self.begun.elapsed();
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if took >= self.slow {
            tracing::info!(method = self.method, ms, code, "slow call");
        } else {
            tracing::debug!(method = self.method, ms, code, "call");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !self.answered {
            self.log("the caller went away");
        }
    }
}

fn code_name(number: &str) -> &'static str {
    match number {
        "0" => "OK",
        "1" => "CANCELLED",
        "3" => "INVALID_ARGUMENT",
        "4" => "DEADLINE_EXCEEDED",
        "5" => "NOT_FOUND",
        "7" => "PERMISSION_DENIED",
        "8" => "RESOURCE_EXHAUSTED",
        "9" => "FAILED_PRECONDITION",
        "11" => "OUT_OF_RANGE",
        "12" => "UNIMPLEMENTED",
        "13" => "INTERNAL",
        "14" => "UNAVAILABLE",
        "15" => "DATA_LOSS",
        "16" => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_deadline_is_read() {
        for (text, want) in [
            ("1H", Some(Duration::from_millis(3_599_998))),
            ("100m", Some(Duration::from_millis(98))),
            ("5u", Some(Duration::ZERO)),
            ("99999999S", Some(Duration::from_millis(99_999_998_998))),
            ("123456789S", None),
            ("S", None),
            ("-1S", None),
            ("1x", None),
            ("", None),
        ] {
            assert_eq!(deadline(&http::HeaderValue::from_static(text)), want, "{text}");
        }
    }
}
