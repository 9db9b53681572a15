//! Limits of a pod as a whole. Pure.

use model::Resources;

/// What a pod may use: what its containers may, and what the pod costs beyond them. A limit that one of the
/// two does not have is the other's; without a limit for the containers there is none for the pod.
pub(super) fn of_pod(overhead: &Resources, containers: &Resources) -> Resources {
    let more = |have: Option<i64>, extra: Option<i64>| match (have, extra) {
        (Some(have), Some(extra)) if have > 0 && extra > 0 => Some(have.saturating_add(extra)),
        (have, _) => have,
    };
    let mut all = containers.clone();
    all.memory_limit = more(containers.memory_limit, overhead.memory_limit);
    all.memory_swap_limit = more(containers.memory_swap_limit, overhead.memory_limit);
    let shares = (containers.cpu_shares, overhead.cpu_shares);
    all.cpu_shares = match shares {
        (Some(have), Some(extra)) => Some(have.saturating_add(extra)),
        (have, extra) => have.or(extra),
    };
    let extra = overhead.cpu_quota.filter(|quota| *quota > 0).map(|quota| {
        let period = |r: &Resources| r.cpu_period.filter(|p| *p > 0).unwrap_or(100_000);
        let scaled = i128::from(quota) * i128::from(period(containers));
        i64::try_from(scaled / i128::from(period(overhead))).unwrap_or(i64::MAX)
    });
    all.cpu_quota = more(containers.cpu_quota, extra);
    // The score is a process's, not a cgroup's.
    all.oom_score_adj = None;
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overhead_is_added_to_what_the_containers_may_use() {
        let containers = Resources {
            cpu_period: Some(100_000),
            cpu_quota: Some(50_000),
            cpu_shares: Some(512),
            memory_limit: Some(100 << 20),
            oom_score_adj: Some(5),
            ..Resources::default()
        };
        let overhead = Resources {
            cpu_period: Some(50_000),
            cpu_quota: Some(5_000),
            cpu_shares: Some(100),
            memory_limit: Some(20 << 20),
            ..Resources::default()
        };
        let pod = of_pod(&overhead, &containers);
        assert_eq!(pod.memory_limit, Some(120 << 20));
        assert_eq!(pod.cpu_quota, Some(60_000), "the overhead's quota in the pod's period");
        assert_eq!(pod.cpu_shares, Some(612));
        assert_eq!(pod.oom_score_adj, None);
    }

    #[test]
    fn a_pod_whose_containers_have_no_limit_has_none() {
        let overhead =
            Resources { memory_limit: Some(5), cpu_quota: Some(7), ..Resources::default() };
        for unlimited in [None, Some(0), Some(-1)] {
            let containers =
                Resources { memory_limit: unlimited, cpu_quota: unlimited, ..Resources::default() };
            let pod = of_pod(&overhead, &containers);
            assert_eq!((pod.memory_limit, pod.cpu_quota), (unlimited, unlimited));
        }
    }
}
