//! The lives of sandboxes and containers: made, stopped, removed.

use std::sync::Arc;

use cri_api::v1::*;
use tonic::Status;

use crate::check;
use crate::fault::Fault;
use crate::images::find;
use crate::play::{log_path, stop, unknown};
use crate::world::{Container, Pod, World, now};

/// RunPodSandbox.
pub(crate) fn run(world: &World, request: RunPodSandboxRequest) -> Result<String, Status> {
    let config = request.config.ok_or_else(|| Status::invalid_argument("config is missing"))?;
    check::pod(&config, &world.faults)?;
    let handler = request.runtime_handler;
    if !handler.is_empty() && !world.has(Fault::UnknownHandler) {
        return Err(Status::invalid_argument(format!("there is no handler {handler:?}")));
    }
    if !config.log_directory.is_empty() {
        let made = std::fs::create_dir_all(&config.log_directory);
        made.map_err(|error| Status::internal(format!("{}: {error}", config.log_directory)))?;
    }
    let mut tables = world.lock();
    let known = tables.pods.iter().find(|(_, pod)| pod.config.metadata == config.metadata);
    if let Some((id, _)) = known.filter(|_| !world.has(Fault::RunTwice)) {
        if world.has(Fault::RunRefused) {
            return Err(Status::already_exists(format!("its name is reserved for {id}")));
        }
        return Ok(id.clone());
    }
    let (id, number) = world.id(&mut tables);
    let linux = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let options = linux.and_then(|context| context.namespace_options.as_ref());
    let is_own = options.is_none_or(|options| options.network() == NamespaceMode::Pod);
    let number = if world.has(Fault::SameAddress) { 1 } else { number };
    let [_, a, b, c] = (number as u32).to_be_bytes();
    let ip = if is_own { format!("10.{a}.{b}.{c}") } else { String::new() };
    tables.pods.insert(id.clone(), Pod { config, handler, is_ready: true, created_at: now(), ip });
    world.tell(&tables, &id, &id, ContainerEventType::ContainerCreatedEvent);
    world.tell(&tables, &id, &id, ContainerEventType::ContainerStartedEvent);
    Ok(id)
}

/// StopPodSandbox.
pub(crate) async fn stop_pod(world: &World, id: &str) -> Result<(), Status> {
    let ours: Vec<String> = {
        let mut tables = world.lock();
        let Some(pod) = tables.pods.get_mut(id) else {
            let fails = world.has(Fault::StopPodUnknown);
            return if fails { Err(unknown(world, "sandbox", id)) } else { Ok(()) };
        };
        let was_ready = std::mem::replace(&mut pod.is_ready, false);
        if was_ready {
            world.tell(&tables, id, id, ContainerEventType::ContainerStoppedEvent);
        }
        let ours = tables.containers.iter().filter(|(_, one)| one.pod == id);
        ours.map(|(id, _)| id.clone()).collect()
    };
    if !world.has(Fault::StopLeavesContainers) {
        for container in ours {
            stop(world, &container, 0).await;
        }
    }
    Ok(())
}

/// RemovePodSandbox.
pub(crate) async fn remove_pod(world: &World, id: &str) -> Result<(), Status> {
    if !world.lock().pods.contains_key(id) {
        let fails = world.has(Fault::RemovePodUnknown);
        return if fails { Err(unknown(world, "sandbox", id)) } else { Ok(()) };
    }
    stop_pod(world, id).await?;
    let mut tables = world.lock();
    if !world.has(Fault::RemoveLeavesContainers) {
        tables.containers.retain(|_, one| one.pod != id);
    }
    world.tell(&tables, id, id, ContainerEventType::ContainerDeletedEvent);
    tables.pods.remove(id);
    Ok(())
}

/// CreateContainer.
pub(crate) fn create(world: &World, request: CreateContainerRequest) -> Result<String, Status> {
    let pod_id = request.pod_sandbox_id;
    let config = request.config.ok_or_else(|| Status::invalid_argument("config is missing"))?;
    let mut tables = world.lock();
    let pod = tables.pods.get(&pod_id).ok_or_else(|| unknown(world, "sandbox", &pod_id))?;
    check::container(&config, &pod.config)?;
    if !pod.is_ready && !world.has(Fault::CreateInStopped) {
        return Err(Status::failed_precondition(format!("sandbox {pod_id} is stopped")));
    }
    let log_path = log_path(world, &pod.config, &config);
    let same = |one: &Container| one.pod == pod_id && one.config.metadata == config.metadata;
    let known = tables.containers.iter().find(|(_, one)| same(one));
    if let Some((id, _)) = known.filter(|_| !world.has(Fault::CreateTwice)) {
        return Ok(id.clone());
    }
    let linux = config.linux.as_ref();
    let target = linux.and_then(|linux| linux.security_context.as_ref());
    let target = target.and_then(|context| context.namespace_options.as_ref());
    if let Some(options) = target
        && options.pid() == NamespaceMode::Target
        && !tables.containers.contains_key(&options.target_id)
    {
        return Err(unknown(world, "container", &options.target_id));
    }
    let name = config.image.as_ref().map(|image| image.image.clone()).unwrap_or_default();
    let image = find(&tables, &name);
    let image = image.ok_or_else(|| Status::not_found(format!("there is no image {name:?}")))?;
    let stored = tables.images.get(&image).cloned().unwrap_or_default();
    let resources = linux.and_then(|linux| linux.resources.clone()).unwrap_or_default();
    let (id, _) = world.id(&mut tables);
    let container = Container {
        pod: pod_id.clone(),
        config,
        image,
        stored,
        log_path,
        state: ContainerState::ContainerCreated,
        created_at: now(),
        started_at: 0,
        finished_at: 0,
        exit_code: 0,
        reason: String::new(),
        message: String::new(),
        resources,
        running: None,
    };
    tables.containers.insert(id.clone(), container);
    world.tell(&tables, &id, &pod_id, ContainerEventType::ContainerCreatedEvent);
    Ok(id)
}

/// StopContainer.
pub(crate) async fn stop_container(world: &World, id: &str, timeout: i64) -> Result<(), Status> {
    if !world.lock().containers.contains_key(id) && world.has(Fault::StopUnknown) {
        return Err(unknown(world, "container", id));
    }
    stop(world, id, timeout).await;
    Ok(())
}

/// RemoveContainer.
pub(crate) async fn remove(world: &World, id: &str) -> Result<(), Status> {
    if !world.lock().containers.contains_key(id) {
        let fails = world.has(Fault::RemoveUnknown);
        return if fails { Err(unknown(world, "container", id)) } else { Ok(()) };
    }
    stop(world, id, 0).await;
    let mut tables = world.lock();
    if let Some(container) = tables.containers.remove(id) {
        world.tell(&tables, id, &container.pod, ContainerEventType::ContainerDeletedEvent);
    }
    Ok(())
}

/// UpdateContainerResources: what is 0 or empty stays as it is.
pub(crate) fn update(
    world: &Arc<World>,
    id: &str,
    new: Option<LinuxContainerResources>,
) -> Result<(), Status> {
    let mut tables = world.lock();
    let container = tables.containers.get_mut(id).ok_or_else(|| unknown(world, "container", id))?;
    let (old, new) = (&mut container.resources, new.unwrap_or_default());
    let numbers = [
        (&mut old.cpu_period, new.cpu_period),
        (&mut old.cpu_quota, new.cpu_quota),
        (&mut old.cpu_shares, new.cpu_shares),
        (&mut old.memory_limit_in_bytes, new.memory_limit_in_bytes),
        (&mut old.memory_swap_limit_in_bytes, new.memory_swap_limit_in_bytes),
        (&mut old.oom_score_adj, new.oom_score_adj),
    ];
    for (old, new) in numbers {
        if new != 0 {
            *old = new;
        }
    }
    Ok(())
}
