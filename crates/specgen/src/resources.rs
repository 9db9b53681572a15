//! Limits, from the CRI's words to the runtime specification's.

use model::CpuList;
use runtime_spec::{Cpu, HugepageLimit, Memory, Resources};

use crate::error::SpecError;
use crate::inputs::HostFacts;

/// The limits of a request as a spec has them, without device rules: for a new container, for an update,
/// and for a pod.
///
/// Where swap can be limited and the request has a memory limit but none for swap, swap is off, as the
/// kubelet expects of a node without swap. A size of huge pages that the host does not have is left out if
/// its limit is 0, which the kubelet says for every size.
///
/// # Errors
/// Limits that the host cannot enforce, or that contradict one another.
pub fn resources(given: &model::Resources, host: &HostFacts) -> Result<Resources, SpecError> {
    Ok(Resources {
        devices: Vec::new(),
        memory: memory(given, host)?,
        cpu: cpu(given, host)?,
        pids: None,
        block_io: None,
        hugepage_limits: hugepages(given, host)?,
        unified: unified(given, host)?,
    })
}

fn said<T: PartialEq + Default>(value: Option<T>) -> Option<T> {
    // In the CRI's messages 0 is what a number is that nobody has set.
    value.filter(|v| *v != T::default())
}

/// A list of numbers of which the host has all.
fn list(
    field: &str,
    given: Option<&String>,
    host: Option<&CpuList>,
    what: &str,
) -> Result<String, SpecError> {
    let text = given.cloned().unwrap_or_default();
    let outside = match (CpuList::parse(&text), host) {
        (Some(list), Some(host)) => list.first_outside(host).map(|number| (number, host)),
        (Some(_) | None, _) => None,
    };
    match outside {
        None => Ok(text),
        Some((number, host)) => Err(SpecError::Bad {
            field: format!("resources.{field}"),
            problem: format!("{text:?} has {number}, and the {what} of this machine are {host}"),
        }),
    }
}

fn cpu(given: &model::Resources, host: &HostFacts) -> Result<Option<Cpu>, SpecError> {
    let (cpus, mems) = (given.cpuset_cpus.as_ref(), given.cpuset_mems.as_ref());
    let cpu = Cpu {
        shares: said(given.cpu_shares),
        quota: said(given.cpu_quota),
        period: said(given.cpu_period),
        cpus: list("cpuset_cpus", cpus, host.cpus.as_ref(), "CPUs")?,
        mems: list("cpuset_mems", mems, host.memory_nodes.as_ref(), "memory nodes")?,
        idle: None,
    };
    Ok((cpu != Cpu::default()).then_some(cpu))
}

fn memory(given: &model::Resources, host: &HostFacts) -> Result<Option<Memory>, SpecError> {
    let limit = said(given.memory_limit);
    let asked = said(given.memory_swap_limit);
    if let (Some(limit), Some(both)) = (limit, asked)
        && both >= 0
        && (limit < 0 || both < limit)
    {
        return Err(SpecError::Bad {
            field: "resources.memory_swap_limit_in_bytes".to_owned(),
            problem: format!(
                "{both} is memory and swap together, so it cannot be below the memory limit {limit}"
            ),
        });
    }
    if let (None, Some(both @ 0..)) = (limit, asked) {
        return Err(SpecError::Bad {
            field: "resources.memory_swap_limit_in_bytes".to_owned(),
            problem: format!(
                "{both} is memory and swap together, so memory_limit_in_bytes is needed too"
            ),
        });
    }
    let swap = if host.swap_limit { asked.or(limit) } else { None };
    let memory = Memory { limit, swap, ..Memory::default() };
    Ok((memory != Memory::default()).then_some(memory))
}

fn hugepages(given: &model::Resources, host: &HostFacts) -> Result<Vec<HugepageLimit>, SpecError> {
    let mut limits = Vec::new();
    for asked in &given.hugepages {
        if host.hugepage_sizes.contains(&asked.page_size) {
            limits.push(HugepageLimit { page_size: asked.page_size.clone(), limit: asked.limit });
        } else if asked.limit != 0 {
            return Err(SpecError::Unsupported {
                what: format!("a limit of {} huge pages", asked.page_size),
                needs: "the hugetlb controller with that size".to_owned(),
            });
        }
    }
    Ok(limits)
}

fn unified(
    given: &model::Resources,
    host: &HostFacts,
) -> Result<std::collections::BTreeMap<String, String>, SpecError> {
    match given.unified.keys().next() {
        Some(key) if !host.cgroup_unified => Err(SpecError::Unsupported {
            what: format!("the unified resource {key:?}"),
            needs: "cgroup v2".to_owned(),
        }),
        Some(_) | None => Ok(given.unified.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> HostFacts {
        let hugepage_sizes = vec!["2MB".to_owned()];
        HostFacts { swap_limit: true, hugepage_sizes, cgroup_unified: true, ..HostFacts::default() }
    }

    #[test]
    fn swap_is_off_beside_a_memory_limit_unless_the_request_allows_it() {
        for (limit, swap, can, expected) in [
            (Some(100), None, true, Some((Some(100), Some(100)))),
            (Some(100), Some(0), true, Some((Some(100), Some(100)))),
            (Some(100), Some(150), true, Some((Some(100), Some(150)))),
            (Some(100), Some(-1), true, Some((Some(100), Some(-1)))),
            (Some(100), None, false, Some((Some(100), None))),
            (Some(-1), None, true, Some((Some(-1), Some(-1)))),
            (Some(0), None, true, None),
            (None, None, true, None),
        ] {
            let given = model::Resources {
                memory_limit: limit,
                memory_swap_limit: swap,
                ..model::Resources::default()
            };
            let host = HostFacts { swap_limit: can, ..host() };
            let memory = resources(&given, &host).unwrap().memory;
            assert_eq!(memory.map(|m| (m.limit, m.swap)), expected, "{limit:?} {swap:?}");
        }
        for (limit, swap) in [(Some(100), 50), (Some(-1), 50), (None, 50)] {
            let given = model::Resources {
                memory_limit: limit,
                memory_swap_limit: Some(swap),
                ..model::Resources::default()
            };
            assert!(resources(&given, &host()).is_err());
        }
    }

    #[test]
    fn cpu_limits_are_taken_as_they_are_and_zero_is_unsaid() {
        let given = model::Resources {
            cpu_shares: Some(512),
            cpu_quota: Some(-1),
            cpu_period: Some(0),
            cpuset_cpus: Some("0-1".to_owned()),
            ..model::Resources::default()
        };
        let cpu = resources(&given, &host()).unwrap().cpu.unwrap();
        assert_eq!((cpu.shares, cpu.quota, cpu.period), (Some(512), Some(-1), None));
        assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str()), ("0-1", ""));
        assert_eq!(resources(&model::Resources::default(), &host()).unwrap(), Resources::default());
    }

    #[test]
    fn cpus_and_memory_nodes_that_the_machine_has_not_are_told_by_field() {
        let of_machine = |text: &str| CpuList::parse(text);
        let host = HostFacts { cpus: of_machine("0-3"), memory_nodes: of_machine("0"), ..host() };
        let given = |cpus: &str, mems: &str| {
            let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
            let given = model::Resources {
                cpuset_cpus: some(cpus),
                cpuset_mems: some(mems),
                ..model::Resources::default()
            };
            resources(&given, &host).map_err(|e| e.to_string())
        };
        assert_eq!(given("1,3", "0").unwrap().cpu.unwrap().cpus, "1,3");
        let told = given("0-99", "").unwrap_err();
        assert!(told.starts_with("resources.cpuset_cpus: \"0-99\" has 4, "), "{told}");
        let told = given("", "7").unwrap_err();
        assert!(told.starts_with("resources.cpuset_mems: \"7\" has 7, "), "{told}");
    }

    #[test]
    fn what_the_host_cannot_limit_is_an_error_only_if_it_was_meant() {
        let huge = |page_size: &str, limit| model::Resources {
            hugepages: vec![model::HugepageLimit { page_size: page_size.to_owned(), limit }],
            ..model::Resources::default()
        };
        let limits =
            |given: &model::Resources| resources(given, &host()).map(|r| r.hugepage_limits.len());
        assert_eq!(limits(&huge("2MB", 4)), Ok(1));
        assert_eq!(limits(&huge("1GB", 0)), Ok(0));
        assert!(limits(&huge("1GB", 4)).is_err());
        let given = model::Resources {
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..model::Resources::default()
        };
        assert_eq!(resources(&given, &host()).unwrap().unified.len(), 1);
        let legacy = HostFacts { cgroup_unified: false, ..host() };
        assert!(resources(&given, &legacy).is_err());
    }
}
