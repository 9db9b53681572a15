//! `LinuxContainerResources`.

use cri_api::v1;
use model::Resources;

pub(super) fn resources(given: &Resources) -> v1::LinuxContainerResources {
    let number = |value: Option<u64>| i64::try_from(value.unwrap_or(0)).unwrap_or(i64::MAX);
    v1::LinuxContainerResources {
        cpu_period: number(given.cpu_period),
        cpu_quota: given.cpu_quota.unwrap_or(0),
        cpu_shares: number(given.cpu_shares),
        memory_limit_in_bytes: given.memory_limit.unwrap_or(0),
        oom_score_adj: given.oom_score_adj.map_or(0, i64::from),
        cpuset_cpus: given.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: given.cpuset_mems.clone().unwrap_or_default(),
        hugepage_limits: given
            .hugepages
            .iter()
            .map(|one| v1::HugepageLimit { page_size: one.page_size.clone(), limit: one.limit })
            .collect(),
        unified: given.unified.clone(),
        memory_swap_limit_in_bytes: given.memory_swap_limit.unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{self, At};

    #[test]
    fn what_was_asked_for_comes_back() {
        let wire = v1::LinuxContainerResources {
            cpu_period: 100_000,
            cpu_quota: 50_000,
            cpu_shares: 512,
            memory_limit_in_bytes: 1 << 30,
            oom_score_adj: -7,
            cpuset_cpus: "0-3".into(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 4 }],
            unified: [("memory.high".to_owned(), "5".to_owned())].into(),
            memory_swap_limit_in_bytes: -1,
            ..Default::default()
        };
        let parsed = parse::resources(At::field("r"), Some(&wire)).unwrap();
        assert_eq!(resources(&parsed), wire);
    }
}
