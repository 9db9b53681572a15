//! Lists of sandboxes and containers, by their filters.

use std::collections::BTreeMap;

use cri_api::v1::*;

use crate::fault::Fault;
use crate::figures::fits;
use crate::world::World;

pub(crate) fn pods(world: &World, filter: &PodSandboxFilter) -> Vec<PodSandbox> {
    let tables = world.lock();
    let all = tables.pods.iter().map(|(id, pod)| world.pod_status(id, pod));
    let chosen = all.filter(|pod| {
        let state = filter.state.is_none_or(|wanted| wanted.state == pod.state);
        (filter.id.is_empty() || filter.id == pod.id || world.has(Fault::FilterId))
            && (state || world.has(Fault::FilterState))
            && (fits(&pod.labels, &filter.label_selector) || world.has(Fault::FilterLabels))
    });
    let listed = chosen.map(|pod| PodSandbox {
        id: pod.id,
        metadata: pod.metadata,
        state: pod.state,
        created_at: pod.created_at,
        labels: pod.labels,
        annotations: pod.annotations,
        runtime_handler: pod.runtime_handler,
    });
    listed.collect()
}

pub(crate) fn containers(world: &World, filter: &ContainerFilter) -> Vec<Container> {
    let tables = world.lock();
    let chosen = tables.containers.iter().filter(|(id, one)| {
        let state = filter.state.is_none_or(|wanted| wanted.state() == one.state);
        let pod = filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == one.pod;
        let labels = fits(&one.config.labels, &filter.label_selector);
        let is_over = one.state == ContainerState::ContainerExited;
        (filter.id.is_empty() || filter.id == **id || world.has(Fault::FilterId))
            && (state || world.has(Fault::FilterState))
            && (pod || world.has(Fault::FilterPod))
            && (labels || world.has(Fault::FilterLabels))
            && !(is_over && world.has(Fault::ExitedUnlisted))
    });
    let listed = chosen.map(|(id, one)| {
        let status = world.container_status(id, one);
        let lost = world.has(Fault::ListLabelsLost);
        Container {
            id: status.id,
            pod_sandbox_id: one.pod.clone(),
            metadata: status.metadata,
            image: status.image,
            image_ref: status.image_ref,
            state: status.state,
            created_at: status.created_at,
            labels: if lost { BTreeMap::new() } else { status.labels },
            annotations: status.annotations,
            image_id: status.image_id,
        }
    });
    listed.collect()
}
