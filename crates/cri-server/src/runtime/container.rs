//! CreateContainer, StartContainer, StopContainer, RemoveContainer, ContainerStatus, ListContainers and
//! StreamContainers, UpdateContainerResources, ReopenContainerLog.

use std::sync::Arc;
use std::time::Duration;

use cri_api::v1;
use operations::Origin;
use pods::ContainerStatus;
use tonic::{Response, Status};

use super::{Answer, known_container, known_sandbox, named_container};
use crate::lists::Items;
use crate::parse::{self, At, Given};
use crate::short_ids::{self, To, make_whole};
use crate::stream::{Streamed, pieces};
use crate::{Services, asked, code, render};

/// The sandbox's own configuration is known since it was made; a second one in the request says nothing
/// more, and is not looked at.
pub(super) async fn create(
    services: &Services,
    request: v1::CreateContainerRequest,
) -> Answer<v1::CreateContainerResponse> {
    let config = parse::container_config(At::field("config"), request.config)
        .map_err(|bad| code::status(&bad))?;
    let sandbox = known_sandbox(services, &request.pod_sandbox_id, To::Do)?;
    let origin = Origin { asked: asked::container(&config), ..Origin::current() };
    let create = services.pods.create_container(&sandbox, config);
    let id = operations::asked_by(origin, create).await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::CreateContainerResponse { container_id: id.to_string() }))
}

pub(super) async fn start(
    services: &Services,
    request: &v1::StartContainerRequest,
) -> Answer<v1::StartContainerResponse> {
    let id = known_container(services, &request.container_id, To::Do)?;
    services.pods.start_container(&id).await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::StartContainerResponse {}))
}

/// A container that does not exist is stopped already.
pub(super) async fn stop(
    services: &Services,
    request: &v1::StopContainerRequest,
) -> Answer<v1::StopContainerResponse> {
    let timeout = u64::try_from(request.timeout).map_err(|_| {
        code::status(&At::field("timeout").bad(request.timeout, "0 or more seconds are needed"))
    })?;
    if let Given::Id(id) = named_container(services, &request.container_id, To::Do)? {
        let stop = services.pods.stop_container(&id, Duration::from_secs(timeout));
        stop.await.map_err(|error| code::status(&error))?;
    }
    Ok(Response::new(v1::StopContainerResponse {}))
}

/// A container that does not exist is removed already.
pub(super) async fn remove(
    services: &Services,
    request: &v1::RemoveContainerRequest,
) -> Answer<v1::RemoveContainerResponse> {
    if let Given::Id(id) = named_container(services, &request.container_id, To::Do)? {
        services.pods.remove_container(&id).await.map_err(|error| code::status(&error))?;
    }
    Ok(Response::new(v1::RemoveContainerResponse {}))
}

pub(super) async fn status(
    services: &Services,
    request: &v1::ContainerStatusRequest,
) -> Answer<v1::ContainerStatusResponse> {
    let id = known_container(services, &request.container_id, To::Look)?;
    let asked = services.pods.container_status(&id).await;
    let container = asked.map_err(|error| code::status(&error))?;
    let mut answer = v1::ContainerStatusResponse {
        status: Some(render::container_status(&container)),
        ..Default::default()
    };
    if request.verbose {
        answer.info.insert("info".to_owned(), info(services, &container).await);
    }
    Ok(Response::new(answer))
}

/// What a verbose status tells more. What cannot be read is left out of it.
pub(crate) async fn info(services: &Services, container: &ContainerStatus) -> String {
    let sandbox = services.pods.sandbox_status(&container.sandbox).await.ok();
    let spec = services.pods.runtime_spec(&container.id).await.ok();
    let spec = spec.and_then(|spec| serde_json::to_value(spec).ok()).unwrap_or_default();
    let lines = services.pods.log_lines(&container.id).await.ok().flatten();
    let sandbox = sandbox.as_ref().map(|(sandbox, _)| &**sandbox);
    render::container_info(container, sandbox, spec, lines)
}

fn listed(
    services: &Services,
    mut filter: Option<v1::ContainerFilter>,
) -> Result<Vec<Arc<ContainerStatus>>, Status> {
    if let Some(filter) = &mut filter {
        make_whole(&mut filter.id, |text| short_ids::container(&services.pods, text, To::Look));
        make_whole(&mut filter.pod_sandbox_id, |text| {
            short_ids::sandbox(&services.pods, text, To::Look)
        });
    }
    let filter = parse::container_filter(filter).map_err(|bad| code::status(&bad))?;
    Ok(filter.map(|filter| services.pods.list_containers(&filter)).unwrap_or_default())
}

pub(crate) fn items(
    services: &Services,
    filter: Option<v1::ContainerFilter>,
) -> Result<Items, Status> {
    Ok(Items::of_containers(listed(services, filter)?.iter().map(|container| &**container)))
}

pub(super) fn list(
    services: &Services,
    request: v1::ListContainersRequest,
) -> Answer<v1::ListContainersResponse> {
    let containers = rendered(services, request.filter)?;
    Ok(Response::new(v1::ListContainersResponse { containers }))
}

fn rendered(
    services: &Services,
    filter: Option<v1::ContainerFilter>,
) -> Result<Vec<v1::Container>, Status> {
    Ok(listed(services, filter)?.iter().map(|one| render::container_item(one)).collect())
}

pub(super) fn stream(
    services: &Services,
    request: v1::StreamContainersRequest,
) -> Answer<Streamed<v1::StreamContainersResponse>> {
    let containers = rendered(services, request.filter)?;
    Ok(pieces(containers, |containers| v1::StreamContainersResponse { containers }))
}

pub(super) async fn update_resources(
    services: &Services,
    request: &v1::UpdateContainerResourcesRequest,
) -> Answer<v1::UpdateContainerResourcesResponse> {
    if request.windows.is_some() {
        return Err(code::status(&At::field("windows").bad("set", "this is a Linux node")));
    }
    // Those of others say nothing to us.
    if let Some(key) = request.annotations.keys().find(|key| key.starts_with("isopod.dev/")) {
        let expected = "what our annotations ask for is fixed when a container is created";
        return Err(code::status(&At::field("annotations").bad(key, expected)));
    }
    let nothing = v1::LinuxContainerResources::default();
    let given = request.linux.as_ref().unwrap_or(&nothing);
    let resources =
        parse::updated_resources(At::field("linux"), given).map_err(|bad| code::status(&bad))?;
    let id = known_container(services, &request.container_id, To::Do)?;
    let update = services.pods.update_container_resources(&id, resources);
    update.await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::UpdateContainerResourcesResponse {}))
}

pub(super) async fn reopen_log(
    services: &Services,
    request: &v1::ReopenContainerLogRequest,
) -> Answer<v1::ReopenContainerLogResponse> {
    let id = known_container(services, &request.container_id, To::Do)?;
    services.pods.reopen_log(&id).await.map_err(|error| code::status(&error))?;
    Ok(Response::new(v1::ReopenContainerLogResponse {}))
}
