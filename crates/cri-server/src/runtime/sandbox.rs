//! RunPodSandbox, StopPodSandbox, RemovePodSandbox, PodSandboxStatus, ListPodSandbox and
//! StreamPodSandboxes, UpdatePodSandboxResources.

use std::sync::Arc;

use cri_api::v1;
use operations::Origin;
use pods::SandboxStatus;
use tonic::{Response, Status};

use super::{Answer, known_sandbox, named_sandbox};
use crate::lists::Items;
use crate::parse::{self, At, Given};
use crate::short_ids::{self, To, make_whole};
use crate::stream::{Streamed, pieces};
use crate::{Services, asked, code, now, render};

pub(super) async fn run(
    services: &Services,
    request: v1::RunPodSandboxRequest,
) -> Answer<v1::RunPodSandboxResponse> {
    let config =
        parse::sandbox_config(At::field("config"), request.config, &request.runtime_handler)
            .map_err(|bad| code::status(&bad))?;
    let origin = Origin { asked: asked::sandbox(&config), ..Origin::current() };
    let run = operations::asked_by(origin, services.pods.run_sandbox(config));
    let id = run.await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: id.to_string() }))
}

/// A sandbox that does not exist is stopped already.
pub(super) async fn stop(
    services: &Services,
    request: &v1::StopPodSandboxRequest,
) -> Answer<v1::StopPodSandboxResponse> {
    if let Given::Id(id) = named_sandbox(services, &request.pod_sandbox_id, To::Do)? {
        services.pods.stop_sandbox(&id).await.map_err(|error| code::status(&error))?;
    }
    Ok(Response::new(v1::StopPodSandboxResponse {}))
}

/// A sandbox that does not exist is removed already.
pub(super) async fn remove(
    services: &Services,
    request: &v1::RemovePodSandboxRequest,
) -> Answer<v1::RemovePodSandboxResponse> {
    if let Given::Id(id) = named_sandbox(services, &request.pod_sandbox_id, To::Do)? {
        services.pods.remove_sandbox(&id).await.map_err(|error| code::status(&error))?;
    }
    Ok(Response::new(v1::RemovePodSandboxResponse {}))
}

pub(super) async fn status(
    services: &Services,
    request: &v1::PodSandboxStatusRequest,
) -> Answer<v1::PodSandboxStatusResponse> {
    let id = known_sandbox(services, &request.pod_sandbox_id, To::Look)?;
    let asked = services.pods.sandbox_status(&id).await;
    let (sandbox, containers) = asked.map_err(|error| code::status(&error))?;
    let mut answer = v1::PodSandboxStatusResponse {
        status: Some(render::sandbox_status(&sandbox)),
        containers_statuses: containers.iter().map(|one| render::container_status(one)).collect(),
        timestamp: now(),
        ..Default::default()
    };
    if request.verbose {
        answer.info.insert("info".to_owned(), render::sandbox_info(&sandbox));
    }
    Ok(Response::new(answer))
}

fn listed(
    services: &Services,
    mut filter: Option<v1::PodSandboxFilter>,
) -> Result<Vec<Arc<SandboxStatus>>, Status> {
    if let Some(filter) = &mut filter {
        make_whole(&mut filter.id, |text| short_ids::sandbox(&services.pods, text, To::Look));
    }
    let filter = parse::sandbox_filter(filter).map_err(|bad| code::status(&bad))?;
    Ok(filter.map(|filter| services.pods.list_sandboxes(&filter)).unwrap_or_default())
}

pub(crate) fn items(
    services: &Services,
    filter: Option<v1::PodSandboxFilter>,
) -> Result<Items, Status> {
    Ok(Items::of_sandboxes(listed(services, filter)?.iter().map(|sandbox| &**sandbox)))
}

pub(super) fn list(
    services: &Services,
    request: v1::ListPodSandboxRequest,
) -> Answer<v1::ListPodSandboxResponse> {
    let items = rendered(services, request.filter)?;
    Ok(Response::new(v1::ListPodSandboxResponse { items }))
}

fn rendered(
    services: &Services,
    filter: Option<v1::PodSandboxFilter>,
) -> Result<Vec<v1::PodSandbox>, Status> {
    Ok(listed(services, filter)?.iter().map(|one| render::sandbox_item(one)).collect())
}

pub(super) fn stream(
    services: &Services,
    request: v1::StreamPodSandboxesRequest,
) -> Answer<Streamed<v1::StreamPodSandboxesResponse>> {
    let items = rendered(services, request.filter)?;
    Ok(pieces(items, |pod_sandboxes| v1::StreamPodSandboxesResponse { pod_sandboxes }))
}

pub(super) async fn update_resources(
    services: &Services,
    request: &v1::UpdatePodSandboxResourcesRequest,
) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
    let id = known_sandbox(services, &request.pod_sandbox_id, To::Do)?;
    let nothing = v1::LinuxContainerResources::default();
    let read = |name, given: &Option<v1::LinuxContainerResources>| {
        parse::updated_resources(At::field(name), given.as_ref().unwrap_or(&nothing))
            .map_err(|bad| code::status(&bad))
    };
    let overhead = read("overhead", &request.overhead)?;
    let resources = read("resources", &request.resources)?;
    let update = services.pods.update_sandbox_resources(&id, overhead, resources);
    update.await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::UpdatePodSandboxResourcesResponse {}))
}
