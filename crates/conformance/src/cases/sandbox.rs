//! Sandboxes: their lives, and what comes back of them.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use cri_api::v1::*;
use tonic::Code;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, refused};

cases! { "sandbox":
    "is-ready" Api Api ["RunPodSandbox", "RunPodSandboxResponse.pod_sandbox_id",
            "PodSandboxStatus.state"]
        "A sandbox that was run is ready." => ready();
    "status-has-its-id" Api Api ["PodSandboxStatus", "PodSandboxStatus.id"]
        "The status of a sandbox has the id that was asked for." => own_id();
    "ids-differ" Api Api ["RunPodSandbox"]
        "Two sandboxes have two ids." => ids_differ();
    "metadata-comes-back" Api Api ["PodSandboxStatus", "PodSandboxConfig.metadata",
            "PodSandboxStatus.metadata", "PodSandboxMetadata.name", "PodSandboxMetadata.uid",
            "PodSandboxMetadata.namespace", "PodSandboxMetadata.attempt"]
        "The metadata come back as they were given, the attempt included." => metadata();
    "labels-come-back" Api Api ["PodSandboxStatus", "PodSandboxConfig.labels",
            "PodSandboxStatus.labels"]
        "Labels come back as they were given, all of them and no others." => labels();
    "annotations-come-back" Api Api ["PodSandboxStatus", "PodSandboxConfig.annotations",
            "PodSandboxStatus.annotations"]
        "Annotations come back as they were given, all of them and no others." => annotations();
    "creation-time" Api Api ["PodSandboxStatus", "PodSandboxStatus.created_at"]
        "The time of creation lies between call and answer, in nanoseconds." => created_at();
    "creation-time-stays" Api Api ["PodSandboxStatus", "StopPodSandbox"]
        "The time of creation does not change when the sandbox is stopped." => created_at_stays();
    "attempts-are-apart" Api Kubelet ["RunPodSandbox", "PodSandboxMetadata.attempt"]
        "A second attempt of the same pod is another sandbox, beside the first." => attempts();
    "namespaces-are-apart" Api Kubelet ["RunPodSandbox", "PodSandboxMetadata.namespace"]
        "Pods of the same name in two namespaces are two sandboxes." => namespaces();
    "stop-ends-it" Api Api ["StopPodSandbox", "StopPodSandboxRequest.pod_sandbox_id"]
        "A sandbox that was stopped is not ready." => stopped();
    "stop-again" Api Api ["StopPodSandbox"]
        "Stopping a stopped sandbox succeeds." => stop_again();
    "stop-unknown" Api Api ["StopPodSandbox"]
        "Stopping a sandbox that is not there succeeds." => stop_unknown();
    "stop-after-remove" Api Api ["StopPodSandbox", "RemovePodSandbox"]
        "Stopping a sandbox that was removed succeeds." => stop_after_remove();
    "stop-ends-containers" Api Api ["StopPodSandbox", "ContainerStatus.state"]
        "Stopping a sandbox ends its containers, which stay." => stop_ends_containers();
    "stop-keeps-data" Api Api ["StopPodSandbox", "PodSandboxStatus"]
        "A stopped sandbox has its metadata, labels and annotations still." => stop_keeps_data();
    "remove-stopped" Api Api ["RemovePodSandbox", "RemovePodSandboxRequest.pod_sandbox_id"]
        "A stopped sandbox can be removed, and is gone then." => remove_stopped();
    "remove-running" Api Api ["RemovePodSandbox"]
        "A sandbox with a container that runs is removed, container and all." => remove_running();
    "remove-again" Api Api ["RemovePodSandbox"]
        "Removing a removed sandbox succeeds." => remove_again();
    "remove-unknown" Api Api ["RemovePodSandbox"]
        "Removing a sandbox that is not there succeeds." => remove_unknown();
    "remove-takes-containers" Api Api ["RemovePodSandbox", "ContainerStatus"]
        "With a sandbox go its containers, those that never ran too." => remove_takes_containers();
    "run-again-after-remove" Api Kubelet ["RunPodSandbox", "RemovePodSandbox"]
        "The same pod can be run again after it was removed, and is another sandbox." => run_again();
    "run-beside-stopped" Api Kubelet ["RunPodSandbox", "StopPodSandbox"]
        "The next attempt of a pod runs while the stopped one is still there." => beside_stopped();
    "many-at-once" Api Kubelet ["RunPodSandbox"]
        "Ten sandboxes that are run at once are all ready." => many();
    "status-brief" Api Api ["PodSandboxStatus", "PodSandboxStatusRequest.verbose",
            "PodSandboxStatusResponse.info"]
        "Without verbose there is no info." => info(false);
    "status-verbose" Api Api ["PodSandboxStatus", "PodSandboxStatusRequest.verbose",
            "PodSandboxStatusResponse.info"]
        "With verbose there is info." => info(true);
    "status-has-containers" Api Kubelet ["PodSandboxStatus", "GetContainerEvents",
            "PodSandboxStatusResponse.containers_statuses", "PodSandboxStatusResponse.timestamp"]
        "A runtime that sends events gives a pod's status with its containers' and a time." =>
        with_containers();
    "namespace-options-come-back" Api Api ["PodSandboxStatus", "PodSandboxStatus.linux",
            "LinuxPodSandboxStatus.namespaces", "Namespace.options", "NamespaceOption.network",
            "NamespaceOption.pid", "NamespaceOption.ipc"]
        "The status says which namespaces the sandbox was asked for." => namespace_options();
    "log-directory-is-made" Program Api ["RunPodSandbox", "PodSandboxConfig.log_directory"]
        "The log directory is there once the sandbox is." => log_directory();
    "hostile-labels" Api Api ["RunPodSandbox", "PodSandboxConfig.labels"]
        "Labels may hold any text: spaces, line breaks, quotes, other scripts." => hostile_labels();
    "many-annotations" Api Kubelet ["RunPodSandbox", "PodSandboxConfig.annotations"]
        "Annotations of 200 KiB, near the most that Kubernetes allows, come back whole." => large();
}

pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or_default())
}

/// An id that no runtime has given out.
pub(super) const NOBODY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

async fn ready(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    same!("the state", c.pod_status(&pod.id).await?.state(), PodSandboxState::SandboxReady);
    Ok(())
}

async fn own_id(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    same!("the id", c.pod_status(&pod.id).await?.id, pod.id);
    Ok(())
}

async fn ids_differ(c: &Context) -> Verdict {
    let (one, two) = (c.pod().await?, c.pod().await?);
    ensure!(one.id != two.id, "both are {}", one.id);
    Ok(())
}

async fn metadata(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    config.metadata.get_or_insert_default().attempt = 7;
    let pod = c.pod_of(config).await?;
    same!("the metadata", c.pod_status(&pod.id).await?.metadata, pod.config.metadata);
    Ok(())
}

async fn labels(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    let more = [("app", "web"), ("empty", ""), ("example.org/long-key", "a.b_c-d")];
    config.labels.extend(more.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let pod = c.pod_of(config).await?;
    same!("labels", c.pod_status(&pod.id).await?.labels, pod.config.labels);
    Ok(())
}

async fn annotations(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    let more = [("example.org/text", "two words"), ("empty", "")];
    config.annotations.extend(more.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let pod = c.pod_of(config).await?;
    same!("annotations", c.pod_status(&pod.id).await?.annotations, pod.config.annotations);
    Ok(())
}

async fn created_at(c: &Context) -> Verdict {
    let before = now();
    let pod = c.pod().await?;
    let after = now();
    let at = c.pod_status(&pod.id).await?.created_at;
    ensure!((before..=after).contains(&at), "{at} is not between {before} and {after}");
    Ok(())
}

async fn created_at_stays(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let before = c.pod_status(&pod.id).await?.created_at;
    c.stop_pod(&pod.id).await?;
    same!("the time", c.pod_status(&pod.id).await?.created_at, before);
    Ok(())
}

async fn attempts(c: &Context) -> Verdict {
    let one = c.pod().await?;
    let mut config = one.config.clone();
    config.metadata.get_or_insert_default().attempt = 1;
    let two = c.pod_of(config).await?;
    ensure!(one.id != two.id, "both are {}", one.id);
    same!("the first's state", c.pod_status(&one.id).await?.state(), PodSandboxState::SandboxReady);
    Ok(())
}

async fn namespaces(c: &Context) -> Verdict {
    let one = c.pod().await?;
    let mut config = one.config.clone();
    config.metadata.get_or_insert_default().namespace = "check-other".to_owned();
    let two = c.pod_of(config).await?;
    ensure!(one.id != two.id, "both are {}", one.id);
    Ok(())
}

async fn stopped(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    same!("the state", c.pod_status(&pod.id).await?.state(), PodSandboxState::SandboxNotready);
    Ok(())
}

async fn stop_again(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    for _ in 0..3 {
        c.stop_pod(&pod.id).await?;
    }
    Ok(())
}

async fn stop_unknown(c: &Context) -> Verdict {
    Ok(c.stop_pod(NOBODY).await?)
}

async fn stop_after_remove(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    c.remove_pod(&pod.id).await?;
    Ok(c.stop_pod(&pod.id).await?)
}

async fn stop_ends_containers(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.stop_pod(&pod.id).await?;
    same!("the state", c.status(&id).await?.state(), ContainerState::ContainerExited);
    Ok(())
}

async fn stop_keeps_data(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    config.annotations.insert("some".to_owned(), "thing".to_owned());
    let pod = c.pod_of(config).await?;
    c.stop_pod(&pod.id).await?;
    let status = c.pod_status(&pod.id).await?;
    same!("the metadata", status.metadata, pod.config.metadata);
    same!("labels", status.labels, pod.config.labels);
    same!("annotations", status.annotations, pod.config.annotations);
    Ok(())
}

async fn is_gone(c: &Context, id: &str) -> Verdict {
    refused(c.pod_status(id).await, &[Code::NotFound])?;
    let left = c.pods(c.own_pods()).await?;
    ensure!(left.iter().all(|pod| pod.id != id), "it is in the list still");
    Ok(())
}

async fn remove_stopped(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    c.remove_pod(&pod.id).await?;
    is_gone(c, &pod.id).await
}

async fn remove_running(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.remove_pod(&pod.id).await?;
    refused(c.status(&id).await, &[Code::NotFound])?;
    is_gone(c, &pod.id).await
}

async fn remove_again(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    for _ in 0..3 {
        c.remove_pod(&pod.id).await?;
    }
    Ok(())
}

async fn remove_unknown(c: &Context) -> Verdict {
    Ok(c.remove_pod(NOBODY).await?)
}

async fn remove_takes_containers(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let created = c.create(&pod, &c.waiter()).await?;
    let running = c.launch(&pod, &c.waiter()).await?;
    c.stop_pod(&pod.id).await?;
    c.remove_pod(&pod.id).await?;
    for id in [created, running] {
        refused(c.status(&id).await, &[Code::NotFound])?;
    }
    Ok(())
}

async fn run_again(c: &Context) -> Verdict {
    let first = c.pod().await?;
    c.stop_pod(&first.id).await?;
    c.remove_pod(&first.id).await?;
    let second = c.pod_of(first.config).await?;
    ensure!(first.id != second.id, "both are {}", first.id);
    Ok(())
}

async fn beside_stopped(c: &Context) -> Verdict {
    let first = c.pod().await?;
    c.stop_pod(&first.id).await?;
    let mut config = first.config.clone();
    config.metadata.get_or_insert_default().attempt = 1;
    let second = c.pod_of(config).await?;
    let states = [c.pod_status(&first.id).await?.state(), c.pod_status(&second.id).await?.state()];
    same!("the states", states, [PodSandboxState::SandboxNotready, PodSandboxState::SandboxReady]);
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let pods = futures_util::future::join_all((0..10).map(|_| c.pod())).await;
    for pod in pods {
        let state = c.pod_status(&pod?.id).await?.state();
        same!("the state", state, PodSandboxState::SandboxReady);
    }
    Ok(())
}

async fn info(c: &Context, verbose: bool) -> Verdict {
    let pod_sandbox_id = c.pod().await?.id;
    let request = PodSandboxStatusRequest { pod_sandbox_id, verbose };
    let info = c.rpc.pod_sandbox_status(request).await?.info;
    same!("having info", !info.is_empty(), verbose);
    Ok(())
}

async fn with_containers(c: &Context) -> Verdict {
    // Unimplemented here means that the rule does not apply.
    c.rpc.get_container_events(GetEventsRequest {}).await?;
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: false };
    let answer = c.rpc.pod_sandbox_status(request).await?;
    let found: Vec<_> = answer.containers_statuses.iter().map(|s| (&*s.id, s.state())).collect();
    same!("the containers", found, [(&*id, ContainerState::ContainerRunning)]);
    ensure!(answer.timestamp > 0, "the time is {}", answer.timestamp);
    Ok(())
}

async fn namespace_options(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let linux = c.pod_status(&pod.id).await?.linux.and_then(|linux| linux.namespaces);
    let Some(found) = linux.and_then(|namespaces| namespaces.options) else {
        return Err(Stop::failed("the status does not say it"));
    };
    let modes = [found.network(), found.pid(), found.ipc()];
    same!("the modes", modes, [NamespaceMode::Node, NamespaceMode::Container, NamespaceMode::Pod]);
    Ok(())
}

async fn log_directory(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let path = std::path::Path::new(&pod.config.log_directory);
    ensure!(path.is_dir(), "{} is not there", path.display());
    Ok(())
}

async fn hostile_labels(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    let texts = ["two words", "a\nb", "\"quoted\"", "крок", "{\"json\":[1]}", "../../etc", "=,;"];
    for (number, text) in texts.into_iter().enumerate() {
        config.labels.insert(format!("label-{number}"), text.to_owned());
    }
    let pod = c.pod_of(config).await?;
    same!("labels", c.pod_status(&pod.id).await?.labels, pod.config.labels);
    Ok(())
}

async fn large(c: &Context) -> Verdict {
    let mut config = c.pod_config();
    let many: BTreeMap<String, String> =
        (0..200).map(|number| (format!("key-{number}"), "x".repeat(1024))).collect();
    config.annotations = many;
    let pod = c.pod_of(config).await?;
    let back = c.pod_status(&pod.id).await?.annotations;
    ensure!(back == pod.config.annotations, "{} of {} come back", back.len(), 200);
    Ok(())
}
