//! The daemon's life: open, serve, recover, end.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri_server::{CallLog, Cri, Services, Streaming};
use operations::Operations;
use pods::Pods;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::notify::Notify;
use super::reload::{Current, Source};
use super::signals::{Asked, Signals};
use super::socket::Listener;
use super::wiring::{self, Parts};
use super::{host, logging, streaming};
use crate::config::{Config, Entries};

/// How long operations may go on after SIGTERM. What does not end in this time is taken up by the next
/// daemon, as after a crash.
const LAST_WORK: Duration = Duration::from_secs(3);
/// How long connections may stay after that: a subscriber's stream never ends by itself.
const LAST_CALLS: Duration = Duration::from_millis(500);
/// After an accept that failed, for example for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Calls at once on one connection; the kubelet has one connection for everything.
const CALLS_AT_ONCE: u32 = 4096;
/// What one call may send ahead, and all calls of a connection.
const WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often what no image uses is collected, and how often writable layers are measured.
const COLLECT_EVERY: Duration = Duration::from_secs(600);
const MEASURE_EVERY: Duration = Duration::from_secs(60);
/// After work that needed much memory for a moment, for example recovery.
const TRIM_EVERY: Duration = Duration::from_secs(60);

/// Serves until a signal asks it to stop.
pub async fn serve(
    config: Config,
    entries: Entries,
    source: Source,
    log: logging::Handle,
    listener: Listener,
) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let mut signals = Signals::listen()?;
    let notify = Notify::from_environment();
    let parts = wiring::open(&config)?;
    let current = Arc::new(Current::new(source, log, parts.store.clone(), entries));
    let no_more_streams = CancellationToken::new();
    let streams =
        streaming::start(&config.streaming, parts.pods.clone(), no_more_streams.clone()).await?;
    let cri = services(&parts, &current, Some(streams));
    let path = listener.path.clone();
    listener.socket.set_nonblocking(true)?;
    let incoming = UnixListener::from_std(listener.socket.try_clone()?)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut served = tokio::spawn(answer(cri, config.log.slow_call, incoming, stopped));
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = ?path, ms, "serving");
    notify.say("READY=1");
    background(&parts);
    let early = tokio::select! {
        () = wait(&mut signals, &notify, &current) => None,
        result = &mut served => Some(result),
    };
    notify.say("STOPPING=1");
    tracing::info!("stopping; pods go on");
    drop(listener);
    let _ = stop.send(());
    no_more_streams.cancel();
    finish(&parts.operations).await;
    let result = match early {
        Some(result) => result,
        None => match tokio::time::timeout(LAST_CALLS, served).await {
            Ok(result) => result,
            // Some stream is still open; its caller sees the connection end.
            Err(_) => return Ok(()),
        },
    };
    Ok(result??)
}

/// The services, answering from `parts`.
pub(super) fn services(
    parts: &Parts,
    current: &Arc<Current>,
    streaming: Option<Arc<dyn Streaming>>,
) -> Cri {
    let node = host::Node {
        pods: parts.pods.clone(),
        networks: parts.networks.clone(),
        driver: parts.driver,
        handlers: host::features(parts.pods.config().handlers.iter()),
        current: Arc::clone(current),
    };
    Cri::new(Services {
        pods: parts.pods.clone(),
        images: parts.images.clone(),
        operations: parts.operations.clone(),
        host: Arc::new(node),
        streaming,
    })
}

/// Answers calls until `stopped`.
pub(super) async fn answer(
    cri: Cri,
    slow: Duration,
    incoming: UnixListener,
    stopped: oneshot::Receiver<()>,
) -> Result<(), tonic::transport::Error> {
    Server::builder()
        .max_concurrent_streams(Some(CALLS_AT_ONCE))
        .initial_stream_window_size(Some(WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .layer(CallLog { slow })
        .add_service(cri.runtime_service())
        .add_service(cri.image_service())
        .add_service(cri.admin_service())
        .serve_with_incoming_shutdown(connections(incoming), async {
            // A sender that is gone means the same.
            let _ = stopped.await;
        })
        .await
}

/// Connections, for ever: an accept that fails is tried again.
fn connections(
    listener: UnixListener,
) -> impl futures_util::Stream<Item = Result<UnixStream, std::io::Error>> {
    futures_util::stream::unfold(listener, |listener| async {
        loop {
            match listener.accept().await {
                Ok((connection, _)) => return Some((Ok(connection), listener)),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    })
}

/// What goes on beside the calls.
fn background(parts: &Parts) {
    let pods = parts.pods.clone();
    tokio::spawn(async move {
        recover(&pods).await;
        sys::return_free_memory();
    });
    let images = parts.images.clone();
    tokio::spawn(async move { images.keep_house(COLLECT_EVERY, MEASURE_EVERY).await });
}

async fn recover(pods: &Pods) {
    let begun = Instant::now();
    let found = pods.recover().await;
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    for problem in found.quarantined.iter().chain(&found.problems) {
        tracing::warn!("{problem}");
    }
    let pods::Recovered { alive, lost, undone, .. } = found;
    tracing::info!(alive, lost, undone, ms, "pods of the daemon before were taken up");
}

/// Waits for the signal to stop; reloads, and pats the watchdog, meanwhile.
async fn wait(signals: &mut Signals, notify: &Notify, current: &Current) {
    let every = notify.watchdog_interval().unwrap_or(TRIM_EVERY);
    let mut watchdog = tokio::time::interval(every);
    let mut trim = tokio::time::interval(TRIM_EVERY);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => return,
                Asked::Reload => {
                    notify.say("RELOADING=1");
                    if let Err(mistakes) = current.reload() {
                        tracing::error!("the configuration has mistakes, nothing changes:\n{mistakes}");
                    }
                    notify.say("READY=1");
                }
            },
            _ = watchdog.tick() => notify.say("WATCHDOG=1"),
            _ = trim.tick() => sys::return_free_memory(),
        }
    }
}

/// Lets operations end that are about to.
async fn finish(operations: &Operations) {
    if tokio::time::timeout(LAST_WORK, operations.idle()).await.is_err() {
        for operation in operations.list() {
            let pods_object = operation.object;
            tracing::warn!(
                kind = operation.kind,
                object = pods_object,
                phase = operation.phase,
                "left to the next daemon"
            );
        }
    }
}
