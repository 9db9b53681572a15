//! The files of cgroup v1.

use super::parse::{keyed, legacy_io, number};
use super::{CpuLimits, CpuStats, Detail, HugetlbStats, IoStats, MemoryStats, PidsStats, Stats};
use crate::cgroup::{Cgroup, Place};
use crate::error::CgroupError;
use crate::file::{Folder, huge_page_sizes};
use crate::hierarchy::Controller;

/// v1 says "no limit" with the largest number of pages; nobody has half of that.
const NO_LIMIT: u64 = 1 << 62;
/// Clock ticks in a second (USER_HZ), in nanoseconds.
const TICK_NS: u64 = 10_000_000;

/// Fills in what controllers of v1 know.
pub(super) fn read(cgroup: &Cgroup, detail: Detail, stats: &mut Stats) -> Result<(), CgroupError> {
    let dir = |controller| match cgroup.place(controller) {
        Some(Place::Legacy(dir)) => Folder::open(dir).map(Some),
        Some(Place::Unified(_)) | None => Ok(None),
    };
    if let Some(accounting) = dir(Controller::Cpuacct)? {
        stats.cpu = match detail {
            Detail::Brief | Detail::Tasks => one(&accounting, "cpuacct.usage")?
                .map(|usage_ns| CpuStats { usage_ns, ..CpuStats::default() }),
            Detail::Whole => cpu(&accounting, dir(Controller::Cpu)?.as_ref())?,
        };
    }
    if let Some(dir) = dir(Controller::Memory)? {
        stats.memory = memory(&dir, detail)?;
        if let (Some(memory), Detail::Whole) = (&mut stats.memory, detail) {
            memory.kills = crate::oom::counts(cgroup)?.kills;
        }
    }
    if detail != Detail::Brief
        && let Some(dir) = dir(Controller::Pids)?
        && let Some(current) = one(&dir, "pids.current")?
    {
        let limit = detail.of(|| one(&dir, "pids.max"))?.flatten();
        stats.pids = Some(PidsStats { current, limit });
    }
    if detail != Detail::Whole {
        return Ok(());
    }
    if let Some(dir) = dir(Controller::Cpu)? {
        stats.cpu_limits = cpu_limits(&dir)?;
    }
    if let Some(dir) = dir(Controller::Blkio)? {
        stats.io = io(&dir)?;
    }
    if let Some(dir) = dir(Controller::Hugetlb)? {
        stats.hugetlb = hugetlb(&dir)?;
    }
    Ok(())
}

fn one(dir: &Folder<'_>, file: &str) -> Result<Option<u64>, CgroupError> {
    Ok(dir.read_if_there(file)?.and_then(|text| number(&text)))
}

fn cpu(
    accounting: &Folder<'_>,
    bandwidth: Option<&Folder<'_>>,
) -> Result<Option<CpuStats>, CgroupError> {
    let Some(usage_ns) = one(accounting, "cpuacct.usage")? else { return Ok(None) };
    let (user, system) =
        (one(accounting, "cpuacct.usage_user")?, one(accounting, "cpuacct.usage_sys")?);
    // Linux before 4.7 tells them in ticks alone.
    let ticks = match user.or(system) {
        None => accounting.read_if_there("cpuacct.stat")?.unwrap_or_default(),
        Some(_) => String::new(),
    };
    let of_ticks = |key: &str| keyed(&ticks, key).unwrap_or(0).saturating_mul(TICK_NS);
    let stat = match bandwidth {
        Some(dir) => dir.read_if_there("cpu.stat")?.unwrap_or_default(),
        None => String::new(),
    };
    Ok(Some(CpuStats {
        usage_ns,
        user_ns: user.unwrap_or_else(|| of_ticks("user")),
        system_ns: system.unwrap_or_else(|| of_ticks("system")),
        periods: keyed(&stat, "nr_periods").unwrap_or(0),
        throttled_periods: keyed(&stat, "nr_throttled").unwrap_or(0),
        throttled_ns: keyed(&stat, "throttled_time").unwrap_or(0),
    }))
}

fn cpu_limits(dir: &Folder<'_>) -> Result<Option<CpuLimits>, CgroupError> {
    let Some(shares) = one(dir, "cpu.shares")? else { return Ok(None) };
    // No limit is -1, which is no number here.
    let (period_us, quota_us) = (one(dir, "cpu.cfs_period_us")?, one(dir, "cpu.cfs_quota_us")?);
    Ok(Some(CpuLimits { shares, period_us, quota_us }))
}

fn memory(dir: &Folder<'_>, detail: Detail) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = one(dir, "memory.usage_in_bytes")? else { return Ok(None) };
    let stat = dir.read_if_there("memory.stat")?.unwrap_or_default();
    let value = |key: &str| keyed(&stat, key).unwrap_or(0);
    // Where none of the cgroups above has a limit it has none itself, and its own file says no more.
    let own = |of_all: &str, file: &str| match keyed(&stat, of_all) {
        Some(least) if least >= NO_LIMIT => Ok(None),
        Some(_) | None => Ok::<_, CgroupError>(one(dir, file)?.filter(|n| *n < NO_LIMIT)),
    };
    let limit = own("hierarchical_memory_limit", "memory.limit_in_bytes")?;
    let both = own("hierarchical_memsw_limit", "memory.memsw.limit_in_bytes")?;
    let more = |file: &str| Ok::<_, CgroupError>(detail.of(|| one(dir, file))?.flatten());
    Ok(Some(MemoryStats {
        usage,
        peak: more("memory.max_usage_in_bytes")?,
        limit,
        inactive_file: value("total_inactive_file"),
        active_file: value("total_active_file"),
        rss: value("total_rss"),
        cache: value("total_cache"),
        mapped_file: value("total_mapped_file"),
        kernel: more("memory.kmem.usage_in_bytes")?.unwrap_or(0),
        swap_usage: value("total_swap"),
        swap_limit: both.map(|both| both.saturating_sub(limit.unwrap_or(both))),
        reservation: more("memory.soft_limit_in_bytes")?.filter(|limit| *limit < NO_LIMIT),
        page_faults: value("total_pgfault"),
        major_page_faults: value("total_pgmajfault"),
        own_page_faults: value("pgfault"),
        own_major_page_faults: value("pgmajfault"),
        failures: more("memory.failcnt")?.unwrap_or(0),
        kills: 0,
    }))
}

fn io(dir: &Folder<'_>) -> Result<Vec<IoStats>, CgroupError> {
    for prefix in ["blkio.bfq", "blkio.throttle"] {
        let file = |what: &str| dir.read_if_there(&format!("{prefix}.{what}_recursive"));
        let bytes = file("io_service_bytes")?.unwrap_or_default();
        let found = legacy_io(&bytes, &file("io_serviced")?.unwrap_or_default());
        // bfq's are empty where another scheduler is in use.
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn hugetlb(dir: &Folder<'_>) -> Result<Vec<HugetlbStats>, CgroupError> {
    let mut found = Vec::new();
    for page_size in huge_page_sizes() {
        let value = |what: &str| one(dir, &format!("hugetlb.{page_size}.{what}"));
        let Some(usage) = value("usage_in_bytes")? else { continue };
        found.push(HugetlbStats {
            usage,
            peak: value("max_usage_in_bytes")?,
            failures: value("failcnt")?.unwrap_or(0),
            page_size: page_size.clone(),
        });
    }
    Ok(found)
}
