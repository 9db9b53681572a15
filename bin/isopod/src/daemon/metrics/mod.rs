//! The daemon's own metrics.
//!
//! Owns: what is counted of the daemon itself (pods' metrics are the CRI's), and the server that shows it.
//! Always: no label has a value that a caller chose, so the number of series is bounded; nothing is counted
//! unless it is configured. Callers: `serve`.

mod process;
mod server;

use std::sync::Arc;
use std::time::Duration;

use cri_server::Observer;
use operations::{Ended, Watcher};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use super::audit::AuditLog;
use super::wiring::Parts;
pub use server::serve;

/// Upper ends of what durations are sorted into, in seconds: from a list to a pull.
const SECONDS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallCode {
    method: &'static str,
    code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Method {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindOutcome {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindPhase {
    kind: &'static str,
    phase: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Found {
    found: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    calls: Family<CallCode, Counter>,
    call_seconds: Durations<Method>,
    operations: Durations<KindOutcome>,
    phases: Family<KindPhase, Counter>,
    phase_seconds: Family<KindPhase, Counter<f64, std::sync::atomic::AtomicU64>>,
    recovered: Family<Found, Gauge>,
    recovery_seconds: Gauge<f64, std::sync::atomic::AtomicU64>,
    now: Now,
}

/// What is looked up when somebody asks.
#[derive(Debug, Default)]
struct Now {
    sandboxes: Gauge,
    containers: Gauge,
    images: Gauge,
    operations: Gauge,
    owed: Gauge,
    pulled: Counter,
    events_cut: Counter,
    audit_lost: Counter,
    memory: Gauge,
    descriptors: Gauge,
    threads: Gauge,
}

impl Metrics {
    /// With nothing counted yet.
    pub fn new() -> Arc<Self> {
        let mut metrics = Self {
            registry: Registry::default(),
            calls: Family::default(),
            call_seconds: durations(),
            operations: durations(),
            phases: Family::default(),
            phase_seconds: Family::default(),
            recovered: Family::default(),
            recovery_seconds: Gauge::default(),
            now: Now::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let registry = self.registry.sub_registry_with_prefix("isopod");
        registry.register("calls", "Calls by method and gRPC code", self.calls.clone());
        let help = "Time from a call's beginning to its answer's head";
        registry.register("call_seconds", help, self.call_seconds.clone());
        let help = "Operations that ended, however many callers they had";
        registry.register("operation_seconds", help, self.operations.clone());
        registry.register("phases", "Phases of operations that ended", self.phases.clone());
        let help = "Time spent in phases of operations that ended";
        registry.register("phase_seconds", help, self.phase_seconds.clone());
        let help = "Pods that were there when the daemon started, by what was found";
        registry.register("recovered_pods", help, self.recovered.clone());
        let help = "How long taking them up took";
        registry.register("recovery_seconds", help, self.recovery_seconds.clone());
        let now = &self.now;
        registry.register("sandboxes", "Sandboxes that there are", now.sandboxes.clone());
        registry.register("containers", "Containers that there are", now.containers.clone());
        registry.register("images", "Images that there are", now.images.clone());
        registry.register("operations_running", "Operations that run", now.operations.clone());
        let help = "What could not be undone yet and is tried again";
        registry.register("owed", help, now.owed.clone());
        let help = "Bytes of layers that came from registries";
        registry.register("pulled_bytes", help, now.pulled.clone());
        let help = "Subscribers of events that were too slow and were cut off";
        registry.register("events_cut", help, now.events_cut.clone());
        let help = "Lines of the audit log that could not be written";
        registry.register("audit_lines_lost", help, now.audit_lost.clone());
        let process = self.registry.sub_registry_with_prefix("process");
        let help = "Resident memory of the daemon";
        process.register("resident_memory_bytes", help, self.now.memory.clone());
        process.register("open_fds", "Open descriptors", self.now.descriptors.clone());
        process.register("threads", "Threads of the daemon", self.now.threads.clone());
    }

    /// The pods of the daemon before were taken up.
    pub fn recovered(&self, found: &pods::Recovered, took: Duration) {
        for (name, count) in [
            ("alive", found.alive),
            ("lost", found.lost),
            ("undone", found.undone),
            ("quarantined", found.quarantined.len()),
            ("problem", found.problems.len()),
        ] {
            self.recovered.get_or_create(&Found { found: name }).set(number(count));
        }
        self.recovery_seconds.set(took.as_secs_f64());
    }

    /// Everything, as Prometheus reads it (text exposition format 0.0.4).
    fn text(&self, parts: &Parts, audit: Option<&AuditLog>) -> String {
        let now = &self.now;
        let pods = &parts.pods;
        now.sandboxes.set(number(pods.list_sandboxes(&pods::SandboxFilter::default()).len()));
        now.containers.set(number(pods.list_containers(&pods::ContainerFilter::default()).len()));
        now.images.set(number(parts.images.list(None).map_or(0, |all| all.len())));
        now.operations.set(number(parts.operations.list().len()));
        now.owed.set(number(pods.owed().len()));
        up_to(&now.pulled, parts.images.pulled_bytes());
        up_to(&now.events_cut, pods.events_cut());
        up_to(&now.audit_lost, audit.map_or(0, AuditLog::lost));
        let process = process::read();
        now.memory.set(process.memory);
        now.descriptors.set(process.descriptors);
        now.threads.set(process.threads);
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// A counter that is kept elsewhere.
fn up_to(counter: &Counter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl Observer for Metrics {
    fn call(&self, method: &'static str, code: Code, took: Duration) {
        self.calls.get_or_create(&CallCode { method, code: format!("{code:?}") }).inc();
        self.call_seconds.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }
}

impl Watcher for Metrics {
    fn ended(&self, ended: &Ended) {
        let kind = ended.kind;
        let outcome = if ended.succeeded { "success" } else { "failure" };
        let operation = self.operations.get_or_create(&KindOutcome { kind, outcome });
        operation.observe(ended.took.as_secs_f64());
        drop(operation);
        for span in &ended.spans {
            let labels = KindPhase { kind, phase: span.phase.clone().into_owned() };
            self.phases.get_or_create(&labels).inc();
            let seconds = Duration::from_micros(span.took_us.into()).as_secs_f64();
            self.phase_seconds.get_or_create(&labels).inc_by(seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.call("Version", Code::Ok, Duration::from_millis(3));
        metrics.call("Version", Code::NotFound, Duration::from_millis(3));
        let span = model::Span { phase: "network".into(), start_us: 0, took_us: 1_500_000 };
        let took = Duration::from_secs(2);
        let ended = Ended { kind: "RunPodSandbox", took, succeeded: false, spans: vec![span] };
        metrics.ended(&ended);
        let mut text = String::new();
        prometheus_text::encode(&mut text, &metrics.registry).unwrap();
        for line in [
            "isopod_calls_total{method=\"Version\",code=\"NotFound\"} 1",
            "isopod_call_seconds_bucket{method=\"Version\",le=\"0.005\"} 2",
            "isopod_call_seconds_count{method=\"Version\"} 2",
            "isopod_operation_seconds_count{kind=\"RunPodSandbox\",outcome=\"failure\"} 1",
            "isopod_phases_total{kind=\"RunPodSandbox\",phase=\"network\"} 1",
            "isopod_phase_seconds_total{kind=\"RunPodSandbox\",phase=\"network\"} 1.5",
            "isopod_owed 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_counter_that_is_kept_elsewhere_never_falls() {
        let counter = Counter::default();
        for (value, want) in [(5, 5), (3, 5), (9, 9)] {
            up_to(&counter, value);
            assert_eq!(counter.get(), want);
        }
    }
}
