//! The table of metrics. Names, units and labels are cAdvisor's; times are whole seconds, because the wire
//! has only whole numbers. Where there is no limit it is 0, as cAdvisor says it.

use cri_api::v1::MetricType;
use pods::{CpuLimits, FileSystem, InterfaceStats, Pressure, Processes, Stats};

use super::{Sample, Value, Whose};

/// One metric.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) whose: Whose,
    /// Labels beside those that every metric has.
    pub(super) labels: &'static [&'static str],
    /// Whether only a machine with huge pages has it.
    pub(super) needs_huge_pages: bool,
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
    Family { name, help, kind, whose: Whose::Both, labels: &[], needs_huge_pages: false, read }
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

    const fn where_huge_pages_are(mut self) -> Self {
        self.needs_huge_pages = true;
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

/// The devices of its block I/O, each with its name.
fn devices<'a>(sample: &'a Sample<'_>) -> impl Iterator<Item = (&'a String, &'a pods::IoStats)> {
    let all = stats(sample).map(|stats| stats.io.as_slice()).unwrap_or_default();
    sample.usage.more.devices.iter().zip(all)
}

fn disks(sample: &Sample<'_>, part: fn(&pods::IoStats) -> u64) -> Vec<Value> {
    devices(sample).map(|(name, io)| (vec![name.clone()], part(io))).collect()
}

fn operations(sample: &Sample<'_>) -> Vec<Value> {
    let of_one = |(name, io): (&String, &pods::IoStats)| {
        [("Read", io.read_bytes), ("Write", io.written_bytes)].map(|(operation, bytes)| {
            let (major, minor) = (io.major.to_string(), io.minor.to_string());
            (vec![name.clone(), major, minor, operation.to_owned()], bytes)
        })
    };
    devices(sample).flat_map(of_one).collect()
}

/// Of the file system of the writable layer.
fn space(sample: &Sample<'_>, part: fn(&FileSystem) -> u64) -> Vec<Value> {
    sample.usage.more.space.iter().map(|fs| (vec![fs.device.clone()], part(fs))).collect()
}

fn written(sample: &Sample<'_>) -> Vec<Value> {
    let both = sample.usage.more.space.as_ref().zip(sample.usage.writable);
    both.map(|(fs, used)| (vec![fs.device.clone()], used.usage.bytes)).into_iter().collect()
}

fn processes(sample: &Sample<'_>, part: fn(&Processes) -> Option<u64>) -> Vec<Value> {
    one(sample.usage.more.processes.as_ref().and_then(part))
}

fn ulimits(sample: &Sample<'_>) -> Vec<Value> {
    let files = processes(sample, |p| p.max_open_files).into_iter();
    files.map(|(_, limit)| (vec!["max_open_files".to_owned()], limit)).collect()
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

fn cpu_limits(sample: &Sample<'_>, part: fn(&CpuLimits) -> Option<u64>) -> Vec<Value> {
    one(stats(sample).and_then(|stats| stats.cpu_limits.as_ref()).and_then(part))
}

/// Those that were asked for: v2's weight gives them back as far as it is fine enough.
fn shares(sample: &Sample<'_>) -> Vec<Value> {
    match sample.asked_shares {
        Some(asked) => one(Some(asked)),
        None => cpu_limits(sample, |limits| Some(limits.shares)),
    }
}

/// Memory and swap together; 0 for no limit, as cAdvisor has it.
fn swap_limit(memory: &pods::MemoryStats) -> u64 {
    memory.limit.zip(memory.swap_limit).map_or(0, |(memory, swap)| memory.saturating_add(swap))
}

fn faults(sample: &Sample<'_>) -> Vec<Value> {
    let Some(memory) = stats(sample).and_then(|stats| stats.memory) else { return Vec::new() };
    let all = [
        ("pgfault", "container", memory.own_page_faults),
        ("pgmajfault", "container", memory.own_major_page_faults),
        ("pgfault", "hierarchy", memory.page_faults),
        ("pgmajfault", "hierarchy", memory.major_page_faults),
    ];
    all.map(|(kind, scope, count)| (vec![kind.to_owned(), scope.to_owned()], count)).into()
}

fn started(sample: &Sample<'_>) -> Vec<Value> {
    one(sample.started_at.and_then(|at| u64::try_from(at.0).ok()).map(|at| at / NANOSECONDS))
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
    counter("container_blkio_device_usage_total", "Bytes read from and written to devices.", operations).with(&["device", "major", "minor", "operation"]),
    gauge("container_fs_usage_bytes", "Bytes of the writable layer.", written).with(&["device"]).of(Whose::Container),
    gauge("container_fs_limit_bytes", "Bytes that the writable layer may have: its limit, else its file system.", |s| space(s, |fs| fs.capacity.bytes)).with(&["device"]).of(Whose::Container),
    gauge("container_fs_inodes_total", "Inodes that the file system of the writable layer has.", |s| space(s, |fs| fs.capacity.inodes)).with(&["device"]).of(Whose::Container),
    gauge("container_fs_inodes_free", "Inodes of it that are free.", |s| space(s, |fs| fs.available.inodes)).with(&["device"]).of(Whose::Container),
    counter("container_network_receive_bytes_total", "Bytes received.", |s| network(s, |i| i.rx_bytes)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_receive_packets_total", "Packets received.", |s| network(s, |i| i.rx_packets)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_receive_packets_dropped_total", "Received packets that were dropped.", |s| network(s, |i| i.rx_dropped)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_receive_errors_total", "Errors in receiving.", |s| network(s, |i| i.rx_errors)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_bytes_total", "Bytes sent.", |s| network(s, |i| i.tx_bytes)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_packets_total", "Packets sent.", |s| network(s, |i| i.tx_packets)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_packets_dropped_total", "Packets to send that were dropped.", |s| network(s, |i| i.tx_dropped)).with(&["interface"]).of(Whose::Pod),
    counter("container_network_transmit_errors_total", "Errors in sending.", |s| network(s, |i| i.tx_errors)).with(&["interface"]).of(Whose::Pod),
    gauge("container_threads", "Threads that there are.", |s| one(stats(s).and_then(|t| t.pids).map(|p| p.current))),
    gauge("container_threads_max", "Threads that there may be; 0 for no limit.", |s| one(stats(s).and_then(|t| t.pids).map(|p| p.limit.unwrap_or(0)))),
    gauge("container_processes", "Processes that there are.", |s| processes(s, |p| Some(p.count))),
    gauge("container_file_descriptors", "Descriptors that its processes have open.", |s| processes(s, |p| p.descriptors.map(|d| d.all))).of(Whose::Container),
    gauge("container_sockets", "Sockets among them.", |s| processes(s, |p| p.descriptors.map(|d| d.sockets))).of(Whose::Container),
    gauge("container_ulimits_soft", "Soft limits of the first process; 18446744073709551615 for no limit.", ulimits).with(&["ulimit"]).of(Whose::Container),
    counter("container_oom_events_total", "Processes that were killed for want of memory.", |s| memory(s, |m| Some(m.kills))),
    gauge("container_hugetlb_usage_bytes", "Huge pages in use, in bytes.", |s| huge_pages(s, |h| Some(h.usage))).with(&["pagesize"]),
    gauge("container_hugetlb_max_usage_bytes", "The most huge pages that ever were in use, in bytes.", |s| huge_pages(s, |h| h.peak)).with(&["pagesize"]),
    counter("container_hugetlb_failcnt", "Attempts to go beyond the limit of huge pages.", |s| huge_pages(s, |h| Some(h.failures))).with(&["pagesize"]).where_huge_pages_are(),
    counter("container_pressure_cpu_stalled_seconds_total", "Time in which all tasks waited for a CPU, in seconds.", |s| stalled(s, |t| t.cpu_pressure)),
    counter("container_pressure_cpu_waiting_seconds_total", "Time in which some task waited for a CPU, in seconds.", |s| waiting(s, |t| t.cpu_pressure)),
    counter("container_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory, in seconds.", |s| stalled(s, |t| t.memory_pressure)),
    counter("container_pressure_memory_waiting_seconds_total", "Time in which some task waited for memory, in seconds.", |s| waiting(s, |t| t.memory_pressure)),
    counter("container_pressure_io_stalled_seconds_total", "Time in which all tasks waited for devices, in seconds.", |s| stalled(s, |t| t.io_pressure)),
    counter("container_pressure_io_waiting_seconds_total", "Time in which some task waited for devices, in seconds.", |s| waiting(s, |t| t.io_pressure)),
    gauge("container_spec_cpu_period", "Length of a CPU bandwidth period, in microseconds.", |s| cpu_limits(s, |l| l.period_us)),
    gauge("container_spec_cpu_quota", "CPU time allowed in a period, in microseconds.", |s| cpu_limits(s, |l| l.quota_us)),
    gauge("container_spec_cpu_shares", "Weight for CPU time.", shares),
    gauge("container_spec_memory_limit_bytes", "Memory limit; 0 for none.", |s| memory(s, |m| Some(m.limit.unwrap_or(0)))),
    gauge("container_spec_memory_swap_limit_bytes", "Limit of memory and swap together; 0 for none.", |s| memory(s, |m| Some(swap_limit(m)))),
    gauge("container_spec_memory_reservation_limit_bytes", "Memory that is kept for it when there is little; 0 for none.", |s| memory(s, |m| Some(m.reservation.unwrap_or(0)))),
    gauge("container_start_time_seconds", "When it was started, in seconds since 1970.", started),
    gauge("container_last_seen", "When it was measured, in seconds since 1970.", seen),
];
