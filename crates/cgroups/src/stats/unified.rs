//! The files of cgroup v2.

use super::parse::{io, keyed, number, pressure};
use super::{CpuLimits, CpuStats, Detail, HugetlbStats, MemoryStats, PidsStats, Pressure, Stats};
use crate::cgroup::Cgroup;
use crate::error::CgroupError;
use crate::file::{Folder, huge_page_sizes};
use crate::limits::weight_to_shares;
use crate::oom::OomCounts;

/// Fills in what v2 knows and controllers of v1 have not said. Pressure it knows without any controller.
pub(super) fn read(cgroup: &Cgroup, detail: Detail, stats: &mut Stats) -> Result<(), CgroupError> {
    let Some(dir) = cgroup.unified() else { return Ok(()) };
    let dir = &Folder::open(dir)?;
    if stats.cpu.is_none() {
        stats.cpu = cpu(dir)?;
    }
    if stats.memory.is_none() {
        stats.memory = memory(dir, detail)?;
    }
    if detail != Detail::Brief
        && stats.pids.is_none()
        && let Some(current) = one(dir, "pids.current")?
    {
        let limit = detail.of(|| one(dir, "pids.max"))?.flatten();
        stats.pids = Some(PidsStats { current, limit });
    }
    stats.cpu_pressure = waiting(dir, "cpu.pressure")?;
    stats.memory_pressure = waiting(dir, "memory.pressure")?;
    stats.io_pressure = waiting(dir, "io.pressure")?;
    if detail != Detail::Whole {
        return Ok(());
    }
    if stats.cpu_limits.is_none() {
        stats.cpu_limits = cpu_limits(dir)?;
    }
    if stats.io.is_empty() {
        stats.io = dir.read_if_there("io.stat")?.map(|text| io(&text)).unwrap_or_default();
    }
    if stats.hugetlb.is_empty() {
        stats.hugetlb = hugetlb(dir)?;
    }
    Ok(())
}

fn one(dir: &Folder<'_>, file: &str) -> Result<Option<u64>, CgroupError> {
    Ok(dir.read_if_there(file)?.and_then(|text| number(&text)))
}

fn waiting(dir: &Folder<'_>, file: &str) -> Result<Option<Pressure>, CgroupError> {
    match dir.read_if_there(file) {
        // The kernel has the file and was started without psi=1.
        Err(CgroupError::Read { source, .. })
            if source.raw_os_error() == Some(rustix::io::Errno::OPNOTSUPP.raw_os_error()) =>
        {
            Ok(None)
        }
        other => Ok(other?.and_then(|text| pressure(&text))),
    }
}

fn cpu(dir: &Folder<'_>) -> Result<Option<CpuStats>, CgroupError> {
    let Some(stat) = dir.read_if_there("cpu.stat")? else { return Ok(None) };
    let value = |key: &str| keyed(&stat, key).unwrap_or(0);
    let nanoseconds = |key: &str| value(key).saturating_mul(1000);
    Ok(Some(CpuStats {
        usage_ns: nanoseconds("usage_usec"),
        user_ns: nanoseconds("user_usec"),
        system_ns: nanoseconds("system_usec"),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_ns: nanoseconds("throttled_usec"),
    }))
}

fn cpu_limits(dir: &Folder<'_>) -> Result<Option<CpuLimits>, CgroupError> {
    let Some(weight) = one(dir, "cpu.weight")? else { return Ok(None) };
    let max = dir.read_if_there("cpu.max")?.unwrap_or_default();
    let mut words = max.split_ascii_whitespace();
    let (quota_us, period_us) = (words.next().and_then(number), words.next().and_then(number));
    Ok(Some(CpuLimits { shares: weight_to_shares(weight), period_us, quota_us }))
}

fn memory(dir: &Folder<'_>, detail: Detail) -> Result<Option<MemoryStats>, CgroupError> {
    let Some(usage) = one(dir, "memory.current")? else { return Ok(None) };
    let stat = dir.read_if_there("memory.stat")?.unwrap_or_default();
    let events = detail.of(|| dir.read_if_there("memory.events"))?.flatten().unwrap_or_default();
    let value = |key: &str| keyed(&stat, key).unwrap_or(0);
    Ok(Some(MemoryStats {
        usage,
        peak: detail.of(|| one(dir, "memory.peak"))?.flatten(),
        limit: one(dir, "memory.max")?,
        inactive_file: value("inactive_file"),
        active_file: value("active_file"),
        rss: value("anon"),
        cache: value("file"),
        mapped_file: value("file_mapped"),
        kernel: value("kernel"),
        swap_usage: one(dir, "memory.swap.current")?.unwrap_or(0),
        swap_limit: one(dir, "memory.swap.max")?,
        reservation: detail.of(|| one(dir, "memory.min"))?.flatten(),
        page_faults: value("pgfault"),
        major_page_faults: value("pgmajfault"),
        own_page_faults: value("pgfault"),
        own_major_page_faults: value("pgmajfault"),
        failures: keyed(&events, "max").unwrap_or(0),
        kills: OomCounts::of_events(&events).kills,
    }))
}

fn hugetlb(dir: &Folder<'_>) -> Result<Vec<HugetlbStats>, CgroupError> {
    let mut found = Vec::new();
    for page_size in huge_page_sizes() {
        let Some(usage) = one(dir, &format!("hugetlb.{page_size}.current"))? else { continue };
        let events = dir.read_if_there(&format!("hugetlb.{page_size}.events"))?;
        let failures = events.and_then(|text| keyed(&text, "max")).unwrap_or(0);
        found.push(HugetlbStats { usage, peak: None, failures, page_size: page_size.clone() });
    }
    Ok(found)
}
