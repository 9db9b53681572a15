//! Each call of a pod's life by itself, with the host's network and with one of its own; and the CPU time
//! that a whole life takes.

use std::time::Instant;

use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{
    ContainerStatsRequest, ContainerStatusRequest, ImageSpec, ImageStatusRequest,
    ListImagesRequest, NamespaceMode, PodSandboxStatusRequest, RemoveContainerRequest,
    RemovePodSandboxRequest, StatusRequest, StopContainerRequest, StopPodSandboxRequest,
    VersionRequest,
};

use super::{REST, ms, timed};
use crate::cri::Wanted;
use crate::cri::endpoint::{Endpoint, SLEEPER};
use crate::cri::figures::Figures;
use crate::cri::machine;

/// Seconds that a container has to end; it ends at once.
const GRACE: i64 = 10;

pub async fn measure(endpoints: &[Endpoint], wanted: &Wanted, figures: &mut Figures) {
    let mut networks = vec![(NamespaceMode::Node, "host network")];
    if wanted.own_network {
        networks.push((NamespaceMode::Pod, "network of its own"));
    }
    for (network, said) in networks {
        // The first pod of each is for warming up.
        for round in 0..=wanted.rounds {
            for (at, endpoint) in endpoints.iter().enumerate() {
                let mut unheard = Figures::new(figures.endpoints.clone());
                let heard = if round == 0 { &mut unheard } else { &mut *figures };
                Box::pin(life(endpoint, at, network, said, heard)).await;
                tokio::time::sleep(REST).await;
            }
        }
        for (at, endpoint) in endpoints.iter().enumerate() {
            cpu(endpoint, at, network, said, wanted.rounds, figures).await;
        }
    }
    for _ in 0..wanted.rounds {
        for (at, endpoint) in endpoints.iter().enumerate() {
            questions(endpoint, at, figures).await;
        }
    }
}

/// One pod from its begin to its end.
async fn life(
    endpoint: &Endpoint,
    at: usize,
    network: NamespaceMode,
    said: &str,
    figures: &mut Figures,
) {
    let config = endpoint.pod(network);
    let mut took = |what: &str, took| figures.took(&format!("{what}, {said}"), at, took);
    let began = Instant::now();
    let id = endpoint.run(&config).await;
    let run = began.elapsed();
    let container_id = endpoint.create(&id, &config, SLEEPER).await;
    let created = began.elapsed();
    endpoint.start(&container_id).await;
    let all = began.elapsed();
    took("pod up (three calls)", all);
    took("RunPodSandbox", run);
    took("CreateContainer", created - run);
    took("StartContainer", all - created);
    let mut runtime = endpoint.runtime();
    let status = ContainerStatusRequest { container_id: container_id.clone(), verbose: false };
    took("ContainerStatus", timed(runtime.container_status(status)).await.1);
    let status = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
    took("PodSandboxStatus", timed(runtime.pod_sandbox_status(status)).await.1);
    let stats = ContainerStatsRequest { container_id: container_id.clone() };
    took("ContainerStats", timed(runtime.container_stats(stats)).await.1);
    let stop = StopContainerRequest { container_id: container_id.clone(), timeout: GRACE };
    took("StopContainer, ends on TERM", timed(runtime.stop_container(stop)).await.1);
    let remove = RemoveContainerRequest { container_id };
    took("RemoveContainer", timed(runtime.remove_container(remove)).await.1);
    let stop = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    took("StopPodSandbox", timed(runtime.stop_pod_sandbox(stop)).await.1);
    let remove = RemovePodSandboxRequest { pod_sandbox_id: id };
    took("RemovePodSandbox", timed(runtime.remove_pod_sandbox(remove)).await.1);
}

/// CPU time of the machine for each life, the container's own included.
async fn cpu(
    endpoint: &Endpoint,
    at: usize,
    network: NamespaceMode,
    said: &str,
    rounds: usize,
    figures: &mut Figures,
) {
    let before = machine::busy();
    for _ in 0..rounds {
        let (pod, _) = Box::pin(endpoint.up(network, SLEEPER)).await;
        endpoint.remove(&pod.id).await;
    }
    let used = ms(machine::busy().saturating_sub(before)) / rounds as f64;
    figures.add(&format!("CPU time per pod life, {said}"), "ms", at, used);
}

/// Calls that ask.
async fn questions(endpoint: &Endpoint, at: usize, figures: &mut Figures) {
    let (mut runtime, mut images) = (endpoint.runtime(), endpoint.images());
    let version = VersionRequest { version: "v1".to_owned() };
    let mut new = RuntimeServiceClient::new(testkit::channel(&endpoint.socket));
    figures.took("Version, on a new connection", at, timed(new.version(version.clone())).await.1);
    figures.took("Version", at, timed(runtime.version(version)).await.1);
    let status = StatusRequest { verbose: false };
    figures.took("Status", at, timed(runtime.status(status)).await.1);
    let list = ListImagesRequest { filter: None };
    timed(images.list_images(list.clone())).await;
    figures.took("ListImages", at, timed(images.list_images(list)).await.1);
    let image = ImageSpec { image: endpoint.image.clone(), ..Default::default() };
    let status = ImageStatusRequest { image: Some(image), verbose: false };
    figures.took("ImageStatus", at, timed(images.image_status(status)).await.1);
}
