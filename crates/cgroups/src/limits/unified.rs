//! The files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst of the kernel).

use std::collections::BTreeMap;
use std::path::Path;

use runtime_spec::{BlockIo, Cpu, Memory, ThrottleDevice};

use super::{Plan, current};
use crate::cgroup::{Cgroup, Kind};
use crate::error::CgroupError;
use crate::file::read_if_there;
use crate::hierarchy::Controller;

const DEFAULT_PERIOD: &str = "100000";

pub(super) fn cpu(plan: &mut Plan, dir: &Path, cpu: &Cpu) -> Result<(), CgroupError> {
    let controller = Controller::Cpu;
    if let Some(idle) = cpu.idle {
        plan.set("cpu.idle", controller, dir, "cpu.idle", idle)?;
    }
    if let Some(shares) = cpu.shares {
        plan.set("cpu.shares", controller, dir, "cpu.weight", shares_to_weight(shares))?;
    }
    if cpu.quota.is_none() && cpu.period.is_none() {
        return Ok(());
    }
    let now = read_if_there(&dir.join("cpu.max"))?.unwrap_or_default();
    let mut now = now.split_ascii_whitespace();
    let (old_quota, old_period) = (now.next().unwrap_or("max"), now.next());
    let quota = match cpu.quota {
        Some(quota) if quota > 0 => quota.to_string(),
        Some(_) => "max".to_owned(),
        None => old_quota.to_owned(),
    };
    let period = match cpu.period {
        Some(period) => period.to_string(),
        None => old_period.unwrap_or(DEFAULT_PERIOD).to_owned(),
    };
    plan.set("cpu.quota", controller, dir, "cpu.max", format!("{quota} {period}"))
}

/// v1's shares (2 to 262,144, 1,024 by default) as v2's weight (1 to 10,000, 100 by default): the curve
/// through these three points that runc, crun and the kubelet use, so that a pod and its containers stay in
/// proportion.
pub(crate) fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "at most 18 bits, which fit")]
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            // What is exact on paper must not be rounded up for the sake of its last bit.
            let weight = (10_f64.powf(exponent) - 1e-9).ceil();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and 10,000"
            )]
            let weight = weight as u64;
            weight.clamp(1, 10_000)
        }
    }
}

/// The shares that a weight stands for: the same curve the other way. An idle cgroup has the weight 0.
pub(crate) fn weight_to_shares(weight: u64) -> u64 {
    match weight {
        0..=1 => 2,
        10_000.. => 262_144,
        _ => {
            #[expect(clippy::cast_precision_loss, reason = "at most 14 bits, which fit")]
            let exponent = (weight as f64).log10() + 7.0 / 34.0;
            let l = (15_625.0 + 4.0 * 612.0 * exponent).sqrt() - 125.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 2 and 262,144"
            )]
            let shares = (l / 2.0).exp2().round() as u64;
            shares.clamp(2, 262_144)
        }
    }
}

pub(super) fn memory(plan: &mut Plan, dir: &Path, memory: &Memory) -> Result<(), CgroupError> {
    let controller = Controller::Memory;
    if memory.disable_oom_killer == Some(true) {
        return Err(CgroupError::Unsupported {
            what: "memory.disableOOMKiller".to_owned(),
            needs: "cgroup v1".to_owned(),
        });
    }
    // Swap before memory: what no longer fits into memory may go to the swap that it is to have.
    if let Some(swap) = swap(dir, memory)? {
        let file = "memory.swap.max";
        let limits_nothing = matches!(swap, None | Some(0));
        if limits_nothing {
            // A kernel without swap has no such file, and none to limit.
            plan.set_if_there("memory.swap", dir, file, max_or(swap));
        } else {
            plan.set("memory.swap", controller, dir, file, max_or(swap))?;
        }
    }
    if let Some(limit) = memory.limit {
        plan.set("memory.limit", controller, dir, "memory.max", max_or(u64::try_from(limit).ok()))?;
    }
    if let Some(low) = memory.reservation {
        let low = max_or(u64::try_from(low).ok());
        plan.set("memory.reservation", controller, dir, "memory.low", low)?;
    }
    Ok(())
}

/// The limit of swap alone: nothing to change, no limit, or this.
fn swap(dir: &Path, memory: &Memory) -> Result<Option<Option<u64>>, CgroupError> {
    let Some(both) = memory.swap else { return Ok(None) };
    let Ok(both) = u64::try_from(both) else { return Ok(Some(None)) };
    let limit = match memory.limit {
        Some(limit) => u64::try_from(limit).ok(),
        None => current(dir, "memory.max")?,
    };
    let bad = |problem: &str| {
        Err(CgroupError::BadLimit { what: "memory.swap".to_owned(), problem: problem.to_owned() })
    };
    match limit {
        None => bad("limits memory and swap together, so it needs a limit of memory"),
        Some(limit) => match both.checked_sub(limit) {
            Some(swap) => Ok(Some(Some(swap))),
            None => bad("is below the limit of memory"),
        },
    }
}

fn max_or(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

/// A weight from 10 to 1,000 is one from 1 to 10,000 for io.weight; bfq takes it as it is.
pub(super) fn block_io(plan: &mut Plan, dir: &Path, io: &BlockIo) -> Result<(), CgroupError> {
    let controller = Controller::Blkio;
    if let Some(weight) = io.weight {
        let what = "blockIO.weight";
        if dir.join("io.bfq.weight").exists() {
            plan.set(what, controller, dir, "io.bfq.weight", weight)?;
        } else {
            let weight = 1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990;
            plan.set(what, controller, dir, "io.weight", weight)?;
        }
    }
    for (key, devices) in [
        ("rbps", &io.throttle_read_bps_device),
        ("wbps", &io.throttle_write_bps_device),
        ("riops", &io.throttle_read_iops_device),
        ("wiops", &io.throttle_write_iops_device),
    ] {
        for ThrottleDevice { major, minor, rate } in devices {
            // 0 means no limit, as it does in the files of v1.
            let rate = if *rate == 0 { "max".to_owned() } else { rate.to_string() };
            let value = format!("{major}:{minor} {key}={rate}");
            plan.set("blockIO.throttle", controller, dir, "io.max", value)?;
        }
    }
    Ok(())
}

/// Files by name. On v1 there are none to write.
pub(super) fn files(
    plan: &mut Plan,
    cgroup: &Cgroup,
    files: &BTreeMap<String, String>,
) -> Result<(), CgroupError> {
    let Some(first) = files.keys().next() else { return Ok(()) };
    let v2_alone = cgroup.dirs.iter().all(|dir| dir.kind == Kind::Unified);
    let Some(dir) = cgroup.unified().filter(|_| v2_alone) else {
        return Err(CgroupError::Unsupported {
            what: format!("unified.{first}"),
            needs: "cgroup v2 without hierarchies of v1".to_owned(),
        });
    };
    for (file, value) in files {
        let what = format!("unified.{file}");
        // Those of the core move, freeze and kill; they are no limits.
        let is_limit = file.contains('.') && !file.contains('/') && !file.starts_with("cgroup.");
        if !is_limit || file.contains("..") {
            let problem = "is not the name of a controller's file".to_owned();
            return Err(CgroupError::BadLimit { what, problem });
        }
        if !dir.join(file).exists() {
            let controller = file.split('.').next().unwrap_or(file);
            let needs =
                format!("the file {} of the {controller} controller", dir.join(file).display());
            return Err(CgroupError::Unsupported { what, needs });
        }
        plan.writes.push(super::Write { what, path: dir.join(file), value: value.clone() });
    }
    Ok(())
}
