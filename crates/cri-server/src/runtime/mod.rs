//! The runtime service.

pub(crate) mod container;
mod events;
mod exec;
mod node;
pub(crate) mod sandbox;
mod stats;

use cri_api::v1;
use cri_api::v1::runtime_service_server::RuntimeService;
use model::{ContainerId, SandboxId};
use tonic::{Request, Response, Status};

use crate::audit::Audited;
use crate::parse::{self, At, Given};
use crate::short_ids::To;
use crate::stream::Streamed;
use crate::{Cri, Services, code, front, metrics, short_ids, unimplemented};

/// What a unary call answers.
type Answer<T> = Result<Response<T>, Status>;

/// The sandbox that a request names; NotFound for a text that no sandbox can have as its id.
pub(crate) fn known_sandbox(services: &Services, text: &str, to: To) -> Result<SandboxId, Status> {
    match named_sandbox(services, text, to)? {
        Given::Id(id) => Ok(id),
        Given::Nobody => Err(Status::not_found(format!("sandbox {text:?} does not exist"))),
    }
}

/// The container that a request names; the same.
fn known_container(services: &Services, text: &str, to: To) -> Result<ContainerId, Status> {
    match named_container(services, text, to)? {
        Given::Id(id) => Ok(id),
        Given::Nobody => Err(Status::not_found(format!("container {text:?} does not exist"))),
    }
}

/// What a request says about a sandbox, by its id or the beginning of it.
fn named_sandbox(services: &Services, text: &str, to: To) -> Result<Given<SandboxId>, Status> {
    let whole = short_ids::sandbox(&services.pods, text, to)?;
    let given = parse::sandbox_id(At::field("pod_sandbox_id"), &whole);
    given.map_err(|bad| code::status(&bad))
}

/// The same of a container.
fn named_container(services: &Services, text: &str, to: To) -> Result<Given<ContainerId>, Status> {
    let whole = short_ids::container(&services.pods, text, to)?;
    let given = parse::container_id(At::field("container_id"), &whole);
    given.map_err(|bad| code::status(&bad))
}

#[tonic::async_trait]
impl RuntimeService for Cri {
    async fn version(&self, _request: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        node::version(&self.inner.services)
    }

    async fn status(&self, request: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let request = front::shown(request, |request| &mut request.verbose);
        node::status(&self.inner.services, request).await
    }

    async fn runtime_config(
        &self,
        _request: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        node::runtime_config(&self.inner.services)
    }

    async fn update_runtime_config(
        &self,
        request: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        node::update_runtime_config(&self.inner.services, request.into_inner()).await
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        sandbox::run(&self.inner.services, request.into_inner()).await
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        sandbox::stop(&self.inner.services, &request.into_inner()).await
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        sandbox::remove(&self.inner.services, &request.into_inner()).await
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        sandbox::status(
            &self.inner.services,
            &front::shown(request, |request| &mut request.verbose),
        )
        .await
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        // `lists` has answered before it comes here; the trait wants it.
        sandbox::list(&self.inner.services, request.into_inner())
    }

    type StreamPodSandboxesStream = Streamed<v1::StreamPodSandboxesResponse>;

    async fn stream_pod_sandboxes(
        &self,
        request: Request<v1::StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        sandbox::stream(&self.inner.services, request.into_inner())
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        sandbox::update_resources(&self.inner.services, &request.into_inner()).await
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        container::create(&self.inner.services, request.into_inner()).await
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        container::start(&self.inner.services, &request.into_inner()).await
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        container::stop(&self.inner.services, &request.into_inner()).await
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        container::remove(&self.inner.services, &request.into_inner()).await
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        // `lists` has answered before it comes here; the trait wants it.
        container::list(&self.inner.services, request.into_inner())
    }

    type StreamContainersStream = Streamed<v1::StreamContainersResponse>;

    async fn stream_containers(
        &self,
        request: Request<v1::StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        container::stream(&self.inner.services, request.into_inner())
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        container::status(
            &self.inner.services,
            &front::shown(request, |request| &mut request.verbose),
        )
        .await
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        container::update_resources(&self.inner.services, &request.into_inner()).await
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        container::reopen_log(&self.inner.services, &request.into_inner()).await
    }

    async fn exec_sync(
        &self,
        request: Request<v1::ExecSyncRequest>,
    ) -> Answer<v1::ExecSyncResponse> {
        let services = &self.inner.services;
        let (_, caller, request) = request.into_parts();
        let v1::ExecSyncRequest { container_id, cmd, .. } = &request;
        let audited = Audited::container(services, &caller, "ExecSync", container_id, cmd);
        let answer = exec::exec_sync(services, request).await;
        audited.end(&answer, |done| Some(done.exit_code));
        answer
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let services = &self.inner.services;
        let (_, caller, request) = request.into_parts();
        let v1::ExecRequest { container_id, cmd, .. } = &request;
        let audited = Audited::container(services, &caller, "Exec", container_id, cmd);
        let answer = exec::exec(services, request).await;
        audited.end(&answer, |_| None);
        answer
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let services = &self.inner.services;
        let (_, caller, request) = request.into_parts();
        let audited = Audited::container(services, &caller, "Attach", &request.container_id, &[]);
        let answer = exec::attach(services, &request).await;
        audited.end(&answer, |_| None);
        answer
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let services = &self.inner.services;
        let (_, caller, request) = request.into_parts();
        let v1::PortForwardRequest { pod_sandbox_id, port } = &request;
        let audited = Audited::ports(services, &caller, "PortForward", pod_sandbox_id, port);
        let answer = exec::port_forward(services, &request).await;
        audited.end(&answer, |_| None);
        answer
    }

    type GetContainerEventsStream = Streamed<v1::ContainerEventResponse>;

    async fn get_container_events(
        &self,
        request: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let peer = request.extensions().get::<front::Peer>().cloned();
        Ok(events::subscribe(&self.inner.services, peer))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        stats::container(&self.inner, &request.into_inner()).await
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        stats::list_containers(&self.inner, request.into_inner()).await
    }

    type StreamContainerStatsStream = Streamed<v1::StreamContainerStatsResponse>;

    async fn stream_container_stats(
        &self,
        request: Request<v1::StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        stats::stream_containers(&self.inner, request.into_inner()).await
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        stats::sandbox(&self.inner, &request.into_inner()).await
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        stats::list_sandboxes(&self.inner, request.into_inner()).await
    }

    type StreamPodSandboxStatsStream = Streamed<v1::StreamPodSandboxStatsResponse>;

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<v1::StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        stats::stream_sandboxes(&self.inner, request.into_inner()).await
    }

    async fn list_metric_descriptors(
        &self,
        _request: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        Ok(Response::new(metrics::descriptors(self.inner.services.pods.counts_huge_pages())))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _request: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        metrics::list(&self.inner).await
    }

    type StreamPodSandboxMetricsStream = Streamed<v1::StreamPodSandboxMetricsResponse>;

    async fn stream_pod_sandbox_metrics(
        &self,
        _request: Request<v1::StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        metrics::stream(&self.inner).await
    }

    async fn checkpoint_container(
        &self,
        _request: Request<v1::CheckpointContainerRequest>,
    ) -> Answer<v1::CheckpointContainerResponse> {
        unimplemented("CheckpointContainer")
    }

    async fn checkpoint_pod(
        &self,
        _request: Request<v1::CheckpointPodRequest>,
    ) -> Answer<v1::CheckpointPodResponse> {
        unimplemented("CheckpointPod")
    }

    async fn restore_pod(
        &self,
        _request: Request<v1::RestorePodRequest>,
    ) -> Answer<v1::RestorePodResponse> {
        unimplemented("RestorePod")
    }
}
