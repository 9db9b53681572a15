//! The table of metrics. Names, units and labels are cAdvisor's; times are whole seconds, because the wire
//! has only whole numbers.

use cri_api::v1::MetricType;
use model::{Resources, State};
use pods::{InterfaceStats, Pressure, Stats};

use super::{Sample, Value, Whose};

/// One metric.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) whose: Whose,
    /// Labels beside those that every metric has.
    pub(super) labels: &'static [&'static str],
    pub(super) read: fn(&Sample<'_>) -> Vec<Value>,
}

const NANOSECONDS: u64 = 1_000_000_000;
const MICROSECONDS: u64 = 1_000_000;

const fn family(
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    read: fn(&Sample<'_>) -> Vec<Value>,
) -> Family {
    Family { name, help, kind, whose: Whose::Both, labels: &[], read }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&Sample<'_>) -> Vec<Value>,
) -> Family {
    family(name, help, MetricType::Counter, read)
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    read: fn(&Sample<'_>) -> Vec<Value>,
) -> Family {
    family(name, help, MetricType::Gauge, read)
}

impl Family {
    const fn with(mut self, labels: &'static [&'static str]) -> Self {
        self.labels = labels;
        self
    }

    const fn of(mut self, whose: Whose) -> Self {
        self.whose = whose;
        self
    }
}

/// One value without further labels, where the kernel says it.
fn one(value: Option<u64>) -> Vec<Value> {
    value.map(|value| (Vec::new(), value)).into_iter().collect()
}

fn stats<'a>(sample: &'a Sample<'_>) -> Option<&'a Stats> {
    sample.usage.cgroup.as_ref()
}

fn cpu(sample: &Sample<'_>, part: fn(&pods::CpuStats) -> u64) -> Vec<Value> {
    one(stats(sample).and_then(|stats| stats.cpu.as_ref()).map(part))
}

fn memory(sample: &Sample<'_>, part: fn(&pods::MemoryStats) -> Option<u64>) -> Vec<Value> {
    one(stats(sample).and_then(|stats| stats.memory.as_ref()).and_then(part))
}

fn disks(sample: &Sample<'_>, part: fn(&pods::IoStats) -> u64) -> Vec<Value> {
    let all = stats(sample).map(|stats| stats.io.as_slice()).unwrap_or_default();
    all.iter().map(|io| (vec![format!("{}:{}", io.major, io.minor)], part(io))).collect()
}

fn huge_pages(sample: &Sample<'_>, part: fn(&pods::HugetlbStats) -> Option<u64>) -> Vec<Value> {
    let all = stats(sample).map(|stats| stats.hugetlb.as_slice()).unwrap_or_default();
    all.iter().filter_map(|one| Some((vec![one.page_size.clone()], part(one)?))).collect()
}

fn stalled(sample: &Sample<'_>, whose: fn(&Stats) -> Option<Pressure>) -> Vec<Value> {
    one(stats(sample).and_then(whose).map(|pressure| pressure.full.total_us / MICROSECONDS))
}

fn waiting(sample: &Sample<'_>, whose: fn(&Stats) -> Option<Pressure>) -> Vec<Value> {
    one(stats(sample).and_then(whose).map(|pressure| pressure.some.total_us / MICROSECONDS))
}

fn network(sample: &Sample<'_>, part: fn(&InterfaceStats) -> u64) -> Vec<Value> {
    sample.interfaces.iter().map(|one| (vec![one.name.clone()], part(one))).collect()
}

fn limits(sample: &Sample<'_>, part: fn(&Resources) -> Option<u64>) -> Vec<Value> {
    one(sample.container.and_then(|container| part(&container.resources)))
}

/// A limit that is there and is not "none".
fn limited(limit: Option<i64>) -> Option<u64> {
    limit.and_then(|limit| u64::try_from(limit).ok())
}

fn faults(sample: &Sample<'_>) -> Vec<Value> {
    let Some(memory) = stats(sample).and_then(|stats| stats.memory) else { return Vec::new() };
    let labels = |kind: &str| vec![kind.to_owned(), "hierarchy".to_owned()];
    vec![(labels("pgfault"), memory.page_faults), (labels("pgmajfault"), memory.major_page_faults)]
}

fn started(sample: &Sample<'_>) -> Vec<Value> {
    let at = sample.container.and_then(|container| match &container.state {
        State::Created => None,
        State::Running { started_at } | State::Exited { started_at, .. } => Some(*started_at),
    });
    one(at.and_then(|at| u64::try_from(at.0).ok()).map(|at| at / NANOSECONDS))
}

fn seen(sample: &Sample<'_>) -> Vec<Value> {
    one(u64::try_from(sample.usage.at.0).ok().map(|at| at / NANOSECONDS))
}

/// All metrics.
#[rustfmt::skip]
pub(super) const FAMILIES: &[Family] = &[
    counter("container_cpu_usage_seconds_total", "CPU time, in seconds.", |s| {
        cpu(s, |c| c.usage_ns / NANOSECONDS).into_iter().map(|(_, v)| (vec!["total".to_owned()], v)).collect()
    }).with(&["cpu"]),
    counter("container_cpu_user_seconds_total", "CPU time in user mode, in seconds.", |s| cpu(s, |c| c.user_ns / NANOSECONDS)),
    counter("container_cpu_system_seconds_total", "CPU time in the kernel, in seconds.", |s| cpu(s, |c| c.system_ns / NANOSECONDS)),
    counter("container_cpu_cfs_periods_total", "CPU bandwidth periods that have passed.", |s| cpu(s, |c| c.periods)),
    counter("container_cpu_cfs_throttled_periods_total", "CPU bandwidth periods in which the quota ran out.", |s| cpu(s, |c| c.throttled_periods)),
    counter("container_cpu_cfs_throttled_seconds_total", "Time that the quota kept tasks waiting, in seconds.", |s| cpu(s, |c| c.throttled_ns / NANOSECONDS)),
    gauge("container_memory_usage_bytes", "Memory that is charged, page cache included.", |s| memory(s, |m| Some(m.usage))),
    gauge("container_memory_max_usage_bytes", "The most memory that ever was charged.", |s| memory(s, |m| m.peak)),
    gauge("container_memory_working_set_bytes", "Memory without inactive page cache.", |s| memory(s, |m| Some(m.working_set()))),
    gauge("container_memory_rss", "Anonymous memory, in bytes.", |s| memory(s, |m| Some(m.rss))),
    gauge("container_memory_cache", "Page cache, in bytes.", |s| memory(s, |m| Some(m.cache))),
    gauge("container_memory_mapped_file", "Files that are mapped, in bytes.", |s| memory(s, |m| Some(m.mapped_file))),
    gauge("container_memory_kernel_usage", "Memory of the kernel, in bytes.", |s| memory(s, |m| Some(m.kernel))),
    gauge("container_memory_swap", "Swap in use, in bytes.", |s| memory(s, |m| Some(m.swap_usage))),
    gauge("container_memory_total_active_file_bytes", "Page cache in use, in bytes.", |s| memory(s, |m| Some(m.active_file))),
    gauge("container_memory_total_inactive_file_bytes", "Page cache that was not used for a while, in bytes.", |s| memory(s, |m| Some(m.inactive_file))),
    counter("container_memory_failcnt", "Attempts to go beyond the memory limit.", |s| memory(s, |m| Some(m.failures))),
    counter("container_memory_failures_total", "Page faults.", faults).with(&["failure_type", "scope"]),
    counter("container_fs_reads_bytes_total", "Bytes read from devices.", |s| disks(s, |io| io.read_bytes)).with(&["device"]),
    counter("container_fs_writes_bytes_total", "Bytes written to devices.", |s| disks(s, |io| io.written_bytes)).with(&["device"]),
    counter("container_fs_reads_total", "Reads from devices.", |s| disks(s, |io| io.reads)).with(&["device"]),
    counter("container_fs_writes_total", "Writes to devices.", |s| disks(s, |io| io.writes)).with(&["device"]),
    gauge("container_fs_usage_bytes", "Bytes of the writable layer.", |s| one(s.usage.writable.map(|w| w.usage.bytes))).of(Whose::Container),
    gauge("container_fs_inodes_used", "Inodes of the writable layer.", |s| one(s.usage.writable.map(|w| w.usage.inodes))).of(Whose::Container),
    counter("container_network_receive_bytes_total", "Bytes received.", |s| network(s, |i| i.rx_bytes)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_receive_packets_total", "Packets received.", |s| network(s, |i| i.rx_packets)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_receive_packets_dropped_total", "Received packets that were dropped.", |s| network(s, |i| i.rx_dropped)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_receive_errors_total", "Errors in receiving.", |s| network(s, |i| i.rx_errors)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_bytes_total", "Bytes sent.", |s| network(s, |i| i.tx_bytes)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_packets_total", "Packets sent.", |s| network(s, |i| i.tx_packets)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_packets_dropped_total", "Packets to send that were dropped.", |s| network(s, |i| i.tx_dropped)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_errors_total", "Errors in sending.", |s| network(s, |i| i.tx_errors)).with(&["interface"]).of(Whose::Pod),
    gauge("container_threads", "Threads that there are.", |s| one(stats(s).and_then(|t| t.pids).map(|p| p.current))),
    gauge("container_threads_max", "Threads that there may be.", |s| one(stats(s).and_then(|t| t.pids).and_then(|p| p.limit))),
    gauge("container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", |s| huge_pages(s, |h| Some(h.usage))).with(&["pagesize"]),
    gauge("container_hugetlb_max_usage_bytes", "The most huge pages that ever were in use, in bytes.", |s| huge_pages(s, |h| h.peak)).with(&["pagesize"]),
    counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU, in seconds.", |s| stalled(s, |t| t.cpu_pressure)),
    counter("container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU, in seconds.", |s| waiting(s, |t| t.cpu_pressure)),
    counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory, in seconds.", |s| stalled(s, |t| t.memory_pressure)),
    counter("container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory, in seconds.", |s| waiting(s, |t| t.memory_pressure)),
    counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for devices, in seconds.", |s| stalled(s, |t| t.io_pressure)),
    counter("container_pressure_io_waiting_seconds_total", "Time in which some task waited for devices, in seconds.", |s| waiting(s, |t| t.io_pressure)),
    gauge("container_spec_cpu_period", "Length of a CPU bandwidth period, in microseconds.", |s| limits(s, |r| r.cpu_period)).of(Whose::Container),
    gauge("container_spec_cpu_quota", "CPU time allowed in a period, in microseconds.", |s| limits(s, |r| limited(r.cpu_quota))).of(Whose::Container),
    gauge("container_spec_cpu_shares", "Weight for CPU time.", |s| limits(s, |r| r.cpu_shares)).of(Whose::Container),
    gauge("container_spec_memory_limit_bytes", "Memory limit.", |s| limits(s, |r| limited(r.memory_limit))).of(Whose::Container),
    gauge("container_spec_memory_swap_limit_bytes", "Limit of memory and swap together.", |s| limits(s, |r| limited(r.memory_swap_limit))).of(Whose::Container),
    gauge("container_start_time_seconds", "When it was started, in seconds since 1970.", started).of(Whose::Container),
    gauge("container_last_seen", "When it was measured, in seconds since 1970.", seen),
];
