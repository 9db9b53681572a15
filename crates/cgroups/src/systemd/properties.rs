//! Limits as properties of units (systemd.resource-control(5)).
//!
//! The files are written too, exactly; but systemd writes them again when it reloads, and then what it
//! knows of them must be what we wrote. Pure.

use runtime_spec::Resources;

use super::wire::{Property, Value};
use crate::limits::shares_to_weight;

/// What systemd understands as no limit.
const INFINITY: u64 = u64::MAX;
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd counts a quota in whole percents of a second, in microseconds.
const PERCENT_US: u64 = 10_000;

/// Whether the properties are those of cgroup v2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Legacy,
    Unified,
}

/// The properties that say what `resources` says; what is absent there is not said.
pub(super) fn properties(resources: &Resources, names: Names) -> Vec<Property> {
    let mut all = Vec::new();
    if let Some(memory) = &resources.memory {
        if let Some(limit) = memory.limit {
            let name = match names {
                Names::Legacy => "MemoryLimit",
                Names::Unified => "MemoryMax",
            };
            all.push((name, Value::Number(limited(limit))));
        }
        if let (Some(both), Names::Unified) = (memory.swap, names) {
            let memory = memory.limit.map_or(INFINITY, limited);
            let swap = match limited(both) {
                INFINITY => INFINITY,
                both => both.saturating_sub(memory),
            };
            all.push(("MemorySwapMax", Value::Number(swap)));
        }
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares {
            all.push(match names {
                Names::Legacy => ("CPUShares", Value::Number(shares.clamp(2, 262_144))),
                Names::Unified => ("CPUWeight", Value::Number(shares_to_weight(shares))),
            });
        }
        if let Some(quota) = cpu.quota {
            let period = cpu.period.filter(|p| *p > 0).unwrap_or(DEFAULT_PERIOD_US);
            let per_second = match u64::try_from(quota) {
                Ok(quota @ 1..) => {
                    (quota.saturating_mul(1_000_000) / period).next_multiple_of(PERCENT_US)
                }
                Ok(0) | Err(_) => INFINITY,
            };
            all.push(("CPUQuotaPerSecUSec", Value::Number(per_second)));
            all.push(("CPUQuotaPeriodUSec", Value::Number(period)));
        }
        if names == Names::Unified {
            for (name, list) in [("AllowedCPUs", &cpu.cpus), ("AllowedMemoryNodes", &cpu.mems)] {
                // What is no list is refused by the kernel, when its file is written.
                if let Some(mask) = mask(list).filter(|mask| !mask.is_empty()) {
                    all.push((name, Value::Bytes(mask)));
                }
            }
        }
    }
    if let Some(pids) = resources.pids {
        let limit = u64::try_from(pids.limit).ok().filter(|n| *n > 0).unwrap_or(INFINITY);
        all.push(("TasksMax", Value::Number(limit)));
    }
    all
}

fn limited(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(INFINITY)
}

/// A list such as `0-2,5` as bits, the first byte for 0 to 7.
fn mask(list: &str) -> Option<Vec<u8>> {
    /// More than any kernel counts (NR_CPUS).
    const MOST: usize = 8192;
    let mut bytes = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        for bit in first..=last {
            if bytes.len() <= bit / 8 {
                bytes.resize(bit / 8 + 1, 0);
            }
            bytes[bit / 8] |= 1 << (bit % 8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use runtime_spec::{Cpu, Memory, Pids};

    use super::*;

    fn numbers(resources: &Resources, names: Names) -> Vec<(&'static str, u64)> {
        let number = |(name, value): (&'static str, Value)| match value {
            Value::Number(n) => Some((name, n)),
            Value::Text(_) | Value::Flag(_) | Value::Pids(_) | Value::Bytes(_) => None,
        };
        properties(resources, names).into_iter().filter_map(number).collect()
    }

    #[test]
    fn limits_have_their_names_in_both_versions() {
        let resources = Resources {
            memory: Some(Memory { limit: Some(500), swap: Some(700), ..Memory::default() }),
            cpu: Some(Cpu {
                shares: Some(1024),
                quota: Some(12_345),
                period: Some(100_000),
                ..Cpu::default()
            }),
            pids: Some(Pids { limit: 9 }),
            ..Resources::default()
        };
        let quota = [("CPUQuotaPerSecUSec", 130_000), ("CPUQuotaPeriodUSec", 100_000)];
        let end = [quota[0], quota[1], ("TasksMax", 9)];
        let new = [&[("MemoryMax", 500), ("MemorySwapMax", 200), ("CPUWeight", 100)], &end[..]];
        assert_eq!(numbers(&resources, Names::Unified), new.concat());
        let old = [&[("MemoryLimit", 500), ("CPUShares", 1024)], &end[..]];
        assert_eq!(numbers(&resources, Names::Legacy), old.concat());
    }

    #[test]
    fn no_limit_is_infinity_and_what_is_absent_is_not_said() {
        let resources = Resources {
            memory: Some(Memory { limit: Some(-1), swap: Some(-1), ..Memory::default() }),
            cpu: Some(Cpu { quota: Some(-1), ..Cpu::default() }),
            pids: Some(Pids { limit: 0 }),
            ..Resources::default()
        };
        let found = numbers(&resources, Names::Unified);
        let period = ("CPUQuotaPeriodUSec", DEFAULT_PERIOD_US);
        assert!(found.iter().filter(|p| **p != period).all(|(_, n)| *n == INFINITY), "{found:?}");
        assert!(properties(&Resources::default(), Names::Unified).is_empty());
    }

    #[test]
    fn cpus_are_bits() {
        for (list, bits) in [
            ("0-2,5", Some(vec![0b0010_0111])),
            ("8", Some(vec![0, 1])),
            ("", Some(vec![])),
            ("3-1", None),
            ("x", None),
            ("0-99999999", None),
        ] {
            assert_eq!(mask(list), bits, "{list}");
        }
    }
}
