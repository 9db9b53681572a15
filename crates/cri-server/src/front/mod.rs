//! What every call passes on its way in and out.
//!
//! Owns: the middleware around all services of a socket: which calls the socket has, how many may be open,
//! and what is told of each. Always: of a request it reads the head and counts the bytes, so no field of it
//! gets into a log here; of an answer it reads the code and the words of a failure and logs both, so what
//! fails must not repeat a secret (`model::Secret`, `oci_image::shown`); a place that a call has taken is given
//! back whatever becomes of it; a call's duration is the time to its answer's head, a stream's too; a caller whose deadline passes is told so: what is below says
//! "cancelled", which means something else to a kubelet.
//! Callers: the daemon, which puts it around everything that it serves.

mod access;
mod body;
mod deadline;
mod peer;
mod places;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tonic::body::Body;
use tonic::codegen::http;
use tonic::{Code, Status};
use tower::{Layer, Service};

pub use access::Access;
use body::{Watched, Weighed};
pub use peer::{ANSWER_WITHIN, Busy, Peer};
pub use places::{Full, Place, Places};

/// Hears of every call that is over.
pub trait Observer: fmt::Debug + Send + Sync {
    /// `method` is one of a fixed list, or `unknown`. Must not block.
    fn call(&self, method: &'static str, code: Code, took: Duration);
}

/// The middleware of one socket.
#[derive(Debug, Clone)]
pub struct Front {
    /// What may be asked on it.
    pub access: Access,
    /// From here on a call is logged as slow.
    pub slow: Duration,
    /// Places for calls, of all sockets together.
    pub calls: Arc<Places>,
    /// Places for streams of events, of all sockets together.
    pub subscribers: Arc<Places>,
    /// Places for the bytes of requests whose calls are open, of all sockets together.
    pub bytes: Arc<Places>,
    /// Who hears of calls.
    pub observer: Option<Arc<dyn Observer>>,
}

impl<S> Layer<S> for Front {
    type Service = Fronted<S>;

    fn layer(&self, inner: S) -> Fronted<S> {
        Fronted { inner, front: self.clone() }
    }
}

impl Front {
    /// A place for a call of `method`, or the answer that there is none.
    fn admit(&self, method: &str, peer: &Peer) -> Result<Held, Status> {
        let full = |full: Full| Status::resource_exhausted(full.to_string());
        if self.access == Access::ReadOnly && !access::only_reads(method) {
            let message = format!("{method} is not served on the read-only socket");
            return Err(Status::permission_denied(message));
        }
        // A subscriber stays for days: it has a place of its own kind, and takes none of a call's.
        let places = if method == access::EVENTS { &self.subscribers } else { &self.calls };
        let place = places.take(peer.pid).map_err(full)?;
        Ok(Held { _place: place, _busy: peer.busy() })
    }

    fn tell(&self, method: &'static str, code: Code, took: Duration) {
        if let Some(observer) = &self.observer {
            observer.call(method, code, took);
        }
    }
}

/// What an open call holds.
#[derive(Debug)]
struct Held {
    _place: Place,
    _busy: Busy,
}

/// Services behind a [`Front`].
#[derive(Debug, Clone)]
pub struct Fronted<S> {
    inner: S,
    front: Front,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Fronted<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or(path).to_owned();
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        let admitted = self.front.admit(&method, &peer);
        let mut call = Call {
            known: access::known(&method),
            method,
            begun: Instant::now(),
            front: self.front.clone(),
            took: None,
            told: false,
        };
        let held = match admitted {
            Ok(held) => held,
            Err(status) => {
                call.answered();
                call.over(status.code(), status.message());
                return Box::pin(std::future::ready(Ok(status.into_http())));
            }
        };
        request.extensions_mut().insert(self.front.access);
        let weight = Arc::new(Mutex::new(self.front.bytes.none(peer.pid)));
        if call.known != access::LOAD {
            let counted = Arc::clone(&weight);
            request = request.map(|body| Body::new(Weighed { body, weight: counted }));
        }
        let deadline = request.headers().get("grpc-timeout").and_then(deadline::deadline);
        let origin = peer.origin(request.headers());
        let answer = operations::asked_by(origin, self.inner.call(request));
        Box::pin(async move {
            let response = match deadline {
                None => answer.await?,
                Some(after) => tokio::time::timeout(after, answer).await.unwrap_or_else(|_| {
                    let said = "the caller's deadline has passed; what it asked for goes on";
                    Ok(Status::deadline_exceeded(said).into_http())
                })?,
            };
            call.answered();
            // A failed unary call has its code in the head; success comes in the trailer.
            if let Some(code) = code(response.headers()) {
                call.over(code, &message(response.headers()));
            }
            Ok(response.map(|body| Body::new(Watched { body, call, _held: (held, weight) })))
        })
    }
}

/// The request as its socket allows it: the read-only one shows no verbose parts.
pub(crate) fn shown<T>(
    mut request: tonic::Request<T>,
    verbose: impl FnOnce(&mut T) -> &mut bool,
) -> T {
    let access = request.extensions().get::<Access>().copied();
    if access == Some(Access::ReadOnly) {
        *verbose(request.get_mut()) = false;
    }
    request.into_inner()
}

/// The code that a head or a trailer has.
fn code(headers: &http::HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// The message beside the code (gRPC over HTTP2, "Status-Message": percent-encoded).
fn message(headers: &http::HeaderMap) -> String {
    let raw = headers.get("grpc-message").map(http::HeaderValue::as_bytes).unwrap_or_default();
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = digits.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, escaped) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (byte, _) => {
                bytes.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether whoever runs the node wants to read of it: something was to be done and was not, or something
/// of the node's is broken. That there is no such object is news for the caller alone.
pub(crate) fn is_for_the_log(method: &str, code: Code) -> bool {
    match code {
        Code::Ok | Code::Cancelled | Code::NotFound | Code::Unimplemented => false,
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::DataLoss => true,
        // A stream of events ends with the daemon.
        Code::Unavailable => method != access::EVENTS,
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unauthenticated => !access::only_reads(method),
    }
}

/// A call; one whose caller goes away is told of as well.
#[derive(Debug)]
struct Call {
    known: &'static str,
    method: String,
    begun: Instant,
    front: Front,
    /// How long the head of its answer took.
    took: Option<Duration>,
    told: bool,
}

impl Call {
    fn answered(&mut self) {
        self.took = Some(self.begun.elapsed());
    }

    fn over(&mut self, code: Code, message: &str) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let took = self.took.unwrap_or_else(|| self.begun.elapsed());
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (method, shown) = (&self.method, format!("{code:?}"));
        if is_for_the_log(self.known, code) {
            tracing::warn!(method, ms, code = shown, "call failed: {message}");
        } else if took >= self.front.slow {
            tracing::info!(method, ms, code = shown, "slow call");
        } else {
            tracing::debug!(method, ms, code = shown, "call");
        }
        self.front.tell(self.known, code, took);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Its caller went away.
        self.over(Code::Cancelled, "");
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    type Told = Mutex<Vec<(&'static str, Code)>>;

    #[derive(Debug, Default)]
    struct Heard(Told);

    impl Observer for Heard {
        fn call(&self, method: &'static str, code: Code, _took: Duration) {
            self.0.lock().unwrap().push((method, code));
        }
    }

    fn front(access: Access, places: usize) -> (Front, Arc<Heard>) {
        let heard = Arc::new(Heard::default());
        let front = Front {
            access,
            slow: Duration::from_secs(1),
            calls: Places::new("calls", places),
            subscribers: Places::new("subscribers", 2),
            bytes: Places::new("bytes", 64),
            observer: Some(heard.clone()),
        };
        (front, heard)
    }

    fn request(method: &str) -> http::Request<Body> {
        let uri = format!("http://x/runtime.v1.RuntimeService/{method}");
        http::Request::builder().uri(uri).body(Body::empty()).unwrap()
    }

    /// What the services would answer.
    async fn answers(status: Option<Status>) -> Result<http::Response<Body>, Infallible> {
        Ok(status.map_or_else(|| http::Response::new(Body::empty()), Status::into_http))
    }

    async fn ask(front: &Front, method: &str, answer: Option<Status>) -> Option<Code> {
        let inner = tower::service_fn(move |_: http::Request<Body>| answers(answer.clone()));
        let response = front.layer(inner).call(request(method)).await.unwrap();
        code(response.headers())
    }

    #[test]
    fn a_message_is_read_as_it_was_meant() {
        let status = Status::unavailable("no room: 100% of \"disk\"\nis käse");
        let response = status.clone().into_http::<Body>();
        assert_eq!(message(response.headers()), status.message());
        let mut broken = http::HeaderMap::new();
        broken.insert("grpc-message", http::HeaderValue::from_static("50%"));
        assert_eq!(message(&broken), "50%");
    }

    #[test]
    fn what_was_not_done_is_for_the_log_and_what_is_not_there_is_not() {
        assert!(is_for_the_log("CreateContainer", Code::InvalidArgument));
        assert!(!is_for_the_log("ListContainers", Code::InvalidArgument));
        assert!(is_for_the_log("ListContainers", Code::Internal));
        assert!(is_for_the_log("PullImage", Code::ResourceExhausted));
        assert!(!is_for_the_log("ContainerStatus", Code::NotFound));
        assert!(is_for_the_log("PullImage", Code::Unavailable));
        assert!(!is_for_the_log("GetContainerEvents", Code::Unavailable));
    }

    #[tokio::test]
    async fn a_read_only_socket_lists_and_changes_nothing() {
        let (front, heard) = front(Access::ReadOnly, 8);
        assert_eq!(ask(&front, "ListContainers", None).await, None);
        for method in ["RunPodSandbox", "ExecSync", "PullImage", "ReloadConfig", "NoSuchCall"] {
            let said = ask(&front, method, None).await;
            assert_eq!(said, Some(Code::PermissionDenied), "{method}");
        }
        let heard = heard.0.lock().unwrap();
        assert!(heard.contains(&("ExecSync", Code::PermissionDenied)));
        assert!(heard.contains(&("unknown", Code::PermissionDenied)), "{heard:?}");
    }

    #[tokio::test]
    async fn a_call_without_a_place_is_refused_and_places_come_back() {
        let (front, heard) = front(Access::Full, 2);
        let held = front.calls.take(Some(1)).unwrap();
        // The other half is for other processes.
        let other = front.calls.take(Some(2)).unwrap();
        assert_eq!(ask(&front, "Version", None).await, Some(Code::ResourceExhausted));
        drop((held, other));
        for _ in 0..5 {
            let failed = Some(Status::not_found("x"));
            assert_eq!(ask(&front, "ContainerStatus", failed).await, Some(Code::NotFound));
        }
        let count = |code| heard.0.lock().unwrap().iter().filter(|one| one.1 == code).count();
        assert_eq!((count(Code::ResourceExhausted), count(Code::NotFound)), (1, 5));
    }

    /// A service that reads the whole request, and says what came of it.
    async fn reads(request: http::Request<Body>) -> Result<http::Response<Body>, Infallible> {
        let read = request.into_body().collect().await;
        let answer = || Body::new(http_body_util::Full::new(bytes::Bytes::from_static(b"answer")));
        Ok(read.map_or_else(Status::into_http, |_| http::Response::new(answer())))
    }

    #[tokio::test]
    async fn bytes_of_open_calls_are_bounded_and_come_back() {
        let (front, _) = front(Access::Full, 8);
        let send = async |method: &str, length: usize| {
            let body = http_body_util::Full::new(bytes::Bytes::from(vec![0; length]));
            let request = request(method).map(|_| Body::new(body));
            front.layer(tower::service_fn(reads)).call(request).await.unwrap()
        };
        let answers = [send("Status", 20).await, send("Status", 12).await];
        assert_eq!(front.bytes.in_use(), 32, "until the answers are sent");
        let refused = send("Status", 1).await;
        assert_eq!(code(refused.headers()), Some(Code::ResourceExhausted));
        assert_eq!(code(send("LoadImage", 1000).await.headers()), None, "it is not kept");
        drop(answers);
        assert_eq!(front.bytes.in_use(), 0);
        assert_eq!(code(send("Status", 32).await.headers()), None);
    }
}
