//! Limits of a container or a pod (CRI `LinuxContainerResources`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits as the caller gave them; `None` means "not said", which leaves the kernel's default, or
/// in an update what was there before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Length of a CPU bandwidth period, in microseconds (1,000 to 1,000,000).
    pub cpu_period: Option<u64>,
    /// CPU time allowed in a period, in microseconds; negative means no limit.
    pub cpu_quota: Option<i64>,
    /// Relative weight, 2 to 262,144.
    pub cpu_shares: Option<u64>,
    /// Memory limit in bytes; negative means no limit.
    pub memory_limit: Option<i64>,
    /// Limit of memory and swap together in bytes; negative means no limit.
    pub memory_swap_limit: Option<i64>,
    /// OOM score adjustment, −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs, in the list format of cpuset(7), for example `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes, in the same format.
    pub cpuset_mems: Option<String>,
    /// Limits of huge pages.
    pub hugepages: Vec<HugepageLimit>,
    /// Files of the cgroup v2 hierarchy by name, written as they are.
    pub unified: BTreeMap<String, String>,
}

impl Resources {
    /// Takes from `newer` what it says, and keeps the rest.
    pub fn merge(&mut self, newer: &Self) {
        fn take<T: Clone>(old: &mut Option<T>, new: &Option<T>) {
            if new.is_some() {
                old.clone_from(new);
            }
        }
        take(&mut self.cpu_period, &newer.cpu_period);
        take(&mut self.cpu_quota, &newer.cpu_quota);
        take(&mut self.cpu_shares, &newer.cpu_shares);
        take(&mut self.memory_limit, &newer.memory_limit);
        take(&mut self.memory_swap_limit, &newer.memory_swap_limit);
        take(&mut self.oom_score_adj, &newer.oom_score_adj);
        take(&mut self.cpuset_cpus, &newer.cpuset_cpus);
        take(&mut self.cpuset_mems, &newer.cpuset_mems);
        for limit in &newer.hugepages {
            match self.hugepages.iter_mut().find(|h| h.page_size == limit.page_size) {
                Some(old) => old.limit = limit.limit,
                None => self.hugepages.push(limit.clone()),
            }
        }
        self.unified.extend(newer.unified.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

/// How much memory of one huge page size may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HugepageLimit {
    /// The size as the kernel writes it in file names, for example `2MB`.
    pub page_size: String,
    /// Bytes.
    pub limit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_changes_what_it_names_and_keeps_the_rest() {
        let mut have = Resources {
            cpu_shares: Some(512),
            memory_limit: Some(64 << 20),
            hugepages: vec![HugepageLimit { page_size: "2MB".into(), limit: 0 }],
            unified: [("memory.high".to_owned(), "1".to_owned())].into(),
            ..Resources::default()
        };
        have.merge(&Resources {
            memory_limit: Some(128 << 20),
            hugepages: vec![
                HugepageLimit { page_size: "2MB".into(), limit: 4 },
                HugepageLimit { page_size: "1GB".into(), limit: 5 },
            ],
            unified: [("memory.low".to_owned(), "2".to_owned())].into(),
            ..Resources::default()
        });
        assert_eq!(have.cpu_shares, Some(512));
        assert_eq!(have.memory_limit, Some(128 << 20));
        assert_eq!(have.hugepages.iter().map(|h| h.limit).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(have.unified.len(), 2);
    }
}
