//! Metrics of pods and containers, by which a node does without cAdvisor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cri_api::v1::{
    ContainerStatsFilter, LinuxContainerResources, ListContainerStatsRequest,
    ListMetricDescriptorsRequest, ListPodSandboxMetricsRequest, ListPodSandboxStatsRequest, Metric,
    PodSandboxMetrics, StopPodSandboxRequest, StreamContainerStatsRequest,
};
use testkit::{Daemon, Network, until};

use crate::around::{around, with_pod};

const PATIENCE: Duration = Duration::from_secs(20);

/// What critest of cri-tools waits for: first whatever the machine, then where the kernel counts it.
const CRITEST: &str = include_str!("../../../crates/cri-server/src/metrics/critest.txt");

/// The names below each of its two headings.
fn expected() -> [Vec<&'static str>; 2] {
    let mut parts = CRITEST.split_terminator("# ").skip(1);
    let mut names = || parts.next().unwrap().lines().skip(1).collect::<Vec<_>>();
    let both = [names(), names()];
    assert!(both.iter().all(|names| !names.is_empty()) && parts.next().is_none());
    both
}

async fn metrics(daemon: &Daemon) -> Vec<PodSandboxMetrics> {
    let answer = daemon.runtime().list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await;
    answer.unwrap().into_inner().pod_metrics
}

/// The keys of the labels of each metric.
async fn labels(daemon: &Daemon) -> BTreeMap<String, Vec<String>> {
    let answer = daemon.runtime().list_metric_descriptors(ListMetricDescriptorsRequest {}).await;
    let all = answer.unwrap().into_inner().descriptors;
    all.into_iter().map(|one| (one.name, one.label_keys)).collect()
}

fn value(metrics: &[Metric], name: &str) -> u64 {
    let found = metrics.iter().find(|metric| metric.name == name);
    found.unwrap_or_else(|| panic!("{name} is not in {metrics:?}")).value.unwrap().value
}

#[tokio::test]
async fn a_node_has_all_metrics_that_cri_tools_waits_for_with_values_that_are_true() {
    let around = around(|setup| setup.network(Network::Bridge)).await;
    let daemon = &around.daemon;
    let pod = testkit::pod(daemon, "pod");
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let script = "nc -l -p 7777 & exec 7</dev/null 8</dev/null; echo ready; wait";
    let mut limited = testkit::container("limited", &around.image, &["sh", "-c", script]);
    limited.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        cpu_period: 100_000,
        cpu_quota: 20_000,
        cpu_shares: 300,
        memory_limit_in_bytes: 64 << 20,
        memory_swap_limit_in_bytes: 64 << 20,
        ..Default::default()
    });
    let limited = daemon.launch(&pod_id, &pod, &limited).await.unwrap();
    let free = testkit::sleeper("free", &around.image);
    let free = daemon.launch(&pod_id, &pod, &free).await.unwrap();

    let labels = labels(daemon).await;
    let [everywhere, where_counted] = expected();
    for name in everywhere.iter().chain(&where_counted) {
        assert!(labels.contains_key(*name), "{name} is not described");
    }
    let (of_pod, limited, free) = until("both shells have begun", PATIENCE, async || {
        let all = metrics(daemon).await.into_iter().find(|one| one.pod_sandbox_id == pod_id)?;
        let of = |id: &str| {
            let one = all.container_metrics.iter().find(|one| one.container_id == id);
            one.map(|one| one.metrics.clone())
        };
        let (limited, free) = (of(&limited)?, of(&free)?);
        let is_up =
            value(&limited, "container_sockets") >= 1 && value(&free, "container_processes") == 2;
        is_up.then(|| (all.metrics.clone(), limited, free))
    })
    .await;
    let mut measured = BTreeSet::new();
    for metric in of_pod.iter().chain(&limited).chain(&free) {
        assert_eq!(labels[&metric.name].len(), metric.label_values.len(), "{metric:?}");
        measured.insert(metric.name.as_str());
    }
    for name in everywhere {
        assert!(measured.contains(name), "{name} is not measured");
    }

    for (name, of_limited, of_free) in [
        ("container_spec_cpu_period", 100_000, 100_000),
        ("container_spec_cpu_shares", 300, 1024),
        ("container_spec_memory_limit_bytes", 64 << 20, 0),
        ("container_processes", 2, 2),
        ("container_oom_events_total", 0, 0),
    ] {
        assert_eq!((value(&limited, name), value(&free, name)), (of_limited, of_free), "{name}");
    }
    assert_eq!(value(&limited, "container_spec_cpu_quota"), 20_000);
    assert!(!free.iter().any(|metric| metric.name == "container_spec_cpu_quota"), "no quota");
    assert!(value(&limited, "container_file_descriptors") >= 8, "two shells' and two more");
    let limits = daemon.exec(&container_of(&limited), &["sh", "-c", "ulimit -Sn"]).await.unwrap();
    let files = String::from_utf8(limits.stdout.to_vec()).unwrap();
    let files = files.trim().parse().unwrap_or(u64::MAX);
    assert_eq!(value(&limited, "container_ulimits_soft"), files);
    for name in ["container_fs_limit_bytes", "container_fs_inodes_total"] {
        assert!(value(&free, name) > 0, "{name}");
    }
    assert!(value(&of_pod, "container_processes") >= 3);
    assert!(value(&of_pod, "container_start_time_seconds") > 1_600_000_000);
    for name in ["container_spec_cpu_shares", "container_spec_memory_limit_bytes"] {
        value(&of_pod, name);
    }
    let scopes: BTreeSet<&str> = limited
        .iter()
        .filter(|metric| metric.name == "container_memory_failures_total")
        .map(|metric| metric.label_values.last().unwrap().as_str())
        .collect();
    assert_eq!(scopes, BTreeSet::from(["container", "hierarchy"]));
}

/// The id of the container that metrics are of.
fn container_of(metrics: &[Metric]) -> String {
    metrics[0].label_values[3].clone()
}

#[tokio::test]
async fn a_process_that_is_killed_for_want_of_memory_is_counted() {
    let with = with_pod().await;
    let script = "head -c 200000000 /dev/zero | tail | wc -c; echo over; sleep 1000";
    let mut container = with.script("main", script);
    container.linux.as_mut().unwrap().resources = Some(LinuxContainerResources {
        memory_limit_in_bytes: 32 << 20,
        memory_swap_limit_in_bytes: 32 << 20,
        ..Default::default()
    });
    with.launch(&container).await;
    // On v2 the whole container is killed; the pod has it then.
    until("it is counted", PATIENCE, async || {
        let all = metrics(with.daemon()).await;
        let all = all.iter().find(|one| one.pod_sandbox_id == with.pod_id)?;
        (value(&all.metrics, "container_oom_events_total") >= 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_has_ended_is_in_no_list_of_numbers() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let (over, _) = with.run(&with.script("over", "true")).await;
    let runs = with.launch(&testkit::sleeper("runs", &with.around.image)).await;
    let by_id = ContainerStatsFilter { id: over.id.clone(), ..Default::default() };
    let filters = [None, Some(ContainerStatsFilter::default()), Some(by_id)];
    for (filter, wanted) in filters.into_iter().zip([vec![&runs], vec![&runs], vec![]]) {
        let request = ListContainerStatsRequest { filter: filter.clone() };
        let list = daemon.runtime().list_container_stats(request).await.unwrap().into_inner().stats;
        let request = StreamContainerStatsRequest { filter };
        let mut parts =
            daemon.runtime().stream_container_stats(request).await.unwrap().into_inner();
        let mut streamed = Vec::new();
        while let Some(part) = parts.message().await.unwrap() {
            streamed.extend(part.container_stats);
        }
        for all in [list, streamed] {
            let ids: Vec<String> =
                all.into_iter().map(|stats| stats.attributes.unwrap().id).collect();
            assert_eq!(ids.iter().collect::<Vec<_>>(), wanted);
        }
    }
    let of_pods = async || {
        let request = ListPodSandboxStatsRequest { filter: None };
        daemon.runtime().list_pod_sandbox_stats(request).await.unwrap().into_inner().stats
    };
    let of_pod = of_pods().await.remove(0).linux.unwrap().containers;
    assert_eq!(of_pod.len(), 1);
    let all = metrics(daemon).await;
    assert_eq!(all[0].container_metrics.len(), 1);
    assert_eq!(all[0].container_metrics[0].container_id, runs);

    let request = StopPodSandboxRequest { pod_sandbox_id: with.pod_id.clone() };
    daemon.runtime().stop_pod_sandbox(request).await.unwrap();
    assert!(of_pods().await.is_empty() && metrics(daemon).await.is_empty());
    // Asked for by its id alone it has what is still known.
    let request = cri_api::v1::ContainerStatsRequest { container_id: over.id };
    let asked = daemon.runtime().container_stats(request).await;
    assert!(asked.is_ok_and(|answer| answer.into_inner().stats.is_some()), "it is no error");
}
