//! The files of cgroup v1 (Documentation/admin-guide/cgroup-v1 of the kernel).

use std::path::Path;

use runtime_spec::{BlockIo, Cpu, Memory, ThrottleDevice};

use super::{Plan, current, lacks};
use crate::error::CgroupError;
use crate::hierarchy::Controller;

pub(super) const PERIOD: &str = "cpu.cfs_period_us";
pub(super) const QUOTA: &str = "cpu.cfs_quota_us";

pub(super) fn cpu(plan: &mut Plan, dir: &Path, cpu: &Cpu) -> Result<(), CgroupError> {
    let controller = Controller::Cpu;
    if let Some(shares) = cpu.shares {
        plan.set("cpu.shares", controller, dir, "cpu.shares", shares)?;
    }
    if let Some(period) = cpu.period {
        plan.set("cpu.period", controller, dir, PERIOD, period)?;
    }
    if let Some(quota) = cpu.quota {
        let quota = if quota > 0 { quota } else { -1 };
        plan.set("cpu.quota", controller, dir, QUOTA, quota)?;
    }
    if let Some(idle) = cpu.idle {
        plan.set("cpu.idle", controller, dir, "cpu.idle", idle)?;
    }
    Ok(())
}

/// The kernel keeps `memsw` (memory and swap together) at or above the limit of memory after every single
/// write: so which of the two comes first depends on which way they go.
pub(super) fn memory(plan: &mut Plan, dir: &Path, memory: &Memory) -> Result<(), CgroupError> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    let controller = Controller::Memory;
    let counts_swap = dir.join(BOTH).exists();
    let both = match (memory.limit, memory.swap) {
        (_, Some(both)) if both >= 0 && !counts_swap => {
            return Err(lacks("memory.swap (counting of swap)", controller, dir));
        }
        (_, Some(_)) if !counts_swap => None,
        // No limit of memory is none of both, or it could not be set.
        (Some(..0), None) if counts_swap => Some(-1),
        (_, given) => given,
    };
    let both_first = match (memory.limit, both) {
        (Some(limit), Some(_)) => above(limit, current(dir, BOTH)?),
        (_, _) => false,
    };
    if let (true, Some(both)) = (both_first, both) {
        plan.set("memory.swap", controller, dir, BOTH, unlimited(both))?;
    }
    if let Some(limit) = memory.limit {
        plan.set("memory.limit", controller, dir, LIMIT, unlimited(limit))?;
    }
    if let (false, Some(both)) = (both_first, both) {
        plan.set("memory.swap", controller, dir, BOTH, unlimited(both))?;
    }
    if let Some(soft) = memory.reservation {
        let file = "memory.soft_limit_in_bytes";
        plan.set("memory.reservation", controller, dir, file, unlimited(soft))?;
    }
    if let Some(off) = memory.disable_oom_killer {
        let value = u8::from(off);
        plan.set("memory.disableOOMKiller", controller, dir, "memory.oom_control", value)?;
    }
    Ok(())
}

fn unlimited(limit: i64) -> i64 {
    limit.max(-1)
}

fn above(limit: i64, current: Option<u64>) -> bool {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX);
    current.is_some_and(|current| limit > current)
}

pub(super) fn block_io(plan: &mut Plan, dir: &Path, io: &BlockIo) -> Result<(), CgroupError> {
    let controller = Controller::Blkio;
    if let Some(weight) = io.weight {
        let file = ["blkio.bfq.weight", "blkio.weight"].into_iter().find(|f| dir.join(f).exists());
        let file = file.ok_or_else(|| lacks("blockIO.weight", controller, dir))?;
        plan.set("blockIO.weight", controller, dir, file, weight)?;
    }
    for (file, devices) in [
        ("blkio.throttle.read_bps_device", &io.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &io.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &io.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &io.throttle_write_iops_device),
    ] {
        for ThrottleDevice { major, minor, rate } in devices {
            let value = format!("{major}:{minor} {rate}");
            plan.set("blockIO.throttle", controller, dir, file, value)?;
        }
    }
    Ok(())
}
