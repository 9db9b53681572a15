//! The daemon's life: open, serve, recover, end.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cri_server::{Audit, Cri, Observer, Services, Streaming};
use operations::{Operations, Watcher};
use pods::Pods;
use tokio_util::sync::CancellationToken;

use super::audit::AuditLog;
use super::front::Fronts;
use super::metrics::{self, Metrics, View};
use super::notify::Notify;
use super::reload::{Current, Source};
use super::self_check::{self, SelfCheck};
use super::signals::{Asked, Signals};
use super::socket::Listener;
use super::wiring::{self, Parts};
use super::{host, logging, memory, streaming, traces};
use crate::config::{Config, Entries};

/// How long operations may go on after SIGTERM. What does not end in this time is taken up by the next
/// daemon, as after a crash.
const LAST_WORK: Duration = Duration::from_secs(3);
/// How long connections may stay after that: a subscriber's stream never ends by itself.
const LAST_CALLS: Duration = Duration::from_millis(500);
/// How long the audit log may take to write what is left.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How often what no image uses is collected, and how often writable layers are measured.
const COLLECT_EVERY: Duration = Duration::from_secs(600);
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// The sockets that calls come in on.
#[derive(Debug)]
pub struct Sockets {
    /// For everything.
    pub full: Listener,
    /// For reads alone.
    pub read_only: Option<Listener>,
}

/// Serves until a signal asks it to stop.
pub async fn serve(
    config: Config,
    entries: Entries,
    source: Source,
    log: logging::Handle,
    sockets: Sockets,
) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    let mut signals = Signals::listen()?;
    let notify = Notify::from_environment();
    let parts = wiring::open(&config)?;
    let current = Arc::new(Current::new(source, log, parts.store.clone(), entries));
    let audit = config.audit.as_deref().map(audit_log).transpose()?;
    let stop = CancellationToken::new();
    let metrics = measure(&config, &parts, audit.as_ref(), &stop).await?;
    let streams = streaming::start(&config.streaming, parts.pods.clone(), stop.clone()).await?;
    let cri = services(&parts, &current, metrics.clone(), Some(streams), audit.clone());
    let observer: Arc<dyn Observer> = metrics.counted();
    let fronts = Fronts::new(config.limits.clone(), config.log.slow_call, Some(observer));
    let path = sockets.full.path.clone();
    let full = sockets.full.incoming()?;
    let read_only = sockets.read_only.as_ref().map(Listener::incoming).transpose()?;
    let answer = fronts.answer_all(cri, full, read_only, stop.clone());
    let mut served = tokio::spawn(answer);
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = ?path, ms, "serving");
    notify.say("READY=1");
    background(&parts, metrics.counted());
    watch_over(&notify, &sockets.full, &config);
    let early = tokio::select! {
        () = wait(&mut signals, &notify, &current, audit.as_deref()) => None,
        result = &mut served => Some(result),
    };
    notify.say("STOPPING=1");
    tracing::info!("stopping; pods go on");
    drop(sockets);
    stop.cancel();
    finish(&parts.operations).await;
    parts.pods.end_events();
    let result = match early {
        Some(result) => Some(result),
        // None where some stream is still open; its caller sees the connection end.
        None => tokio::time::timeout(LAST_CALLS, served).await.ok(),
    };
    if let Some(audit) = audit {
        // A disk that hangs must not keep the daemon.
        let close = tokio::task::spawn_blocking(move || audit.close());
        let _ = tokio::time::timeout(LAST_LINES, close).await;
    }
    Ok(result.transpose()?.transpose().map(|_| ())?)
}

fn audit_log(path: &Path) -> Result<Arc<AuditLog>, String> {
    let opened = AuditLog::open(path);
    opened.map(Arc::new).map_err(|error| {
        format!("cannot write the audit log {} (audit.path): {error}", path.display())
    })
}

/// Counts from now on, and shows the counts where that is configured.
async fn measure(
    config: &Config,
    parts: &Parts,
    audit: Option<&Arc<AuditLog>>,
    stop: &CancellationToken,
) -> Result<View, Box<dyn Error>> {
    let traces = match &config.traces {
        Some(endpoint) => Some(traces::begin(endpoint, stop.clone())?),
        None => None,
    };
    let view = View::new(Metrics::new(), parts.clone(), audit.cloned(), traces.clone());
    let mut watchers: Vec<Arc<dyn Watcher>> = vec![view.counted()];
    watchers.extend(traces.map(|traces| traces as Arc<dyn Watcher>));
    parts.operations.watch(watchers);
    parts.networks.watch_plugins(view.counted());
    if let Some(address) = &config.metrics {
        metrics::serve(address, view.clone(), stop.clone()).await?;
    }
    Ok(view)
}

/// Feeds the watchdog, where there is one.
fn watch_over(notify: &Notify, listener: &Listener, config: &Config) {
    let Some(every) = notify.watchdog_interval() else { return };
    let address = listener.socket.local_addr().ok();
    let own = address.as_ref().and_then(std::os::unix::net::SocketAddr::as_pathname);
    // A socket that was renamed after it was bound is known by its old name to the kernel.
    let path = listener.path.as_deref().or(own).unwrap_or(&config.socket.path);
    let check = SelfCheck::new(path, &config.state);
    tokio::spawn(self_check::feed(notify.clone(), check, every));
}

/// The services, answering from `parts`.
pub(super) fn services(
    parts: &Parts,
    current: &Arc<Current>,
    metrics: View,
    streaming: Option<Arc<dyn Streaming>>,
    audit: Option<Arc<AuditLog>>,
) -> Cri {
    let node = host::Node {
        pods: parts.pods.clone(),
        networks: parts.networks.clone(),
        driver: parts.driver,
        handlers: host::features(parts.pods.config().handlers.iter()),
        current: Arc::clone(current),
        metrics,
    };
    Cri::new(Services {
        pods: parts.pods.clone(),
        images: parts.images.clone(),
        operations: parts.operations.clone(),
        host: Arc::new(node),
        streaming,
        audit: audit.map(|audit| audit as Arc<dyn Audit>),
    })
}

/// What goes on beside the calls.
fn background(parts: &Parts, metrics: Arc<Metrics>) {
    let (pods, counted) = (parts.pods.clone(), Arc::clone(&metrics));
    tokio::spawn(async move { recover(&pods, &counted).await });
    tokio::spawn(async move { memory::keep_small(metrics.work()).await });
    let pods = parts.pods.clone();
    tokio::spawn(async move { pods.keep_checking().await });
    let images = parts.images.clone();
    tokio::spawn(async move { images.keep_house(COLLECT_EVERY, MEASURE_EVERY).await });
}

async fn recover(pods: &Pods, metrics: &Metrics) {
    let begun = Instant::now();
    let found = pods.recover().await;
    metrics.recovered(&found, begun.elapsed());
    let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    for problem in found.quarantined.iter().chain(&found.problems) {
        tracing::warn!("{problem}");
    }
    let pods::Recovered { alive, lost, undone, .. } = found;
    tracing::info!(alive, lost, undone, ms, "pods of the daemon before were taken up");
}

/// Waits for the signal to stop; reloads meanwhile.
async fn wait(signals: &mut Signals, notify: &Notify, current: &Current, audit: Option<&AuditLog>) {
    loop {
        match signals.next().await {
            Asked::Stop => return,
            Asked::Reload => {
                notify.say("RELOADING=1");
                if let Some(audit) = audit {
                    audit.reopen();
                }
                if let Err(mistakes) = current.reload() {
                    tracing::error!("the configuration has mistakes, nothing changes:\n{mistakes}");
                }
                notify.say("READY=1");
            }
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
