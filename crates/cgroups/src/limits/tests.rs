use std::path::Path;

use model::{Class, Classified as _};
use runtime_spec::{BlockIo, Cpu, HugepageLimit, Memory, Pids, ThrottleDevice};
use rustix::io::Errno;

use super::*;
use crate::cgroup::testing::{legacy, unified};

const LEGACY: [(&str, &str); 13] = [
    ("cpu.shares", "1024"),
    ("cpu.cfs_period_us", "100000"),
    ("cpu.cfs_quota_us", "-1"),
    ("cpuset.cpus", "0-3"),
    ("cpuset.mems", "0"),
    ("memory.limit_in_bytes", "1000"),
    ("memory.memsw.limit_in_bytes", "2000"),
    ("memory.soft_limit_in_bytes", "0"),
    ("pids.max", "max"),
    ("blkio.bfq.weight", "100"),
    ("blkio.throttle.read_bps_device", ""),
    ("blkio.throttle.write_iops_device", ""),
    ("hugetlb.2MB.limit_in_bytes", "0"),
];
const UNIFIED: [(&str, &str); 13] = [
    ("cpu.weight", "100"),
    ("cpu.max", "max 100000"),
    ("cpuset.cpus", ""),
    ("cpuset.mems", ""),
    ("memory.max", "1000"),
    ("memory.low", "0"),
    ("memory.high", "max"),
    ("memory.swap.max", "max"),
    ("pids.max", "max"),
    ("io.weight", "default 100"),
    ("io.max", ""),
    ("hugetlb.2MB.max", "max"),
    ("hugetlb.2MB.rsvd.max", "max"),
];

/// The names and values that are written, in order.
fn written(cgroup: &Cgroup, resources: &Resources) -> Result<Vec<(String, String)>, CgroupError> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    Ok(plan(cgroup, resources)?.writes.iter().map(|w| (name(&w.path), w.value.clone())).collect())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(f, v)| ((*f).to_owned(), (*v).to_owned())).collect()
}

fn memory(limit: Option<i64>, swap: Option<i64>) -> Resources {
    Resources { memory: Some(Memory { limit, swap, ..Memory::default() }), ..Resources::default() }
}

fn everything() -> Resources {
    Resources {
        cpu: Some(Cpu {
            shares: Some(2),
            quota: Some(50_000),
            period: Some(100_000),
            cpus: "0-1".to_owned(),
            mems: "0".to_owned(),
            idle: None,
        }),
        memory: Some(Memory {
            limit: Some(500),
            swap: Some(700),
            reservation: Some(100),
            disable_oom_killer: None,
        }),
        pids: Some(Pids { limit: 7 }),
        block_io: Some(BlockIo {
            weight: Some(500),
            throttle_read_bps_device: vec![ThrottleDevice { major: 8, minor: 0, rate: 4096 }],
            throttle_write_iops_device: vec![ThrottleDevice { major: 8, minor: 16, rate: 0 }],
            ..BlockIo::default()
        }),
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 9 }],
        ..Resources::default()
    }
}

#[test]
fn every_field_has_its_file_in_both_versions() {
    let (_dir, cgroup) = legacy(&LEGACY);
    assert_eq!(
        written(&cgroup, &everything()).unwrap(),
        pairs(&[
            ("cpu.shares", "2"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("memory.limit_in_bytes", "500"),
            ("memory.memsw.limit_in_bytes", "700"),
            ("memory.soft_limit_in_bytes", "100"),
            ("pids.max", "7"),
            ("blkio.bfq.weight", "500"),
            ("blkio.throttle.read_bps_device", "8:0 4096"),
            ("blkio.throttle.write_iops_device", "8:16 0"),
            ("hugetlb.2MB.limit_in_bytes", "9"),
        ])
    );
    let (_dir, cgroup) = unified(&UNIFIED);
    let mut resources = everything();
    resources.unified = [("memory.high".to_owned(), "400".to_owned())].into();
    assert_eq!(
        written(&cgroup, &resources).unwrap(),
        pairs(&[
            ("cpu.weight", "1"),
            ("cpu.max", "50000 100000"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("memory.swap.max", "200"),
            ("memory.max", "500"),
            ("memory.low", "100"),
            ("pids.max", "7"),
            ("io.weight", "4950"),
            ("io.max", "8:0 rbps=4096"),
            ("io.max", "8:16 wiops=max"),
            ("hugetlb.2MB.max", "9"),
            ("hugetlb.2MB.rsvd.max", "9"),
            ("memory.high", "400"),
        ])
    );
    apply(&cgroup, &resources).unwrap();
    let (_dir, cgroup) = unified(&[]);
    assert_eq!(written(&cgroup, &Resources::default()).unwrap(), []);
}

#[test]
fn memory_and_memsw_are_written_in_the_order_that_the_kernel_allows() {
    // There is a limit of 1000, and 2000 with swap.
    const LIMIT: &str = "memory.limit_in_bytes";
    const BOTH: &str = "memory.memsw.limit_in_bytes";
    for (limit, swap, expected) in [
        (Some(500), Some(500), &[(LIMIT, "500"), (BOTH, "500")][..]),
        (Some(1500), Some(1500), &[(LIMIT, "1500"), (BOTH, "1500")]),
        (Some(2000), Some(2000), &[(LIMIT, "2000"), (BOTH, "2000")]),
        (Some(3000), Some(3000), &[(BOTH, "3000"), (LIMIT, "3000")]),
        (Some(-1), Some(-1), &[(BOTH, "-1"), (LIMIT, "-1")]),
        (Some(-1), None, &[(BOTH, "-1"), (LIMIT, "-1")]),
        (Some(1500), None, &[(LIMIT, "1500")]),
        (None, Some(5000), &[(BOTH, "5000")]),
    ] {
        let (_dir, cgroup) = legacy(&LEGACY);
        let found = written(&cgroup, &memory(limit, swap)).unwrap();
        assert_eq!(found, pairs(expected), "{limit:?} {swap:?}");
    }
    let without: Vec<_> = LEGACY.into_iter().filter(|(file, _)| *file != BOTH).collect();
    let (_dir, cgroup) = legacy(&without);
    assert_eq!(written(&cgroup, &memory(Some(-1), None)).unwrap(), pairs(&[(LIMIT, "-1")]));
    assert_eq!(written(&cgroup, &memory(None, Some(-1))).unwrap(), []);
    assert!(written(&cgroup, &memory(Some(5), Some(5))).is_err());
}

#[test]
fn swap_of_v2_is_what_both_have_beyond_memory() {
    for (limit, swap, expected) in [
        (Some(500), Some(500), &[("memory.swap.max", "0"), ("memory.max", "500")][..]),
        (Some(500), Some(600), &[("memory.swap.max", "100"), ("memory.max", "500")]),
        (Some(500), Some(-1), &[("memory.swap.max", "max"), ("memory.max", "500")]),
        (Some(-1), Some(-1), &[("memory.swap.max", "max"), ("memory.max", "max")]),
        (Some(500), None, &[("memory.max", "500")]),
        // The limit of 1000 stays.
        (None, Some(1200), &[("memory.swap.max", "200")]),
    ] {
        let (_dir, cgroup) = unified(&UNIFIED);
        let found = written(&cgroup, &memory(limit, swap)).unwrap();
        assert_eq!(found, pairs(expected), "{limit:?} {swap:?}");
    }
    let (_dir, cgroup) = unified(&UNIFIED);
    for (limit, swap) in [(Some(500), Some(400)), (Some(-1), Some(400)), (None, Some(900))] {
        let error = plan(&cgroup, &memory(limit, swap)).unwrap_err();
        assert!(matches!(error, CgroupError::BadLimit { .. }), "{error}");
    }
    let (_dir, no_swap) = unified(&[("memory.max", "max")]);
    let only = pairs(&[("memory.max", "5")]);
    assert_eq!(written(&no_swap, &memory(Some(5), Some(5))).unwrap(), only);
    assert!(plan(&no_swap, &memory(Some(5), Some(6))).is_err());
}

#[test]
fn a_quota_or_a_period_alone_leaves_the_other() {
    let cpu = |quota, period| Resources {
        cpu: Some(Cpu { quota, period, ..Cpu::default() }),
        ..Resources::default()
    };
    for (now, quota, period, expected) in [
        ("max 100000", Some(20_000), None, "20000 100000"),
        ("20000 50000", None, Some(100_000), "20000 100000"),
        ("20000 50000", Some(-1), None, "max 50000"),
        ("20000 50000", Some(0), Some(1000), "max 1000"),
    ] {
        let (_dir, cgroup) = unified(&[("cpu.max", now)]);
        let found = written(&cgroup, &cpu(quota, period)).unwrap();
        assert_eq!(found, pairs(&[("cpu.max", expected)]));
    }
    let (_dir, cgroup) = legacy(&LEGACY);
    let found = written(&cgroup, &cpu(Some(0), None)).unwrap();
    assert_eq!(found, pairs(&[("cpu.cfs_quota_us", "-1")]));
}

#[test]
fn shares_and_weights_meet_at_the_ends_and_at_the_defaults() {
    let weight = shares_to_weight;
    for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (999_999, 10_000)] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
    let weights: Vec<u64> = (1..=18).map(|bit| weight(1 << bit)).collect();
    assert!(weights.windows(2).all(|pair| pair[0] <= pair[1]), "{weights:?}");
    for (weight, expected) in [(0, 2), (1, 2), (100, 1024), (10_000, 262_144), (20_000, 262_144)] {
        assert_eq!(weight_to_shares(weight), expected, "{weight}");
    }
    // There and back is the same weight, or, where it was rounded up, the one beside it.
    for wanted in 1..=10_000 {
        let back = weight(weight_to_shares(wanted));
        assert!(back.abs_diff(wanted) <= 1 + wanted / 500, "{wanted} is {back}");
    }
}

#[test]
fn a_number_below_minus_one_is_no_limit_and_named() {
    let refused = |resources: &Resources| check(resources).unwrap_err().to_string();
    assert!(refused(&memory(Some(-7), None)).starts_with("memory.limit: -7 "));
    assert!(refused(&memory(Some(5), Some(i64::MIN))).starts_with("memory.swap: "));
    let quota = Some(Cpu { quota: Some(-2), ..Cpu::default() });
    assert!(refused(&Resources { cpu: quota, ..Resources::default() }).starts_with("cpu.quota: "));
    let pids = Some(Pids { limit: -3 });
    assert!(refused(&Resources { pids, ..Resources::default() }).starts_with("pids.limit: "));
    check(&memory(Some(-1), Some(-1))).unwrap();
    check(&everything()).unwrap();
}

#[test]
fn what_the_kernel_refuses_is_told_by_its_field() {
    let dir = tempfile::tempdir().unwrap();
    let one = Write {
        what: "cpu.cpus".to_owned(),
        path: dir.path().join("gone/cpuset.cpus"),
        value: "0-99".to_owned(),
    };
    let told = one.carry_out().unwrap_err().to_string();
    assert!(told.starts_with("cpu.cpus is \"0-99\": refused by "), "{told}");
    let limit = |errno: Errno| {
        let source = errno.into();
        let (what, value, path) = (one.what.clone(), one.value.clone(), one.path.clone());
        CgroupError::Limit { what, value, path, source }.class()
    };
    assert_eq!(limit(Errno::RANGE), Class::InvalidArgument);
    assert_eq!(limit(Errno::ACCESS), Class::InvalidArgument);
    assert_eq!(limit(Errno::BUSY), Class::FailedPrecondition);
}

#[test]
fn what_this_machine_cannot_limit_is_said_with_the_file_it_lacks() {
    let (dir, cgroup) = unified(&[]);
    let text = plan(&cgroup, &memory(Some(5), None)).unwrap_err().to_string();
    let place = dir.path().display().to_string();
    assert!(text.contains("memory.limit") && text.contains(&place), "{text}");
    let (_dir, old) = legacy(&LEGACY);
    let keys = |name: &str| Resources {
        unified: [(name.to_owned(), "1".to_owned())].into(),
        ..Resources::default()
    };
    let text = plan(&old, &keys("memory.high")).unwrap_err().to_string();
    assert!(text.contains("unified.memory.high") && text.contains("cgroup v2"), "{text}");
    for bad in ["cgroup.procs", "../memory.max", "memory", "a/b.c", "memory..max"] {
        let error = plan(&unified(&UNIFIED).1, &keys(bad)).unwrap_err();
        assert!(matches!(error, CgroupError::BadLimit { .. }), "{bad}: {error}");
    }
    let absent = |limit| Resources {
        hugepage_limits: vec![HugepageLimit { page_size: "1GB".to_owned(), limit }],
        ..Resources::default()
    };
    assert_eq!(written(&old, &absent(0)).unwrap(), []);
    assert!(matches!(plan(&old, &absent(1)), Err(CgroupError::Unsupported { .. })));
    let page_size = "../2MB".to_owned();
    let huge = Resources {
        hugepage_limits: vec![HugepageLimit { page_size, limit: 1 }],
        ..Resources::default()
    };
    assert!(matches!(plan(&old, &huge), Err(CgroupError::BadLimit { .. })));
    let oom = Resources {
        memory: Some(Memory { disable_oom_killer: Some(true), ..Memory::default() }),
        ..Resources::default()
    };
    assert!(plan(&unified(&UNIFIED).1, &oom).is_err());
}
