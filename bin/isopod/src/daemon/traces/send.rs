//! The way to the collector.
//!
//! Always: a batch that the collector does not take because it is away is sent when it comes back, at most
//! [`LAST_PAUSE`] later; what it refuses is lost, and what found no room to wait is; both are counted, and said once in a
//! while; the daemon's end waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use operations::Ended;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use super::otlp::{
    EXPORT, ExportRequest, ExportResponse, Resource, ResourceSpans, Scope, ScopeSpans, Span, text,
};
use super::spans::spans;
use crate::config::TraceEndpoint;

/// Operations of one message, and how long the first of them waits for others.
pub const BATCH: usize = 128;
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause before a batch is tried again, doubled each time, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// How often a failure is said.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// A connection that is made when it is first used, and again when it breaks.
pub fn channel(endpoint: &TraceEndpoint) -> Result<Channel, String> {
    match endpoint {
        TraceEndpoint::Http(uri) => {
            let endpoint = Endpoint::from_shared(uri.clone());
            let endpoint = endpoint.map_err(|error| format!("traces.endpoint {uri}: {error}"))?;
            Ok(endpoint.connect_timeout(PATIENCE).connect_lazy())
        }
        TraceEndpoint::Unix(path) => {
            let path = path.clone();
            let connect = tower::service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            Ok(Endpoint::from_static("http://collector.invalid")
                .connect_with_connector_lazy(connect))
        }
    }
}

/// Sends what comes until `stop`.
pub async fn send(
    channel: Channel,
    mut from: mpsc::Receiver<Ended>,
    lost: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let sending = async {
        let mut losses = Losses::default();
        let mut batch = Vec::new();
        loop {
            let now = Instant::now();
            losses.say(&lost, now);
            let came = match losses.again(lost.load(Ordering::Relaxed), now) {
                None => from.recv_many(&mut batch, BATCH).await,
                Some(after) => {
                    // What was lost last is said as well, though nothing may come after it.
                    let next = from.recv_many(&mut batch, BATCH);
                    match tokio::time::timeout(after, next).await {
                        Ok(came) => came,
                        Err(_) => continue,
                    }
                }
            };
            if came == 0 {
                return;
            }
            gather(&mut from, &mut batch).await;
            deliver(&channel, &batch, &lost, &mut losses).await;
            batch.clear();
        }
    };
    stop.run_until_cancelled(sending).await;
}

/// Sends a batch; tries again while the collector is away, for others wait meanwhile, within their bound.
async fn deliver(channel: &Channel, batch: &[Ended], lost: &AtomicU64, losses: &mut Losses) {
    let random = |bytes: &mut [u8]| {
        // Without randomness the ids are zeros, which a collector refuses.
        let _ = getrandom::fill(bytes);
    };
    // Made once: a collector that has them twice, because its answer was lost, knows them again.
    let spans: Vec<Span> = batch.iter().flat_map(|ended| spans(ended, random)).collect();
    let request = ExportRequest { resource_spans: vec![resource(spans)] };
    let mut pause = FIRST_PAUSE;
    let mut is_away = false;
    loop {
        let why = match attempt(channel, &request).await {
            Ok(()) => {
                if is_away {
                    tracing::info!("the collector of traces is there again (traces.endpoint)");
                }
                return;
            }
            Err(Unsent::Refused { spans, why }) => {
                let most = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                lost.fetch_add(spans.unwrap_or(most).min(most), Ordering::Relaxed);
                losses.why = Some(why);
                return;
            }
            Err(Unsent::Away(why)) => why,
        };
        if !std::mem::replace(&mut is_away, true) {
            let waiting = batch.len();
            tracing::warn!(why, waiting, "the collector of traces is away (traces.endpoint)");
        }
        losses.why = Some(why);
        losses.say(lost, Instant::now());
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Why a batch was not sent.
#[derive(Debug)]
enum Unsent {
    /// It may be another time.
    Away(String),
    /// It never will be: so many spans of it, or all.
    Refused { spans: Option<u64>, why: String },
}

async fn attempt(channel: &Channel, request: &ExportRequest) -> Result<(), Unsent> {
    let sent = tokio::time::timeout(PATIENCE, export(channel.clone(), request.clone())).await;
    let answer = match sent {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) if is_final(status.code()) => {
            return Err(Unsent::Refused { spans: None, why: status.message().to_owned() });
        }
        Ok(Err(status)) => return Err(Unsent::Away(status.message().to_owned())),
        Err(_) => return Err(Unsent::Away(format!("no answer after {PATIENCE:?}"))),
    };
    match answer.partial_success {
        Some(part) if part.rejected_spans > 0 => {
            let count = part.rejected_spans;
            let why = format!("{count} spans refused: {}", part.error_message);
            Err(Unsent::Refused { spans: u64::try_from(count).ok(), why })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether a collector that answers so would do it again (OTLP, "Failures").
const fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// What has been said of losses.
#[derive(Debug, Default)]
struct Losses {
    said: Option<(Instant, u64)>,
    /// Why a batch was not sent last.
    why: Option<String>,
}

impl Losses {
    /// Says how many are lost, where more are than was said, now and then.
    fn say(&mut self, lost: &AtomicU64, now: Instant) {
        if let Some(lost) = self.due(lost.load(Ordering::Relaxed), now) {
            let why = self.why.take().unwrap_or_else(|| "more at once than can wait".to_owned());
            tracing::warn!(why, lost, "traces of operations are lost (traces.endpoint)");
        }
    }

    /// When to say more, where more are lost than was said.
    fn again(&self, lost: u64, now: Instant) -> Option<Duration> {
        let (at, said) = self.said?;
        (lost > said).then(|| SAY_AGAIN.saturating_sub(now.saturating_duration_since(at)))
    }

    /// How many are lost, if more are than was said, and it was not said just now.
    fn due(&mut self, lost: u64, now: Instant) -> Option<u64> {
        let is_due = match self.said {
            None => lost > 0,
            Some((at, said)) => lost > said && now.saturating_duration_since(at) >= SAY_AGAIN,
        };
        is_due.then(|| {
            self.said = Some((now, lost));
            lost
        })
    }
}

/// Waits a moment for more.
async fn gather(from: &mut mpsc::Receiver<Ended>, batch: &mut Vec<Ended>) {
    let until = tokio::time::Instant::now() + GATHER;
    while batch.len() < BATCH {
        let room = BATCH - batch.len();
        match tokio::time::timeout_at(until, from.recv_many(batch, room)).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

async fn export(channel: Channel, request: ExportRequest) -> Result<ExportResponse, tonic::Status> {
    let mut grpc = Grpc::new(channel);
    let unready = |error| {
        tonic::Status::unavailable(format!("the collector: {}", model::with_causes(&error)))
    };
    grpc.ready().await.map_err(unready)?;
    let codec = tonic_prost::ProstCodec::<ExportRequest, ExportResponse>::default();
    let request = tonic::Request::new(request);
    let answer = grpc.unary(request, PathAndQuery::from_static(EXPORT), codec).await?;
    Ok(answer.into_inner())
}

fn resource(spans: Vec<Span>) -> ResourceSpans {
    let version = env!("CARGO_PKG_VERSION");
    let host = rustix::system::uname();
    let attributes = vec![
        text("service.name", "isopod"),
        text("service.version", version),
        text("host.name", &host.nodename().to_string_lossy()),
    ];
    let scope = Scope { name: "isopod".to_owned(), version: version.to_owned() };
    ResourceSpans {
        resource: Some(Resource { attributes }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use operations::Watcher as _;
    use tonic::codegen::{Service, http};
    use tonic::server::{Grpc as Server, NamedService, UnaryService};

    use super::*;

    /// A collector that hands on what it was sent.
    #[derive(Clone)]
    struct Collector(mpsc::Sender<ExportRequest>);

    impl NamedService for Collector {
        const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    }

    impl UnaryService<ExportRequest> for Collector {
        type Response = ExportResponse;
        type Future = tonic::codegen::BoxFuture<tonic::Response<ExportResponse>, tonic::Status>;

        fn call(&mut self, request: tonic::Request<ExportRequest>) -> Self::Future {
            let to = self.0.clone();
            Box::pin(async move {
                to.send(request.into_inner()).await.unwrap();
                Ok(tonic::Response::new(ExportResponse::default()))
            })
        }
    }

    impl Service<http::Request<tonic::body::Body>> for Collector {
        type Response = http::Response<tonic::body::Body>;
        type Error = Infallible;
        type Future = tonic::codegen::BoxFuture<Self::Response, Infallible>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Infallible>> {
            std::task::Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
            assert_eq!(request.uri().path(), EXPORT);
            let own = self.clone();
            Box::pin(async move {
                let codec = tonic_prost::ProstCodec::<ExportResponse, ExportRequest>::default();
                Ok(Server::new(codec).unary(own, request).await)
            })
        }
    }

    #[test]
    fn losses_are_said_when_there_are_more_and_not_all_the_time() {
        let (mut losses, begin) = (Losses::default(), Instant::now());
        let said: Vec<_> = [(0, 0), (1, 3), (2, 3), (30, 9), (61, 9), (62, 9), (200, 9), (201, 10)]
            .map(|(second, lost)| losses.due(lost, begin + Duration::from_secs(second)))
            .into_iter()
            .collect();
        assert_eq!(said, [None, Some(3), None, None, Some(9), None, None, Some(10)]);
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_found_no_room_is_said_although_every_batch_was_sent() {
        let log = Log::default();
        let to = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || to.clone()).finish();
        let _here = tracing::subscriber::set_default(subscriber);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("collector.sock");
        let mut sent = collector(&path);
        let (to, from) = mpsc::channel(4);
        let channel = channel(&TraceEndpoint::Unix(path)).unwrap();
        to.send(Ended::default()).await.unwrap();
        drop(to);
        let stop = CancellationToken::new();
        send(channel, from, Arc::new(AtomicU64::new(7)), stop).await;
        assert!(sent.recv().await.is_some());
        let said = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(said.contains("lost=7"), "{said}");
    }

    /// A collector at `path`, and what it is sent.
    fn collector(path: &std::path::Path) -> mpsc::Receiver<ExportRequest> {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        let (to, from) = mpsc::channel(4);
        let server = tonic::transport::Server::builder().add_service(Collector(to));
        tokio::spawn(server.serve_with_incoming(incoming));
        from
    }

    #[tokio::test]
    async fn what_ends_while_the_collector_is_away_is_sent_when_it_comes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("collector.sock");
        let stop = CancellationToken::new();
        let endpoint = TraceEndpoint::Unix(path.clone());
        let traces = super::super::begin(&endpoint, stop.clone()).unwrap();
        for _ in 0..super::super::AHEAD + 50 {
            traces.ended(&Ended { kind: "StopContainer", ..Ended::default() });
        }
        let lost = traces.lost();
        assert!((50..=50 + BATCH as u64).contains(&lost), "{lost} find no room");
        let mut from = collector(&path);
        let mut spans = 0;
        while spans < super::super::AHEAD - BATCH {
            let sent = tokio::time::timeout(Duration::from_secs(60), from.recv()).await;
            spans += sent.unwrap().unwrap().resource_spans[0].scope_spans[0].spans.len();
        }
        assert_eq!(traces.lost(), lost, "nothing else is lost");
        stop.cancel();
    }

    #[test]
    fn losses_that_nothing_comes_after_are_said_later() {
        let (mut losses, begin) = (Losses::default(), Instant::now());
        assert_eq!(losses.again(0, begin), None);
        losses.due(3, begin);
        assert_eq!(losses.again(3, begin), None);
        let later = begin + Duration::from_secs(20);
        assert_eq!(losses.again(4, later), Some(SAY_AGAIN - Duration::from_secs(20)));
    }

    #[tokio::test]
    async fn operations_reach_a_collector_as_spans() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("collector.sock");
        let mut from = collector(&path);
        let stop = CancellationToken::new();
        let traces = super::super::begin(&TraceEndpoint::Unix(path), stop.clone()).unwrap();
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let unwanted = operations::TraceContext::parse(header).unwrap();
        let origin = operations::Origin { trace: Some(unwanted), ..Default::default() };
        traces.ended(&Ended { kind: "Unwanted", origin, ..Ended::default() });
        traces.ended(&Ended { kind: "StopContainer", ..Ended::default() });
        let sent = from.recv().await.unwrap();
        let spans = &sent.resource_spans[0].scope_spans[0].spans;
        assert_eq!(spans.len(), 1, "{spans:?}");
        assert_eq!((spans[0].name.as_str(), spans[0].trace_id.len()), ("StopContainer", 16));
        stop.cancel();
    }
}
