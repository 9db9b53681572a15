//! What is looked up when somebody asks.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::monitors::Memory;
use super::{Found, number, process, up_to};
use crate::daemon::audit::AuditLog;
use crate::daemon::traces::Traces;
use crate::daemon::wiring::Parts;

type Seconds = Counter<f64, std::sync::atomic::AtomicU64>;

/// The numbers of the last look.
#[derive(Debug, Default)]
pub(super) struct Now {
    sandboxes: Gauge,
    containers: Gauge,
    images: Gauge,
    operations: Gauge,
    owed: Gauge,
    pulled: Counter,
    unpacked: Counter,
    layers: Counter,
    collections: Counter,
    collected: Counter,
    collection_seconds: Seconds,
    undeletable: Gauge,
    events_cut: Counter,
    audit_lost: Counter,
    traces_lost: Counter,
    leaks: Family<Found, Counter>,
    log_lines: Counter,
    log_bytes: Counter,
    log_lost: Counter,
    log_dropped: Counter,
    monitors: Gauge,
    monitors_memory: Gauge,
    monitor_most: Gauge,
    memory: Gauge,
    descriptors: Gauge,
    threads: Gauge,
    cpu: Seconds,
}

impl Now {
    pub(super) fn register(&self, all: &mut Registry) {
        let registry = all.sub_registry_with_prefix("isopod");
        registry.register("sandboxes", "Sandboxes that there are", self.sandboxes.clone());
        registry.register("containers", "Containers that there are", self.containers.clone());
        registry.register("images", "Images that there are", self.images.clone());
        registry.register("operations_running", "Operations that run", self.operations.clone());
        let help = "What could not be undone yet and is tried again";
        registry.register("owed", help, self.owed.clone());
        self.register_images(registry);
        let help = "Subscribers of events that were cut off: too slow, or silent";
        registry.register("events_cut", help, self.events_cut.clone());
        let help = "Lines of the audit log that could not be written";
        registry.register("audit_lines_lost", help, self.audit_lost.clone());
        let help = "Operations whose traces could not be sent";
        registry.register("traces_lost", help, self.traces_lost.clone());
        let help = "What was found that belongs to no pod, and was cleared away";
        registry.register("leaks_found", help, self.leaks.clone());
        self.register_logs(registry);
        registry.register("monitors", "Monitors that run", self.monitors.clone());
        let help = "Memory of all monitors, each shared page counted by its share (PSS)";
        registry.register("monitors_memory_bytes", help, self.monitors_memory.clone());
        let help = "Memory of the monitor that has the most (PSS)";
        registry.register("monitor_memory_max_bytes", help, self.monitor_most.clone());
        let process = all.sub_registry_with_prefix("process");
        let help = "Resident memory of the daemon";
        process.register("resident_memory_bytes", help, self.memory.clone());
        process.register("open_fds", "Open descriptors", self.descriptors.clone());
        process.register("threads", "Threads of the daemon", self.threads.clone());
        let help = "CPU time of the daemon, user and system";
        process.register("cpu_seconds", help, self.cpu.clone());
    }

    fn register_images(&self, registry: &mut Registry) {
        let help = "Bytes of layers that came from registries";
        registry.register("pulled_bytes", help, self.pulled.clone());
        let help = "Bytes that layers take that were unpacked";
        registry.register("unpacked_bytes", help, self.unpacked.clone());
        registry.register("unpacked_layers", "Layers that were unpacked", self.layers.clone());
        let help = "Rounds of collecting what no image and no container uses";
        registry.register("collections", help, self.collections.clone());
        registry.register("collected_layers", "Layers that were collected", self.collected.clone());
        let help = "Time spent in collecting";
        registry.register("collection_seconds", help, self.collection_seconds.clone());
        let help = "Trees that could not be deleted at the last collection";
        registry.register("undeletable_trees", help, self.undeletable.clone());
    }

    fn register_logs(&self, registry: &mut Registry) {
        let help = "Records that containers have in their logs";
        registry.register("log_lines", help, self.log_lines.clone());
        registry.register("log_bytes", "Bytes of these records", self.log_bytes.clone());
        let help = "Records of containers that could not be written";
        registry.register("log_lines_lost", help, self.log_lost.clone());
        let help = "Records of containers over their limits";
        registry.register("log_lines_dropped", help, self.log_dropped.clone());
    }

    /// Looks at everything that is in memory.
    pub(super) fn look(&self, parts: &Parts, audit: Option<&AuditLog>, traces: Option<&Traces>) {
        let pods = &parts.pods;
        let sandboxes = pods.list_sandboxes(&pods::SandboxFilter::default()).len();
        self.sandboxes.set(number(sandboxes));
        self.containers.set(number(pods.list_containers(&pods::ContainerFilter::default()).len()));
        self.images.set(number(parts.images.list(None).map_or(0, |all| all.len())));
        self.operations.set(number(parts.operations.list().len()));
        self.owed.set(number(pods.owed().len()));
        let work = parts.images.work();
        up_to(&self.pulled, parts.images.pulled_bytes());
        up_to(&self.unpacked, work.unpacked_bytes);
        up_to(&self.layers, work.unpacked_layers);
        up_to(&self.collections, work.collections);
        up_to(&self.collected, work.collected_layers);
        seconds_up_to(&self.collection_seconds, work.collecting.as_secs_f64());
        self.undeletable.set(i64::try_from(work.undeletable).unwrap_or(i64::MAX));
        up_to(&self.events_cut, pods.events_cut());
        up_to(&self.audit_lost, audit.map_or(0, AuditLog::lost));
        up_to(&self.traces_lost, traces.map_or(0, Traces::lost));
        for (found, count) in pods.leaks() {
            up_to(&self.leaks.get_or_create(&Found { found }), count);
        }
        let process = process::read();
        self.memory.set(process.memory);
        self.descriptors.set(process.descriptors);
        self.threads.set(process.threads);
        seconds_up_to(&self.cpu, process.cpu.as_secs_f64());
    }

    /// What the monitors have written.
    pub(super) fn logs(&self, totals: &pods::LogTotals) {
        up_to(&self.log_lines, totals.lines);
        up_to(&self.log_bytes, totals.bytes);
        up_to(&self.log_lost, totals.lost);
        up_to(&self.log_dropped, totals.dropped);
    }

    /// What the monitors hold.
    pub(super) fn monitors(&self, memory: &Memory) {
        self.monitors.set(number(memory.monitors));
        self.monitors_memory.set(memory.all);
        self.monitor_most.set(memory.most);
    }
}

/// A counter of seconds that is kept elsewhere.
fn seconds_up_to(counter: &Seconds, value: f64) {
    counter.inc_by((value - counter.get()).max(0.0));
}
