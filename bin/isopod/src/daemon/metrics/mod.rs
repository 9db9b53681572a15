//! The daemon's own metrics.
//!
//! Owns: what is counted of the daemon itself (pods' metrics are the CRI's), and the server that shows it.
//! Always: no label has a value that a caller chose, so the number of series is bounded; what is looked up
//! costs nothing until somebody asks. Callers: `serve`, and `host` for the command line.

mod monitors;
mod now;
mod process;
mod server;
mod view;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cri_server::Observer;
use network::{PluginCall, PluginWatcher};
use operations::{Ended, Watcher};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tonic::Code;

use now::Now;
pub use server::serve;
pub use view::View;

use super::memory::Work;

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
struct Cause {
    code: String,
}

/// Names of plugins are the configuration's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabels {
    plugin: String,
    verb: &'static str,
    outcome: &'static str,
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
    phase_seconds: Family<KindPhase, Counter<f64, AtomicU64>>,
    pull_failures: Family<Cause, Counter>,
    plugins: Durations<PluginLabels>,
    recovered: Family<Found, Gauge>,
    recovery_seconds: Gauge<f64, AtomicU64>,
    /// Calls and operations that have ended.
    work: Work,
    now: Now,
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
            pull_failures: Family::default(),
            plugins: durations(),
            recovered: Family::default(),
            recovery_seconds: Gauge::default(),
            work: Work::default(),
            now: Now::default(),
        };
        metrics.register();
        Arc::new(metrics)
    }

    /// The calls and operations that have ended.
    pub const fn work(&self) -> &Work {
        &self.work
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
        let help = "Pulls of images that failed, by what kind of failure it was";
        registry.register("pull_failures", help, self.pull_failures.clone());
        let help = "Calls of CNI plugins that ended";
        registry.register("plugin_seconds", help, self.plugins.clone());
        let help = "Pods that were there when the daemon started, by what was found";
        registry.register("recovered_pods", help, self.recovered.clone());
        let help = "How long taking them up took";
        registry.register("recovery_seconds", help, self.recovery_seconds.clone());
        self.now.register(&mut self.registry);
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
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        rounded(&text)
    }
}

/// Parts of a second that a clock tells.
const CLOCK: f64 = 1e9;

/// The text with its values to a billionth: a sum of times has more digits, and they are no measurement.
fn rounded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let of_value = line.rsplit_once(' ').filter(|_| !line.starts_with('#'));
        let fraction = of_value.filter(|(_, value)| value.contains(['.', 'e']));
        match fraction.and_then(|(series, value)| Some((series, value.parse::<f64>().ok()?))) {
            Some((series, value)) => {
                let rounded = (value * CLOCK).round() / CLOCK;
                // What is too large for this is a whole number, and needs no rounding.
                let value = if rounded.is_finite() { rounded } else { value };
                // Writing to a String does not fail.
                let _ = writeln!(out, "{series} {value:?}");
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
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
        self.work.add();
        self.calls.get_or_create(&CallCode { method, code: format!("{code:?}") }).inc();
        self.call_seconds.get_or_create(&Method { method }).observe(took.as_secs_f64());
    }
}

impl Watcher for Metrics {
    fn ended(&self, ended: &Ended) {
        self.work.add();
        let kind = ended.kind;
        let outcome = outcome(ended.failure.is_none());
        if let ("PullImage", Some(failure)) = (kind, &ended.failure) {
            let code = format!("{:?}", cri_server::code(failure.class));
            self.pull_failures.get_or_create(&Cause { code }).inc();
        }
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

impl PluginWatcher for Metrics {
    fn ended(&self, call: &PluginCall, took: Duration, succeeded: bool) {
        let (plugin, verb) = (call.plugin.clone(), call.verb);
        let labels = PluginLabels { plugin, verb, outcome: outcome(succeeded) };
        self.plugins.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

const fn outcome(succeeded: bool) -> &'static str {
    if succeeded { "success" } else { "failure" }
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
        let failure = operations::OperationFailure {
            class: model::Class::Unavailable,
            message: "no".to_owned(),
        };
        for kind in ["RunPodSandbox", "PullImage"] {
            let (failure, spans) = (Some(failure.clone()), vec![span.clone()]);
            Watcher::ended(&*metrics, &Ended { kind, took, failure, spans, ..Ended::default() });
        }
        let call = PluginCall {
            plugin: "bridge".to_owned(),
            network: "net".to_owned(),
            verb: "ADD",
            sandbox: String::new(),
            since: model::Timestamp(0),
        };
        PluginWatcher::ended(&*metrics, &call, took, true);
        let text = metrics.text();
        for line in [
            "isopod_calls_total{method=\"Version\",code=\"NotFound\"} 1",
            "isopod_call_seconds_bucket{method=\"Version\",le=\"0.005\"} 2",
            "isopod_call_seconds_count{method=\"Version\"} 2",
            "isopod_operation_seconds_count{kind=\"RunPodSandbox\",outcome=\"failure\"} 1",
            "isopod_phases_total{kind=\"RunPodSandbox\",phase=\"network\"} 1",
            "isopod_phase_seconds_total{kind=\"RunPodSandbox\",phase=\"network\"} 1.5",
            "isopod_pull_failures_total{code=\"Unavailable\"} 1",
            "isopod_plugin_seconds_count{plugin=\"bridge\",verb=\"ADD\",outcome=\"success\"} 1",
            "isopod_owed 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn sums_of_times_are_told_as_far_as_a_clock_goes() {
        let metrics = Metrics::new();
        for us in [104, 36, 69] {
            metrics.call("Version", Code::Ok, Duration::from_micros(us));
        }
        let line = "isopod_call_seconds_sum{method=\"Version\"} 0.000209";
        let has = |text: &str| text.lines().any(|one| one == line);
        let mut sum = String::new();
        prometheus_text::encode(&mut sum, &metrics.registry).unwrap();
        assert!(!has(&sum), "the sum has no error that is to be rounded: {sum}");
        let text = metrics.text();
        assert!(has(&text), "{text}");
        for (given, told) in [
            ("# HELP a 0.00020899999999999998", "# HELP a 0.00020899999999999998"),
            ("a{b=\"c d\"} 0.00020899999999999998", "a{b=\"c d\"} 0.000209"),
            ("a 12.0", "a 12.0"),
            ("a 7", "a 7"),
            ("a 1e300", "a 1e300"),
            ("a +Inf", "a +Inf"),
        ] {
            assert_eq!(rounded(given), format!("{told}\n"));
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
