//! What a cgroup uses.

mod legacy;
mod parse;
mod unified;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::CgroupError;

/// What a cgroup and those below it use now. A part is `None` where its controller is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Tasks.
    pub pids: Option<PidsStats>,
    /// Block I/O by device.
    pub io: Vec<IoStats>,
    /// Huge pages by size.
    pub hugetlb: Vec<HugetlbStats>,
    /// Waiting for CPU time; only v2 knows.
    pub cpu_pressure: Option<Pressure>,
    /// Waiting for memory.
    pub memory_pressure: Option<Pressure>,
    /// Waiting for block I/O.
    pub io_pressure: Option<Pressure>,
}

/// CPU time since the cgroup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuStats {
    /// All, in nanoseconds.
    pub usage_ns: u64,
    /// In user mode, in nanoseconds.
    pub user_ns: u64,
    /// In the kernel, in nanoseconds.
    pub system_ns: u64,
    /// Bandwidth periods that have passed.
    pub periods: u64,
    /// Periods in which the quota ran out.
    pub throttled_periods: u64,
    /// Time that tasks were kept waiting by the quota, in nanoseconds.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MemoryStats {
    /// All that is charged, page cache included.
    pub usage: u64,
    /// The most that ever was; `None` where the kernel does not say.
    pub peak: Option<u64>,
    /// The limit; `None` for no limit.
    pub limit: Option<u64>,
    /// Page cache that was not used for a while, which the kernel gives up first.
    pub inactive_file: u64,
    /// Page cache in use.
    pub active_file: u64,
    /// Anonymous memory, with transparent huge pages.
    pub rss: u64,
    /// Page cache.
    pub cache: u64,
    /// Files that are mapped.
    pub mapped_file: u64,
    /// The kernel's own memory.
    pub kernel: u64,
    /// Swap in use.
    pub swap_usage: u64,
    /// The limit of swap alone; `None` for no limit.
    pub swap_limit: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to read.
    pub major_page_faults: u64,
    /// Attempts to go beyond the limit.
    pub failures: u64,
}

impl MemoryStats {
    /// What could not be given up without pain: usage without the inactive page cache (as the kubelet
    /// counts a working set).
    #[must_use]
    pub const fn working_set(&self) -> u64 {
        self.usage.saturating_sub(self.inactive_file)
    }
}

/// Tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PidsStats {
    /// How many there are, threads included.
    pub current: u64,
    /// How many there may be; `None` for no limit.
    pub limit: Option<u64>,
}

/// Block I/O of one device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IoStats {
    /// Device.
    pub major: u32,
    /// Device.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HugetlbStats {
    /// As the kernel writes it, `2MB`.
    pub page_size: String,
    /// Bytes in use.
    pub usage: u64,
    /// The most that ever was; `None` where the kernel does not say.
    pub peak: Option<u64>,
    /// Allocations that failed because of the limit.
    pub failures: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst of the kernel).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: PressureLine,
    /// All tasks waited.
    pub full: PressureLine,
}

/// One line of it. Averages are in hundredths of a percent, as the kernel prints two digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PressureLine {
    /// Over ten seconds.
    pub avg10: u32,
    /// Over a minute.
    pub avg60: u32,
    /// Over five minutes.
    pub avg300: u32,
    /// Since the beginning, in microseconds.
    pub total_us: u64,
}

pub(crate) fn read(cgroup: &Cgroup) -> Result<Stats, CgroupError> {
    let mut stats = Stats::default();
    legacy::read(cgroup, &mut stats)?;
    unified::read(cgroup, &mut stats)?;
    Ok(stats)
}
