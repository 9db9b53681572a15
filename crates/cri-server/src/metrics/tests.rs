//! Names, labels and values.

use std::collections::BTreeSet;

use pods::{FileSystem, IoStats, MemoryStats, More, PidsStats, Processes, Stats};

use super::*;

/// What critest of cri-tools waits for, below headings.
const EXPECTED: &str = include_str!("critest.txt");

fn expected() -> impl Iterator<Item = &'static str> {
    EXPECTED.lines().filter(|line| !line.starts_with('#'))
}

/// Statistics in which the kernel says everything.
fn everything() -> Usage {
    let stats = Stats {
        cpu: Some(Default::default()),
        cpu_limits: Some(pods::CpuLimits {
            shares: 512,
            period_us: Some(100_000),
            quota_us: Some(50_000),
        }),
        memory: Some(MemoryStats {
            peak: Some(7),
            own_page_faults: 1,
            page_faults: 3,
            kills: 2,
            ..MemoryStats::default()
        }),
        pids: Some(PidsStats { current: 4, limit: None }),
        io: vec![IoStats {
            major: 8,
            minor: 1,
            read_bytes: 5,
            written_bytes: 6,
            ..IoStats::default()
        }],
        hugetlb: vec![pods::HugetlbStats { peak: Some(1), ..Default::default() }],
        cpu_pressure: Some(Default::default()),
        memory_pressure: Some(Default::default()),
        io_pressure: Some(Default::default()),
    };
    let usage = pods::DiskUsage { bytes: 100, inodes: 10 };
    let more = More {
        devices: vec!["/dev/sda1".to_owned()],
        processes: Some(Processes {
            count: 3,
            descriptors: Some(pods::Descriptors { all: 9, sockets: 2 }),
            max_open_files: Some(1024),
        }),
        space: Some(FileSystem {
            device: "/dev/sdb".to_owned(),
            capacity: usage,
            available: usage,
        }),
    };
    let writable = Some(pods::Measured { usage, at: Timestamp(4) });
    Usage { at: Timestamp(5), cgroup: Some(stats), writable, cpu_rate: None, more }
}

fn measured(usage: &Usage, whose: Whose, asked_shares: Option<u64>) -> Vec<v1::Metric> {
    let interfaces = [InterfaceStats { name: "eth0".into(), ..InterfaceStats::default() }];
    let started_at = Some(Timestamp(2_000_000_000));
    let sample = Sample { usage, interfaces: &interfaces, started_at, asked_shares };
    values(&sample, whose, &LABELS.map(str::to_owned))
}

#[test]
fn every_metric_has_a_descriptor_with_as_many_labels() {
    let described = descriptors(true).descriptors;
    let mut seen = BTreeSet::new();
    for whose in [Whose::Pod, Whose::Container] {
        for metric in measured(&everything(), whose, None) {
            let descriptor = described.iter().find(|d| d.name == metric.name).unwrap();
            let keys = descriptor.label_keys.len();
            assert_eq!(keys, metric.label_values.len(), "{}", metric.name);
            seen.insert(metric.name);
        }
    }
    let all: BTreeSet<String> = described.into_iter().map(|one| one.name).collect();
    assert_eq!(seen, all, "what is described is measured where the kernel says everything");
    for name in expected() {
        assert!(all.contains(name), "{name} is missing");
    }
}

#[test]
fn values_have_the_labels_of_cadvisor() {
    let metrics = measured(&everything(), Whose::Container, None);
    let of = |name: &str| -> Vec<(Vec<&str>, u64)> {
        let all = metrics.iter().filter(|metric| metric.name == name);
        all.map(|metric| {
            let own = metric.label_values[LABELS.len()..].iter().map(String::as_str);
            (own.collect(), metric.value.unwrap().value)
        })
        .collect()
    };
    let faults = [("pgfault", "container", 1), ("pgmajfault", "container", 0)];
    let faults = faults.into_iter().chain([("pgfault", "hierarchy", 3)]);
    for (kind, scope, count) in faults.chain([("pgmajfault", "hierarchy", 0)]) {
        let found = of("container_memory_failures_total");
        assert!(found.contains(&(vec![kind, scope], count)), "{found:?}");
    }
    let read = (vec!["/dev/sda1", "8", "1", "Read"], 5);
    let write = (vec!["/dev/sda1", "8", "1", "Write"], 6);
    assert_eq!(of("container_blkio_device_usage_total"), [read, write]);
    assert_eq!(of("container_fs_reads_bytes_total"), [(vec!["/dev/sda1"], 5)]);
    assert_eq!(of("container_fs_usage_bytes"), [(vec!["/dev/sdb"], 100)]);
    assert_eq!(of("container_fs_inodes_free"), [(vec!["/dev/sdb"], 10)]);
    assert_eq!(of("container_ulimits_soft"), [(vec!["max_open_files"], 1024)]);
    for (name, value) in [
        ("container_oom_events_total", 2),
        ("container_processes", 3),
        ("container_file_descriptors", 9),
        ("container_sockets", 2),
        ("container_threads_max", 0),
        ("container_spec_memory_limit_bytes", 0),
        ("container_spec_memory_swap_limit_bytes", 0),
        ("container_spec_cpu_quota", 50_000),
        ("container_spec_cpu_shares", 512),
        ("container_start_time_seconds", 2),
    ] {
        assert_eq!(of(name), [(vec![], value)], "{name}");
    }
    let asked = measured(&everything(), Whose::Container, Some(300));
    let shares = asked.iter().find(|one| one.name == "container_spec_cpu_shares").unwrap();
    assert_eq!(shares.value.unwrap().value, 300);
}

#[test]
fn names_are_unique_and_described() {
    let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(FAMILIES.iter().all(|family| family.help.ends_with('.')));
    let without: Vec<_> = descriptors(false).descriptors;
    assert_eq!(without.len(), count - 1, "without huge pages nothing can run out of them");
}

#[test]
fn what_the_kernel_does_not_say_is_left_out() {
    let more = More::default();
    let usage = Usage { at: Timestamp(5), cgroup: None, writable: None, cpu_rate: None, more };
    let metrics = measured(&usage, Whose::Container, None);
    let names: Vec<&str> = metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["container_start_time_seconds", "container_last_seen"]);
}
