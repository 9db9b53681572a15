//! Metrics of pods, by which a node can do without cAdvisor.

use std::collections::{BTreeMap, BTreeSet};

use cri_api::v1::*;

use crate::case::{Stop, Verdict, cases, ensure, same, until};
use crate::context::Context;
use crate::rpc::drained;

cases! { "metrics":
    "descriptors" Api Api ["ListMetricDescriptors", "ListMetricDescriptorsResponse.descriptors",
            "MetricDescriptor.name", "MetricDescriptor.help"]
        "Every metric has a name and a help text." => described();
    "descriptors-once" Api Api ["ListMetricDescriptors", "MetricDescriptor.name"]
        "No metric is described twice." => once();
    "descriptors-stay" Api Api ["ListMetricDescriptors"]
        "The descriptions are the same whenever they are asked for." => stay();
    "of-a-pod" Api Api ["ListPodSandboxMetrics", "ListPodSandboxMetricsResponse.pod_metrics",
            "PodSandboxMetrics.pod_sandbox_id"]
        "The list has every ready pod." => of_pod(Way::List);
    "of-a-container" Api Api ["ListPodSandboxMetrics", "PodSandboxMetrics.container_metrics",
            "ContainerMetrics.container_id", "ContainerMetrics.metrics"]
        "A pod's entry has its containers that run." => of_container();
    "without-ended" Api Kubelet ["ListPodSandboxMetrics", "PodSandboxMetrics.container_metrics"]
        "A container that has ended has no metrics." => without_ended();
    "are-described" Api Api ["ListPodSandboxMetrics", "Metric.name"]
        "Every metric that comes was described." => are_described();
    "labels-fit" Api Api ["ListPodSandboxMetrics", "Metric.label_values",
            "MetricDescriptor.label_keys"]
        "A metric has as many values as its description has keys." => labels_fit();
    "values" Api Api ["ListPodSandboxMetrics", "Metric.value", "Metric.metric_type", "Metric.timestamp"]
        "Every metric has a value and a type that exists." => values();
    "counters-grow" Linux Kubelet ["ListPodSandboxMetrics", "Metric.value"]
        "Counters of a program that works never fall." => counters();
    "stream" Api Api ["StreamPodSandboxMetrics",
            "StreamPodSandboxMetricsResponse.pod_sandbox_metrics"]
        "The stream has every ready pod." => of_pod(Way::Stream);
    "cpu-and-memory" Linux Kubelet ["ListPodSandboxMetrics", "Metric.name"]
        "CPU time and working set are among them, by cAdvisor's names." => cadvisor();
}

#[derive(Clone, Copy)]
enum Way {
    List,
    Stream,
}

async fn descriptors(c: &Context) -> Result<Vec<MetricDescriptor>, Stop> {
    Ok(c.rpc.list_metric_descriptors(ListMetricDescriptorsRequest {}).await?.descriptors)
}

async fn all(c: &Context, way: Way) -> Result<Vec<PodSandboxMetrics>, Stop> {
    Ok(match way {
        Way::List => {
            c.rpc.list_pod_sandbox_metrics(ListPodSandboxMetricsRequest {}).await?.pod_metrics
        }
        Way::Stream => {
            let stream =
                c.rpc.stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest {}).await?;
            drained(stream).await?.into_iter().flat_map(|part| part.pod_sandbox_metrics).collect()
        }
    })
}

/// The metrics of a pod of this case's own that has a container.
async fn own(c: &Context) -> Result<(String, PodSandboxMetrics), Stop> {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let found = until!("the pod has metrics", {
        let all = all(c, Way::List).await?;
        all.into_iter().find(|one| {
            one.pod_sandbox_id == pod.id
                && one.container_metrics.iter().any(|one| !one.metrics.is_empty())
        })
    });
    Ok((id, found))
}

fn each(pod: &PodSandboxMetrics) -> impl Iterator<Item = &Metric> {
    pod.metrics.iter().chain(pod.container_metrics.iter().flat_map(|one| &one.metrics))
}

async fn described(c: &Context) -> Verdict {
    let all = descriptors(c).await?;
    ensure!(!all.is_empty(), "there is none");
    for one in all {
        ensure!(!one.name.is_empty() && !one.help.is_empty(), "{one:?}");
    }
    Ok(())
}

async fn once(c: &Context) -> Verdict {
    let all = descriptors(c).await?;
    let names: BTreeSet<&str> = all.iter().map(|one| one.name.as_str()).collect();
    same!("the number of names", names.len(), all.len());
    Ok(())
}

async fn stay(c: &Context) -> Verdict {
    same!("the second answer", descriptors(c).await?, descriptors(c).await?);
    Ok(())
}

async fn of_pod(c: &Context, way: Way) -> Verdict {
    let pod = c.pod().await?;
    c.launch(&pod, &c.waiter()).await?;
    let all = all(c, way).await?;
    same!(
        "how often it is there",
        all.iter().filter(|one| one.pod_sandbox_id == pod.id).count(),
        1
    );
    Ok(())
}

async fn of_container(c: &Context) -> Verdict {
    let (id, pod) = own(c).await?;
    let ids: Vec<&String> = pod.container_metrics.iter().map(|one| &one.container_id).collect();
    same!("the containers", ids, [&id]);
    Ok(())
}

async fn without_ended(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let over = c.launch(&pod, &c.script("exit 0")).await?;
    c.ended(&over).await?;
    let runs = c.launch(&pod, &c.waiter()).await?;
    let of_pod = until!("the pod has metrics", {
        let all = all(c, Way::List).await?;
        let of_pod = all.into_iter().find(|one| one.pod_sandbox_id == pod.id);
        of_pod.filter(|one| one.container_metrics.iter().any(|one| one.container_id == runs))
    });
    let found = of_pod.container_metrics.iter().filter(|one| !one.metrics.is_empty());
    let ids: Vec<&String> = found.map(|one| &one.container_id).collect();
    same!("the containers", ids, [&runs]);
    Ok(())
}

async fn are_described(c: &Context) -> Verdict {
    let (_, pod) = own(c).await?;
    let known: BTreeSet<String> = descriptors(c).await?.into_iter().map(|one| one.name).collect();
    for metric in each(&pod) {
        ensure!(known.contains(&metric.name), "{} is not", metric.name);
    }
    Ok(())
}

async fn labels_fit(c: &Context) -> Verdict {
    let (_, pod) = own(c).await?;
    let all = descriptors(c).await?;
    let keys: BTreeMap<&str, usize> =
        all.iter().map(|one| (one.name.as_str(), one.label_keys.len())).collect();
    for metric in each(&pod) {
        let wanted = keys.get(metric.name.as_str()).copied();
        same!(format!("the values of {}", metric.name), Some(metric.label_values.len()), wanted);
    }
    Ok(())
}

async fn values(c: &Context) -> Verdict {
    let (_, pod) = own(c).await?;
    for metric in each(&pod) {
        let says = metric.value.is_some() && MetricType::try_from(metric.metric_type).is_ok();
        ensure!(says, "{metric:?}");
    }
    Ok(())
}

type Series = BTreeMap<(String, Vec<String>), u64>;

fn counters_of(pod: &PodSandboxMetrics) -> Series {
    let counters = each(pod).filter(|metric| metric.metric_type() == MetricType::Counter);
    let series = counters.map(|metric| {
        let key = (metric.name.clone(), metric.label_values.clone());
        (key, metric.value.map_or(0, |value| value.value))
    });
    series.collect()
}

async fn counters(c: &Context) -> Verdict {
    let (_, first) = own(c).await?;
    let later = all(c, Way::List).await?;
    let later = later.iter().find(|one| one.pod_sandbox_id == first.pod_sandbox_id);
    let later = later.map(counters_of).unwrap_or_default();
    for (key, before) in counters_of(&first) {
        let after = later.get(&key).copied().unwrap_or(before);
        ensure!(after >= before, "{key:?} falls from {before} to {after}");
    }
    Ok(())
}

async fn cadvisor(c: &Context) -> Verdict {
    let (_, pod) = own(c).await?;
    let names: BTreeSet<&str> = each(&pod).map(|metric| metric.name.as_str()).collect();
    for wanted in ["container_cpu_usage_seconds_total", "container_memory_working_set_bytes"] {
        ensure!(names.contains(wanted), "{wanted} is not among {names:?}");
    }
    Ok(())
}
