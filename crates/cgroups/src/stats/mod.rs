//! What a cgroup uses.

mod legacy;
mod parse;
mod unified;

use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::error::CgroupError;

/// How much is read: files are opened one by one, and of hundreds of containers that is what takes the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What a node decides by of a container: CPU time, memory and swap with their limits, and pressure. All else
    /// is absent or zero.
    Brief,
    /// The same and how many tasks there are: what it decides by of a pod.
    Tasks,
    /// All that there is.
    Whole,
}

impl Detail {
    /// What `read` gives, where all is to be read.
    fn of<T>(
        self,
        read: impl FnOnce() -> Result<T, CgroupError>,
    ) -> Result<Option<T>, CgroupError> {
        match self {
            Self::Brief | Self::Tasks => Ok(None),
            Self::Whole => read().map(Some),
        }
    }
}

/// What a cgroup and those below it use now. A part is `None` where its controller is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time.
    pub cpu: Option<CpuStats>,
    /// What it may have of CPU time; only where all is read.
    pub cpu_limits: Option<CpuLimits>,
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

/// What a cgroup may have of CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CpuLimits {
    /// Its weight, as shares of v1: 1,024 by default.
    pub shares: u64,
    /// Length of a bandwidth period, in microseconds; `None` where the kernel has no bandwidth limits.
    pub period_us: Option<u64>,
    /// CPU time in a period, in microseconds; `None` for no limit.
    pub quota_us: Option<u64>,
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
    /// What is kept for it when memory is short: v1's soft limit, v2's minimum; `None` for none.
    pub reservation: Option<u64>,
    /// Page faults.
    pub page_faults: u64,
    /// Page faults that had to read.
    pub major_page_faults: u64,
    /// Page faults without those of the cgroups below it, where they are counted apart (v1); else all.
    pub own_page_faults: u64,
    /// The same of those that had to read.
    pub own_major_page_faults: u64,
    /// Attempts to go beyond the limit.
    pub failures: u64,
    /// Processes that were killed for want of memory.
    pub kills: u64,
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

pub(crate) fn read(cgroup: &Cgroup, detail: Detail) -> Result<Stats, CgroupError> {
    let mut stats = Stats::default();
    legacy::read(cgroup, detail, &mut stats)?;
    unified::read(cgroup, detail, &mut stats)?;
    Ok(stats)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::testing::{legacy, unified};

    #[test]
    fn both_versions_tell_the_same_in_their_own_words() {
        let (_dir, old) = legacy(&[
            ("cpuacct.usage", "3000000\n"),
            ("cpuacct.usage_user", "2000000\n"),
            ("cpuacct.usage_sys", "1000000\n"),
            ("cpu.stat", "nr_periods 4\nnr_throttled 1\nthrottled_time 5000\n"),
            ("cpu.shares", "1024\n"),
            ("cpu.cfs_period_us", "100000\n"),
            ("cpu.cfs_quota_us", "50000\n"),
            ("memory.usage_in_bytes", "1000\n"),
            ("memory.limit_in_bytes", "5000\n"),
            ("memory.memsw.limit_in_bytes", "6000\n"),
            ("memory.failcnt", "2\n"),
            (
                "memory.stat",
                "rss 1\npgfault 7\npgmajfault 3\ntotal_rss 600\ntotal_cache 300\ntotal_inactive_file 200\ntotal_active_file 100\n\
                 total_mapped_file 50\ntotal_pgfault 7\ntotal_pgmajfault 3\ntotal_swap 9\n",
            ),
            ("memory.kmem.usage_in_bytes", "40\n"),
            ("memory.soft_limit_in_bytes", "800\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 10\n8:0 Write 20\nTotal 30\n"),
            ("blkio.throttle.io_serviced_recursive", "8:0 Read 1\n8:0 Write 2\nTotal 3\n"),
            ("hugetlb.2MB.usage_in_bytes", "2097152\n"),
            ("hugetlb.2MB.failcnt", "1\n"),
            ("hugetlb.2MB.rsvd.usage_in_bytes", "0\n"),
        ]);
        let (_dir, new) = unified(&[
            (
                "cpu.stat",
                "usage_usec 3000\nuser_usec 2000\nsystem_usec 1000\nnr_periods 4\nnr_throttled 1\nthrottled_usec 5\n",
            ),
            ("memory.current", "1000\n"),
            ("memory.max", "5000\n"),
            ("memory.swap.max", "1000\n"),
            ("memory.swap.current", "9\n"),
            ("memory.min", "800\n"),
            ("memory.events", "max 2\noom 1\noom_kill 2\n"),
            ("cpu.weight", "100\n"),
            ("cpu.max", "50000 100000\n"),
            (
                "memory.stat",
                "anon 600\nfile 300\nkernel 40\nfile_mapped 50\ninactive_file 200\nactive_file 100\n\
                 pgfault 7\npgmajfault 3\n",
            ),
            ("pids.current", "3\n"),
            ("pids.max", "max\n"),
            ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
            ("hugetlb.2MB.current", "2097152\n"),
            ("hugetlb.2MB.rsvd.current", "0\n"),
            ("hugetlb.2MB.events", "max 1\n"),
        ]);
        let brief = [&old, &new].map(|cgroup| cgroup.stats(Detail::Brief).unwrap());
        let tasks = [&old, &new].map(|cgroup| cgroup.stats(Detail::Tasks).unwrap());
        let [old, new] = [old, new].map(|cgroup| cgroup.stats(Detail::Whole).unwrap());
        assert_eq!(old, new);
        for brief in brief {
            assert_eq!(brief.cpu.unwrap().usage_ns, old.cpu.unwrap().usage_ns);
            let (brief_memory, whole) = (brief.memory.unwrap(), old.memory.unwrap());
            let of = |m: MemoryStats| (m.usage, m.working_set(), m.limit, m.rss, m.page_faults);
            assert_eq!(of(brief_memory), of(whole));
            assert_eq!(brief_memory.swap_limit, whole.swap_limit);
            assert!(brief.pids.is_none() && brief.io.is_empty() && brief.hugetlb.is_empty());
            assert_eq!((brief.cpu_limits, brief_memory.kills), (None, 0));
        }
        for tasks in tasks {
            assert_eq!(tasks.pids.unwrap().current, old.pids.unwrap().current);
            assert!(tasks.memory.is_some() && tasks.io.is_empty() && tasks.hugetlb.is_empty());
        }
        let memory = old.memory.unwrap();
        assert_eq!((memory.working_set(), memory.swap_limit), (800, Some(1000)));
        assert_eq!((memory.kills, memory.reservation), (2, Some(800)));
        let limits = CpuLimits { shares: 1024, period_us: Some(100_000), quota_us: Some(50_000) };
        assert_eq!(old.cpu_limits, Some(limits));
        assert_eq!(old.cpu.unwrap().throttled_ns, 5000);
    }

    #[test]
    fn what_is_not_there_is_none_and_no_limit_is_none() {
        let (_dir, empty) =
            unified(&[("cpu.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=4\n")]);
        let stats = empty.stats(Detail::Whole).unwrap();
        assert_eq!((stats.cpu, stats.memory, stats.pids), (None, None, None));
        assert_eq!(stats.cpu_pressure.unwrap().some.total_us, 4);
        let (_dir, unlimited) = legacy(&[
            ("memory.usage_in_bytes", "1"),
            ("memory.limit_in_bytes", "9223372036854771712"),
            ("memory.memsw.limit_in_bytes", "9223372036854771712"),
            ("memory.soft_limit_in_bytes", "9223372036854771712"),
            ("cpuacct.usage", "1"),
            ("cpu.shares", "2"),
            ("cpu.cfs_quota_us", "-1"),
        ]);
        let limits = unlimited.stats(Detail::Whole).unwrap().cpu_limits.unwrap();
        assert_eq!(limits, CpuLimits { shares: 2, period_us: None, quota_us: None });
        let (_dir, idle) = unified(&[("cpu.weight", "0\n"), ("cpu.max", "max 100000\n")]);
        let limits = idle.stats(Detail::Whole).unwrap().cpu_limits.unwrap();
        assert_eq!(limits, CpuLimits { shares: 2, period_us: Some(100_000), quota_us: None });
        let memory = unlimited.stats(Detail::Whole).unwrap().memory.unwrap();
        assert_eq!((memory.limit, memory.swap_limit, memory.reservation), (None, None, None));
    }

    #[test]
    fn a_limit_of_a_cgroup_above_is_not_its_own() {
        let limits = |above: &str, own: &str| {
            let stat =
                format!("hierarchical_memory_limit {above}\nhierarchical_memsw_limit {above}\n");
            let (_dir, cgroup) = legacy(&[
                ("memory.usage_in_bytes", "1"),
                ("memory.stat", &stat),
                ("memory.limit_in_bytes", own),
                ("memory.memsw.limit_in_bytes", own),
            ]);
            let memory = cgroup.stats(Detail::Brief).unwrap().memory.unwrap();
            (memory.limit, memory.swap_limit)
        };
        let none = "9223372036854771712";
        assert_eq!(limits(none, none), (None, None));
        assert_eq!(limits("4096", none), (None, None));
        assert_eq!(limits("4096", "8192"), (Some(8192), Some(0)));
    }
}
