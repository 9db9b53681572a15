//! What containers and pods use.

use std::collections::BTreeSet;

use cri_api::v1::*;

use super::sandbox::NOBODY;
use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::{Context, Pod};
use crate::rpc::drained;

cases! { "stats":
    "attributes" Api Api ["ContainerStats", "ContainerStatsResponse.stats",
            "ContainerStats.attributes", "ContainerAttributes.id", "ContainerAttributes.metadata",
            "ContainerAttributes.labels", "ContainerAttributes.annotations"]
        "Figures say whose they are: id, metadata, labels, annotations." => attributes();
    "cpu" Api Kubelet ["ContainerStats", "ContainerStats.cpu", "CpuUsage.timestamp",
            "CpuUsage.usage_core_nano_seconds"]
        "The CPU time of a container that runs has a time." => cpu();
    "cpu-grows" Linux Kubelet ["ContainerStats", "CpuUsage.usage_core_nano_seconds"]
        "The CPU time of a program that works grows." => cpu_grows();
    "cpu-rate" Linux Kubelet ["ContainerStats", "CpuUsage.usage_nano_cores"]
        "A rate of the CPU is told once there were two looks." => cpu_rate();
    "memory" Api Kubelet ["ContainerStats", "ContainerStats.memory",
            "MemoryUsage.working_set_bytes", "MemoryUsage.timestamp"]
        "The working set of a container that runs has a time." => memory();
    "memory-of-a-program" Linux Kubelet ["ContainerStats", "MemoryUsage.usage_bytes",
            "MemoryUsage.rss_bytes", "MemoryUsage.page_faults"]
        "A program that holds 20 MiB uses them." => memory_grows();
    "memory-available" Linux Kubelet ["ContainerStats", "MemoryUsage.available_bytes"]
        "With a limit, what is available is told, and no more than the limit." => available();
    "writable-layer" Linux Kubelet ["ContainerStats", "ContainerStats.writable_layer",
            "FilesystemUsage.used_bytes"]
        "What a container writes to its root is counted." => writable_layer();
    "times-go-on" Api Kubelet ["ContainerStats", "CpuUsage.timestamp"]
        "The time of figures never goes back." => times();
    "created-is-no-error" Api Kubelet ["ContainerStats"]
        "Figures of a container that is yet to start are no server error." => of_created();
    "list-has-running" Api Api ["ListContainerStats", "ListContainerStatsResponse.stats"]
        "The list has every container that runs, once." => list_all(Way::List);
    "list-by-id" Api Api ["ListContainerStats", "ContainerStatsFilter.id",
            "ListContainerStatsRequest.filter"]
        "A filter by id gives the one container's." => list_by_id(Way::List);
    "list-by-pod" Api Api ["ListContainerStats", "ContainerStatsFilter.pod_sandbox_id"]
        "A filter by sandbox gives its containers'." => list_by_pod(Way::List);
    "list-by-label" Api Api ["ListContainerStats", "ContainerStatsFilter.label_selector"]
        "A filter by label gives those that have it." => list_by_label(Way::List);
    "list-by-unknown" Api Api ["ListContainerStats", "ContainerStatsFilter.id"]
        "An unknown id gives an empty list." => list_by_unknown(Way::List);
    "list-without-ended" Api Api ["ListContainerStats", "ListContainerStatsResponse.stats"]
        "The list has no CPU time or memory of a container that has ended." => list_without_ended(Way::List);
    "stream-has-running" Api Api ["StreamContainerStats", "StreamContainerStatsRequest.filter",
            "StreamContainerStatsResponse.container_stats"]
        "The stream has every container that runs, once." => list_all(Way::Stream);
    "stream-without-ended" Api Api ["StreamContainerStats",
            "StreamContainerStatsResponse.container_stats"]
        "The stream has no CPU time or memory of a container that has ended." => list_without_ended(Way::Stream);
    "stream-by-pod" Api Api ["StreamContainerStats", "ContainerStatsFilter.pod_sandbox_id"]
        "Streamed by sandbox, its containers' come." => list_by_pod(Way::Stream);
    "stream-by-unknown" Api Api ["StreamContainerStats", "ContainerStatsFilter.id"]
        "Streamed by an unknown id, nothing comes." => list_by_unknown(Way::Stream);
    "pod-attributes" Api Api ["PodSandboxStats", "PodSandboxStatsResponse.stats",
            "PodSandboxStats.attributes", "PodSandboxAttributes.id", "PodSandboxAttributes.metadata",
            "PodSandboxAttributes.labels", "PodSandboxAttributes.annotations"]
        "A pod's figures say whose they are." => pod_attributes();
    "pod-figures" Linux Kubelet ["PodSandboxStats", "PodSandboxStats.linux",
            "LinuxPodSandboxStats.cpu", "LinuxPodSandboxStats.memory", "LinuxPodSandboxStats.process",
            "ProcessUsage.process_count"]
        "A pod's figures have CPU, memory and processes." => pod_figures();
    "pod-containers" Api Kubelet ["PodSandboxStats", "LinuxPodSandboxStats.containers"]
        "A pod's figures have those of its containers." => pod_containers();
    "pod-containers-without-ended" Api Kubelet ["PodSandboxStats", "LinuxPodSandboxStats.containers"]
        "A pod's figures have no CPU time or memory of a container that has ended." => pod_without_ended();
    "pod-network" Linux Kubelet ["PodSandboxStats", "LinuxPodSandboxStats.network",
            "NetworkUsage.default_interface", "NetworkInterfaceUsage.name",
            "NetworkInterfaceUsage.rx_bytes", "NetworkInterfaceUsage.tx_bytes"] needs [PodNetwork]
        "A pod's figures have those of its network." => pod_network();
    "pod-list" Api Api ["ListPodSandboxStats", "ListPodSandboxStatsResponse.stats",
            "PodSandboxStatsFilter.label_selector"]
        "The list has every ready pod that the filter fits." => pod_list(Way::List);
    "pod-list-by-id" Api Api ["ListPodSandboxStats", "PodSandboxStatsFilter.id"]
        "A filter by id gives the one pod's." => pod_by_id(Way::List);
    "pod-stream" Api Api ["StreamPodSandboxStats", "StreamPodSandboxStatsRequest.filter",
            "StreamPodSandboxStatsResponse.pod_sandbox_stats"]
        "The stream has every ready pod that the filter fits." => pod_list(Way::Stream);
    "pod-stream-by-id" Api Api ["StreamPodSandboxStats", "PodSandboxStatsFilter.id"]
        "Streamed by id, the one pod's come." => pod_by_id(Way::Stream);
}

#[derive(Clone, Copy)]
enum Way {
    List,
    Stream,
}

async fn of(c: &Context, id: &str) -> Result<ContainerStats, Stop> {
    let request = ContainerStatsRequest { container_id: id.to_owned() };
    let stats = c.rpc.container_stats(request).await?.stats;
    stats.ok_or_else(|| Stop::failed("the answer has no figures"))
}

async fn waiter(c: &Context) -> Result<(Pod, String), Stop> {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    Ok((pod, id))
}

async fn attributes(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.labels = [("a".to_owned(), "1".to_owned())].into();
    config.annotations = [("b".to_owned(), "2".to_owned())].into();
    let id = c.launch(&pod, &config).await?;
    let wanted = ContainerAttributes {
        id: id.clone(),
        metadata: config.metadata,
        labels: config.labels,
        annotations: config.annotations,
    };
    same!("whose they are", of(c, &id).await?.attributes, Some(wanted));
    Ok(())
}

async fn cpu(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c).await?;
    let cpu = of(c, &id).await?.cpu.unwrap_or_default();
    ensure!(cpu.timestamp > 0 && cpu.usage_core_nano_seconds.is_some(), "it is {cpu:?}");
    Ok(())
}

fn nanoseconds(stats: &ContainerStats) -> u64 {
    let cpu = stats.cpu.as_ref();
    cpu.and_then(|cpu| cpu.usage_core_nano_seconds).map_or(0, |used| used.value)
}

async fn cpu_grows(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("while :; do :; done")).await?;
    let first = nanoseconds(&of(c, &id).await?);
    until!("it has grown by 50 ms", {
        (nanoseconds(&of(c, &id).await?) > first + 50_000_000).then_some(())
    });
    Ok(())
}

async fn cpu_rate(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("while :; do :; done")).await?;
    until!("there is a rate", {
        let cpu = of(c, &id).await?.cpu.unwrap_or_default();
        cpu.usage_nano_cores.filter(|rate| rate.value > 0)
    });
    Ok(())
}

async fn memory(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c).await?;
    let memory = of(c, &id).await?.memory.unwrap_or_default();
    ensure!(memory.timestamp > 0 && memory.working_set_bytes.is_some(), "it is {memory:?}");
    Ok(())
}

async fn memory_grows(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let script =
        "x=$(head -c 20971520 /dev/zero | tr '\\000' x); echo ready; sleep 1000; echo ${#x}";
    let id = c.launch(&pod, &c.script(script)).await?;
    until!("it is used", {
        let memory = of(c, &id).await?.memory.unwrap_or_default();
        let used = memory.working_set_bytes.map_or(0, |used| used.value);
        (used >= 20 << 20).then_some(())
    });
    Ok(())
}

async fn available(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    crate::shape::resources(&mut config).memory_limit_in_bytes = 64 << 20;
    let id = c.launch(&pod, &config).await?;
    let found = of(c, &id).await?.memory.unwrap_or_default().available_bytes;
    ensure!(found.is_some_and(|found| (1..=64 << 20).contains(&found.value)), "it is {found:?}");
    Ok(())
}

async fn writable_layer(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c).await?;
    c.exec(&id, &["sh", "-c", "head -c 5242880 /dev/zero > /big; sync"]).await?;
    // It may be looked at from time to time only.
    until!("it is counted", {
        let layer = of(c, &id).await?.writable_layer.unwrap_or_default();
        layer.used_bytes.filter(|used| used.value >= 5 << 20)
    });
    Ok(())
}

async fn times(c: &Context) -> Verdict {
    let (_pod, id) = waiter(c).await?;
    let mut last = 0;
    for _ in 0..5 {
        let at = of(c, &id).await?.cpu.unwrap_or_default().timestamp;
        ensure!(at >= last, "{at} comes after {last}");
        last = at;
    }
    Ok(())
}

async fn of_created(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    let request = ContainerStatsRequest { container_id: id };
    if let Err(status) = c.rpc.container_stats(request).await {
        let ours = [tonic::Code::NotFound, tonic::Code::FailedPrecondition];
        ensure!(ours.contains(&status.code()), "it is {}", crate::case::said(&status));
    }
    Ok(())
}

async fn every(
    c: &Context,
    way: Way,
    filter: Option<ContainerStatsFilter>,
) -> Result<Vec<ContainerStats>, Stop> {
    Ok(match way {
        Way::List => c.rpc.list_container_stats(ListContainerStatsRequest { filter }).await?.stats,
        Way::Stream => {
            let request = StreamContainerStatsRequest { filter };
            let parts = drained(c.rpc.stream_container_stats(request).await?).await?;
            parts.into_iter().flat_map(|part| part.container_stats).collect()
        }
    })
}

async fn list(
    c: &Context,
    way: Way,
    filter: Option<ContainerStatsFilter>,
) -> Result<BTreeSet<String>, Stop> {
    let all = every(c, way, filter).await?;
    let count = all.len();
    let ids: BTreeSet<String> =
        all.into_iter().map(|stats| stats.attributes.unwrap_or_default().id).collect();
    ensure!(ids.len() == count, "a container is there twice");
    Ok(ids)
}

async fn list_all(c: &Context, way: Way) -> Verdict {
    let (_pod, id) = waiter(c).await?;
    ensure!(list(c, way, None).await?.contains(&id), "it is missing");
    Ok(())
}

/// A pod with a container that runs and one that has ended.
async fn with_ended(c: &Context) -> Result<(Pod, String, String), Stop> {
    let (pod, runs) = waiter(c).await?;
    let over = c.launch(&pod, &c.script("exit 0")).await?;
    c.ended(&over).await?;
    Ok((pod, runs, over))
}

/// Those of which CPU time or memory is told.
fn measured(all: Vec<ContainerStats>) -> BTreeSet<String> {
    let has = all.into_iter().filter(|stats| stats.cpu.is_some() || stats.memory.is_some());
    has.map(|stats| stats.attributes.unwrap_or_default().id).collect()
}

async fn list_without_ended(c: &Context, way: Way) -> Verdict {
    let (pod, runs, over) = with_ended(c).await?;
    let found = measured(every(c, way, None).await?);
    ensure!(found.contains(&runs), "the one that runs is missing");
    ensure!(!found.contains(&over), "the one that has ended is there");
    let filter = ContainerStatsFilter { pod_sandbox_id: pod.id, ..Default::default() };
    let of_pod = measured(every(c, way, Some(filter)).await?);
    same!("those of the pod", of_pod, BTreeSet::from([runs]));
    Ok(())
}

async fn list_by_id(c: &Context, way: Way) -> Verdict {
    let (_pod, id) = waiter(c).await?;
    let filter = ContainerStatsFilter { id: id.clone(), ..Default::default() };
    same!("the list", list(c, way, Some(filter)).await?, BTreeSet::from([id]));
    Ok(())
}

async fn list_by_pod(c: &Context, way: Way) -> Verdict {
    let (pod, id) = waiter(c).await?;
    let (_other, _) = waiter(c).await?;
    let filter = ContainerStatsFilter { pod_sandbox_id: pod.id, ..Default::default() };
    same!("the list", list(c, way, Some(filter)).await?, BTreeSet::from([id]));
    Ok(())
}

async fn list_by_label(c: &Context, way: Way) -> Verdict {
    let (pod, _other) = waiter(c).await?;
    let mut config = c.waiter();
    config.labels = [("mark".to_owned(), c.mark.clone())].into();
    let id = c.launch(&pod, &config).await?;
    let filter = ContainerStatsFilter { label_selector: config.labels, ..Default::default() };
    same!("the list", list(c, way, Some(filter)).await?, BTreeSet::from([id]));
    Ok(())
}

async fn list_by_unknown(c: &Context, way: Way) -> Verdict {
    let filter = ContainerStatsFilter { id: NOBODY.to_owned(), ..Default::default() };
    same!("the list", list(c, way, Some(filter)).await?, BTreeSet::new());
    Ok(())
}

async fn of_pod(c: &Context, id: &str) -> Result<PodSandboxStats, Stop> {
    let request = PodSandboxStatsRequest { pod_sandbox_id: id.to_owned() };
    let stats = c.rpc.pod_sandbox_stats(request).await?.stats;
    stats.ok_or_else(|| Stop::failed("the answer has no figures"))
}

async fn pod_attributes(c: &Context) -> Verdict {
    let (pod, _) = waiter(c).await?;
    let wanted = PodSandboxAttributes {
        id: pod.id.clone(),
        metadata: pod.config.metadata,
        labels: pod.config.labels,
        annotations: pod.config.annotations,
    };
    same!("whose they are", of_pod(c, &pod.id).await?.attributes, Some(wanted));
    Ok(())
}

async fn pod_figures(c: &Context) -> Verdict {
    let (pod, _) = waiter(c).await?;
    let linux = of_pod(c, &pod.id).await?.linux.unwrap_or_default();
    let cpu = linux.cpu.unwrap_or_default().usage_core_nano_seconds;
    let memory = linux.memory.unwrap_or_default().working_set_bytes;
    ensure!(cpu.is_some() && memory.is_some(), "CPU {cpu:?}, memory {memory:?}");
    let processes = linux.process.unwrap_or_default().process_count;
    ensure!(processes.is_some_and(|count| count.value >= 1), "there are {processes:?} processes");
    Ok(())
}

async fn pod_containers(c: &Context) -> Verdict {
    let (pod, id) = waiter(c).await?;
    let linux = of_pod(c, &pod.id).await?.linux.unwrap_or_default();
    let ids = linux.containers.into_iter().map(|one| one.attributes.unwrap_or_default().id);
    same!("the containers", ids.collect::<Vec<_>>(), [id]);
    Ok(())
}

async fn pod_without_ended(c: &Context) -> Verdict {
    let (pod, runs, _over) = with_ended(c).await?;
    let linux = of_pod(c, &pod.id).await?.linux.unwrap_or_default();
    same!("the containers", measured(linux.containers), BTreeSet::from([runs]));
    Ok(())
}

async fn pod_network(c: &Context) -> Verdict {
    let pod = c.pod_of(c.networked_config()).await?;
    c.launch(&pod, &pod.fit(c.waiter())).await?;
    let linux = of_pod(c, &pod.id).await?.linux.unwrap_or_default();
    let found = linux.network.unwrap_or_default().default_interface.unwrap_or_default();
    let says = !found.name.is_empty() && found.rx_bytes.is_some() && found.tx_bytes.is_some();
    ensure!(says, "it is {found:?}");
    Ok(())
}

async fn pods(
    c: &Context,
    way: Way,
    filter: PodSandboxStatsFilter,
) -> Result<BTreeSet<String>, Stop> {
    let filter = Some(filter);
    let all = match way {
        Way::List => {
            c.rpc.list_pod_sandbox_stats(ListPodSandboxStatsRequest { filter }).await?.stats
        }
        Way::Stream => {
            let request = StreamPodSandboxStatsRequest { filter };
            let parts = drained(c.rpc.stream_pod_sandbox_stats(request).await?).await?;
            parts.into_iter().flat_map(|part| part.pod_sandbox_stats).collect()
        }
    };
    Ok(all.into_iter().map(|stats| stats.attributes.unwrap_or_default().id).collect())
}

async fn pod_list(c: &Context, way: Way) -> Verdict {
    let (one, two) = (c.pod().await?, c.pod().await?);
    let label_selector = c.own_pods().label_selector;
    let filter = PodSandboxStatsFilter { label_selector, ..Default::default() };
    same!("the list", pods(c, way, filter).await?, BTreeSet::from([one.id, two.id]));
    Ok(())
}

async fn pod_by_id(c: &Context, way: Way) -> Verdict {
    let (one, _two) = (c.pod().await?, c.pod().await?);
    let filter = PodSandboxStatsFilter { id: one.id.clone(), ..Default::default() };
    same!("the list", pods(c, way, filter).await?, BTreeSet::from([one.id]));
    Ok(())
}
