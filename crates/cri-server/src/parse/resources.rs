//! `LinuxContainerResources`.

use cri_api::v1;
use model::{HugepageLimit, Resources};

use super::{At, BadField};

/// The range of `cpu.shares`; the kernel moves a value outside of it to the nearer end, and so do we.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// Limits of something new; what is absent or 0 is not said.
pub(crate) fn resources(
    at: At<'_>,
    given: Option<&v1::LinuxContainerResources>,
) -> Result<Resources, BadField> {
    let Some(given) = given else { return Ok(Resources::default()) };
    let mut parsed = updated_resources(at, given)?;
    // An update may mean the limit of memory that there is already.
    if let (None, Some(both @ 0..)) = (parsed.memory_limit, parsed.memory_swap_limit) {
        let expected = "it limits memory and swap together, so memory_limit_in_bytes is needed too";
        return Err(at.to("memory_swap_limit_in_bytes").bad(both, expected));
    }
    parsed.oom_score_adj = Some(oom_score(at.to("oom_score_adj"), given.oom_score_adj)?);
    Ok(parsed)
}

/// A change of limits. On the wire an adjustment of the OOM score that is not meant is a 0, so a 0
/// changes nothing.
pub(crate) fn updated_resources(
    at: At<'_>,
    given: &v1::LinuxContainerResources,
) -> Result<Resources, BadField> {
    let memory_limit = bytes(at.to("memory_limit_in_bytes"), given.memory_limit_in_bytes)?;
    let memory_swap_limit =
        bytes(at.to("memory_swap_limit_in_bytes"), given.memory_swap_limit_in_bytes)?;
    if let (Some(memory), Some(both)) = (memory_limit, memory_swap_limit)
        && both >= 0
        && (memory < 0 || memory > both)
    {
        let expected = "memory and swap together cannot be less than memory_limit_in_bytes";
        return Err(at.to("memory_swap_limit_in_bytes").bad(both, expected));
    }
    Ok(Resources {
        cpu_period: period(at.to("cpu_period"), given.cpu_period)?,
        cpu_quota: quota(at.to("cpu_quota"), given.cpu_quota)?,
        cpu_shares: shares(at.to("cpu_shares"), given.cpu_shares)?,
        memory_limit,
        memory_swap_limit,
        oom_score_adj: Some(oom_score(at.to("oom_score_adj"), given.oom_score_adj)?)
            .filter(|score| *score != 0),
        cpuset_cpus: cpu_list(at.to("cpuset_cpus"), &given.cpuset_cpus)?,
        cpuset_mems: cpu_list(at.to("cpuset_mems"), &given.cpuset_mems)?,
        hugepages: hugepages(at, &given.hugepage_limits)?,
        unified: unified(at.to("unified"), given)?,
    })
}

/// Bytes: 0 is not said, -1 means no limit, as in the runtime specification.
fn bytes(at: At<'_>, given: i64) -> Result<Option<i64>, BadField> {
    match given {
        0 => Ok(None),
        -1.. => Ok(Some(given)),
        ..-1 => Err(at.bad(given, "a number of bytes is needed, or -1 for no limit")),
    }
}

fn period(at: At<'_>, given: i64) -> Result<Option<u64>, BadField> {
    match u64::try_from(given) {
        Ok(0) => Ok(None),
        Ok(period @ 1_000..=1_000_000) => Ok(Some(period)),
        Ok(_) | Err(_) => Err(at.bad(given, "1000 to 1000000 microseconds are allowed")),
    }
}

fn quota(at: At<'_>, given: i64) -> Result<Option<i64>, BadField> {
    match given {
        0 => Ok(None),
        -1 => Ok(Some(-1)),
        ..-1 => Err(at.bad(given, "microseconds are needed, or -1 for no limit")),
        1..1_000 => Err(at.bad(given, "at least 1000 microseconds are needed")),
        1_000.. => Ok(Some(given)),
    }
}

fn shares(at: At<'_>, given: i64) -> Result<Option<u64>, BadField> {
    match u64::try_from(given) {
        Ok(0) => Ok(None),
        Ok(shares) => Ok(Some(shares.clamp(*SHARES.start(), *SHARES.end()))),
        Err(_) => Err(at.bad(given, "a weight cannot be negative")),
    }
}

fn oom_score(at: At<'_>, given: i64) -> Result<i32, BadField> {
    i32::try_from(given)
        .ok()
        .filter(|score| (-1000..=1000).contains(score))
        .ok_or_else(|| at.bad(given, "-1000 to 1000 are allowed"))
}

/// `0-2,5` as in cpuset(7), "List format".
fn cpu_list(at: At<'_>, given: &str) -> Result<Option<String>, BadField> {
    if given.is_empty() {
        return Ok(None);
    }
    let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n < 65_536);
    let ok = given.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => match (number(first), number(last)) {
            (Some(first), Some(last)) => first <= last,
            (Some(_) | None, None) | (None, Some(_)) => false,
        },
        None => number(part).is_some(),
    });
    if ok {
        Ok(Some(given.to_owned()))
    } else {
        Err(at.bad(given, "a list such as 0-2,5 is needed"))
    }
}

fn hugepages(at: At<'_>, given: &[v1::HugepageLimit]) -> Result<Vec<HugepageLimit>, BadField> {
    let mut limits: Vec<HugepageLimit> = Vec::with_capacity(given.len());
    for (index, one) in given.iter().enumerate() {
        let at = at.nth("hugepage_limits", index);
        let digits = ["KB", "MB", "GB"].iter().find_map(|unit| one.page_size.strip_suffix(unit));
        let ok = digits.is_some_and(|d| d.parse::<u32>().is_ok_and(|n| n > 0));
        if !ok {
            return Err(at.to("page_size").bad(&one.page_size, "a size such as 2MB is needed"));
        }
        if limits.iter().any(|known| known.page_size == one.page_size) {
            return Err(at.to("page_size").bad(&one.page_size, "one limit for each size"));
        }
        limits.push(HugepageLimit { page_size: one.page_size.clone(), limit: one.limit });
    }
    Ok(limits)
}

/// Files of controllers, such as `memory.high`; never the files that move processes about.
fn unified(
    at: At<'_>,
    given: &v1::LinuxContainerResources,
) -> Result<std::collections::BTreeMap<String, String>, BadField> {
    for (key, value) in &given.unified {
        let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let of_controller =
            key.split_once('.').is_some_and(|(c, file)| !c.is_empty() && !file.is_empty());
        if !plain || !of_controller || key.starts_with("cgroup.") {
            return Err(at.bad(key, "a file of a controller is needed, such as memory.high"));
        }
        if value.contains('\0') {
            return Err(at.bad(value, "a NUL cannot be part of a value"));
        }
    }
    Ok(given.unified.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change = fn(&mut v1::LinuxContainerResources);

    fn parsed(change: Change) -> Result<Resources, BadField> {
        let mut given = v1::LinuxContainerResources::default();
        change(&mut given);
        resources(At::field("r"), Some(&given))
    }

    #[test]
    fn zero_means_not_said_and_minus_one_means_no_limit() {
        let nothing = parsed(|_| ()).unwrap();
        assert_eq!(nothing, Resources { oom_score_adj: Some(0), ..Resources::default() });
        let unlimited = parsed(|r| {
            r.memory_limit_in_bytes = -1;
            r.memory_swap_limit_in_bytes = -1;
            r.cpu_quota = -1;
        })
        .unwrap();
        assert_eq!((unlimited.memory_limit, unlimited.cpu_quota), (Some(-1), Some(-1)));
        assert_eq!(unlimited.memory_swap_limit, Some(-1));
        assert_eq!(parsed(|r| r.cpu_shares = 1).unwrap().cpu_shares, Some(2));
        assert_eq!(parsed(|r| r.cpu_shares = 999_999).unwrap().cpu_shares, Some(262_144));
    }

    #[test]
    fn an_update_does_not_touch_the_oom_score_unless_it_says_so() {
        let mut given = v1::LinuxContainerResources::default();
        assert_eq!(updated_resources(At::field("r"), &given).unwrap().oom_score_adj, None);
        // It may go with the limit of memory that there is.
        given.memory_swap_limit_in_bytes = 1 << 30;
        given.oom_score_adj = -5;
        assert_eq!(updated_resources(At::field("r"), &given).unwrap().oom_score_adj, Some(-5));
    }

    #[test]
    fn malformed_limits_are_refused_by_field() {
        let table: &[(&str, Change)] = &[
            ("r.cpu_period", |r| r.cpu_period = 999),
            ("r.cpu_period", |r| r.cpu_period = -1),
            ("r.cpu_quota", |r| r.cpu_quota = 10),
            ("r.cpu_quota", |r| r.cpu_quota = -2),
            ("r.memory_limit_in_bytes", |r| r.memory_limit_in_bytes = -5),
            ("r.memory_swap_limit_in_bytes", |r| r.memory_swap_limit_in_bytes = i64::MIN),
            ("r.memory_swap_limit_in_bytes", |r| r.memory_swap_limit_in_bytes = 1 << 20),
            ("r.cpu_shares", |r| r.cpu_shares = -2),
            ("r.oom_score_adj", |r| r.oom_score_adj = 1001),
            ("r.cpuset_cpus", |r| r.cpuset_cpus = "0-".into()),
            ("r.cpuset_cpus", |r| r.cpuset_cpus = "3-1".into()),
            ("r.cpuset_mems", |r| r.cpuset_mems = "0,,1".into()),
            ("r.hugepage_limits[0].page_size", |r| {
                r.hugepage_limits = vec![v1::HugepageLimit { page_size: "2Mi".into(), limit: 0 }];
            }),
            ("r.hugepage_limits[1].page_size", |r| {
                let one = v1::HugepageLimit { page_size: "2MB".into(), limit: 0 };
                r.hugepage_limits = vec![one.clone(), one];
            }),
            ("r.unified", |r| r.unified = [("cgroup.procs".into(), "1".into())].into()),
            ("r.unified", |r| r.unified = [("../memory.max".into(), "1".into())].into()),
            ("r.unified", |r| r.unified = [("memory".into(), "1".into())].into()),
            ("r.memory_swap_limit_in_bytes", |r| {
                r.memory_limit_in_bytes = 100;
                r.memory_swap_limit_in_bytes = 50;
            }),
        ];
        for (field, change) in table {
            let bad = parsed(*change).unwrap_err();
            assert_eq!(bad.field, *field, "{bad}");
        }
    }
}
