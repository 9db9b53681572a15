//! Statistics.

use cri_api::v1;
use pods::{InterfaceStats, Pressure, PressureLine, Stats, Usage};

/// The interface that a pod's default route leads through, as the CNI names it.
const DEFAULT_INTERFACE: &str = "eth0";

fn value(value: u64) -> Option<v1::UInt64Value> {
    Some(v1::UInt64Value { value })
}

/// CPU time; `rate` is for each second of late.
pub(crate) fn cpu(at: i64, stats: &Stats, rate: Option<u64>) -> Option<v1::CpuUsage> {
    let cpu = stats.cpu?;
    Some(v1::CpuUsage {
        timestamp: at,
        usage_core_nano_seconds: value(cpu.usage_ns),
        usage_nano_cores: rate.and_then(value),
        psi: stats.cpu_pressure.as_ref().map(pressure),
    })
}

pub(crate) fn memory(at: i64, stats: &Stats) -> Option<v1::MemoryUsage> {
    let memory = stats.memory?;
    let left = memory.limit.map(|limit| limit.saturating_sub(memory.working_set()));
    Some(v1::MemoryUsage {
        timestamp: at,
        working_set_bytes: value(memory.working_set()),
        available_bytes: left.and_then(value),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: stats.memory_pressure.as_ref().map(pressure),
    })
}

pub(crate) fn swap(at: i64, stats: &Stats) -> Option<v1::SwapUsage> {
    let memory = stats.memory?;
    let left = memory.swap_limit.map(|limit| limit.saturating_sub(memory.swap_usage));
    Some(v1::SwapUsage {
        timestamp: at,
        swap_available_bytes: left.and_then(value),
        swap_usage_bytes: value(memory.swap_usage),
    })
}

pub(crate) fn io(at: i64, stats: &Stats) -> Option<v1::IoUsage> {
    let psi = stats.io_pressure.as_ref().map(pressure)?;
    Some(v1::IoUsage { timestamp: at, psi: Some(psi) })
}

pub(crate) fn processes(at: i64, stats: &Stats) -> Option<v1::ProcessUsage> {
    let pids = stats.pids?;
    Some(v1::ProcessUsage { timestamp: at, process_count: value(pids.current) })
}

/// The writable layer as it was last measured, on the file system that `mountpoint` is on.
pub(crate) fn writable(usage: &Usage, mountpoint: Option<&str>) -> Option<v1::FilesystemUsage> {
    let measured = usage.writable?;
    Some(v1::FilesystemUsage {
        timestamp: measured.at.0,
        fs_id: mountpoint.map(|path| v1::FilesystemIdentifier { mountpoint: path.to_owned() }),
        used_bytes: value(measured.usage.bytes),
        inodes_used: value(measured.usage.inodes),
    })
}

/// What a pod's interfaces have carried; absent on the host's network.
pub(crate) fn network(at: i64, interfaces: &[InterfaceStats]) -> Option<v1::NetworkUsage> {
    if interfaces.is_empty() {
        return None;
    }
    let one = |given: &InterfaceStats| v1::NetworkInterfaceUsage {
        name: given.name.clone(),
        rx_bytes: value(given.rx_bytes),
        rx_errors: value(given.rx_errors),
        tx_bytes: value(given.tx_bytes),
        tx_errors: value(given.tx_errors),
    };
    let is_default = |given: &&InterfaceStats| given.name == DEFAULT_INTERFACE;
    Some(v1::NetworkUsage {
        timestamp: at,
        default_interface: interfaces.iter().find(is_default).map(one),
        interfaces: interfaces.iter().filter(|given| !is_default(given)).map(one).collect(),
    })
}

fn pressure(given: &Pressure) -> v1::PsiStats {
    v1::PsiStats { full: Some(line(&given.full)), some: Some(line(&given.some)) }
}

/// The kernel counts microseconds, and we hundredths of a percent; the wire has nanoseconds and percent.
fn line(given: &PressureLine) -> v1::PsiData {
    let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
    v1::PsiData {
        total: given.total_us.saturating_mul(1000),
        avg10: percent(given.avg10),
        avg60: percent(given.avg60),
        avg300: percent(given.avg300),
    }
}
