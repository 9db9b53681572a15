//! The runtime service: each call parses, asks once, and converts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use cri_api::v1::runtime_service_server::RuntimeService;
use cri_api::v1::*;
use cri_streaming::Server;
use cri_streaming::server::{Attach, Exec, PortForward, Refused, Streams as Wanted};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::check;
use crate::fault::Fault;
use crate::play::{self, unknown};
use crate::streams::Streams;
use crate::world::World;
use crate::{figures, lists, lives};

/// Serves sandboxes and containers.
#[derive(Debug)]
pub(crate) struct Service {
    pub world: Arc<World>,
    pub streams: Arc<Server<Streams>>,
}

/// The verbose part of an answer.
pub(crate) fn info(world: &World, verbose: bool) -> BTreeMap<String, String> {
    let shows = (verbose && !world.has(Fault::NeverVerbose)) || world.has(Fault::AlwaysVerbose);
    let text = ("memory".to_owned(), "{\"played\": true}".to_owned());
    if shows { [text].into() } else { BTreeMap::new() }
}

type Answer<T> = Result<Response<T>, Status>;
type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

/// A list as a stream: in parts of a thousand.
fn parts<T, P>(world: &World, items: Vec<T>, part: fn(Vec<T>) -> P) -> Parts<P>
where
    T: Clone + Send + 'static,
    P: Send + 'static,
{
    let mut items = items;
    if world.has(Fault::StreamRepeats) {
        items.extend(items.first().cloned());
    }
    let parts: Vec<_> = items.chunks(1000).map(|chunk| Ok(part(chunk.to_vec()))).collect();
    Box::pin(tokio_stream::iter(parts))
}

fn refusal(refused: Refused) -> Status {
    match refused {
        Refused::Invalid(why) => Status::invalid_argument(why),
        Refused::NoToken(error) => Status::resource_exhausted(error.to_string()),
    }
}

impl Service {
    /// The name of a sandbox, for the script.
    fn pod_name(&self, id: &str) -> String {
        let tables = self.world.lock();
        let metadata = tables.pods.get(id).and_then(|pod| pod.config.metadata.as_ref());
        metadata.map(|metadata| metadata.name.clone()).unwrap_or_default()
    }

    /// The name of a container, for the script.
    fn name(&self, id: &str) -> String {
        let tables = self.world.lock();
        let metadata = tables.containers.get(id).and_then(|one| one.config.metadata.as_ref());
        metadata.map(|metadata| metadata.name.clone()).unwrap_or_default()
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    type StreamPodSandboxesStream = Parts<StreamPodSandboxesResponse>;
    type StreamContainersStream = Parts<StreamContainersResponse>;
    type StreamContainerStatsStream = Parts<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Parts<StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Parts<StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Parts<ContainerEventResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        let api = if self.world.has(Fault::ApiVersion) { "v2" } else { cri_api::API_VERSION };
        ok(VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "memory".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: api.to_owned(),
        })
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        self.world.script.play("Status", "").await?;
        let condition = |name: &str, status| RuntimeCondition {
            r#type: name.to_owned(),
            status,
            ..Default::default()
        };
        let ready = condition("RuntimeReady", !self.world.has(Fault::NotReady));
        let conditions = vec![ready, condition("NetworkReady", true)];
        ok(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: info(&self.world, request.into_inner().verbose),
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                features: Some(RuntimeHandlerFeatures::default()),
            }],
            features: Some(RuntimeFeatures::default()),
        })
    }

    async fn runtime_config(
        &self,
        _: Request<RuntimeConfigRequest>,
    ) -> Answer<RuntimeConfigResponse> {
        let cgroup_driver = CgroupDriver::Cgroupfs.into();
        ok(RuntimeConfigResponse { linux: Some(LinuxRuntimeConfiguration { cgroup_driver }) })
    }

    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        ok(UpdateRuntimeConfigResponse {})
    }

    async fn run_pod_sandbox(
        &self,
        request: Request<RunPodSandboxRequest>,
    ) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let name = metadata.map(|metadata| metadata.name.clone()).unwrap_or_default();
        self.world.script.play("RunPodSandbox", &name).await?;
        ok(RunPodSandboxResponse { pod_sandbox_id: lives::run(&self.world, request)? })
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.world.script.play("StopPodSandbox", &self.pod_name(&id)).await?;
        lives::stop_pod(&self.world, &id).await?;
        ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.world.script.play("RemovePodSandbox", &self.pod_name(&id)).await?;
        lives::remove_pod(&self.world, &id).await?;
        ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let request = request.into_inner();
        let id = request.pod_sandbox_id;
        self.world.script.play("PodSandboxStatus", &self.pod_name(&id)).await?;
        let tables = self.world.lock();
        let pod = tables.pods.get(&id).ok_or_else(|| unknown(&self.world, "sandbox", &id))?;
        let ours = tables.containers.iter().filter(|(_, one)| one.pod == id);
        ok(PodSandboxStatusResponse {
            status: Some(self.world.pod_status(&id, pod)),
            info: info(&self.world, request.verbose),
            containers_statuses: ours
                .map(|(id, one)| self.world.container_status(id, one))
                .collect(),
            timestamp: crate::world::now(),
        })
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        self.world.script.play("ListPodSandbox", "").await?;
        let filter = request.into_inner().filter.unwrap_or_default();
        ok(ListPodSandboxResponse { items: lists::pods(&self.world, &filter) })
    }

    async fn stream_pod_sandboxes(
        &self,
        request: Request<StreamPodSandboxesRequest>,
    ) -> Answer<Self::StreamPodSandboxesStream> {
        self.world.script.play("StreamPodSandboxes", "").await?;
        let items = lists::pods(&self.world, &request.into_inner().filter.unwrap_or_default());
        ok(parts(&self.world, items, |pod_sandboxes| StreamPodSandboxesResponse { pod_sandboxes }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let metadata = request.config.as_ref().and_then(|config| config.metadata.as_ref());
        let name = metadata.map(|metadata| metadata.name.clone()).unwrap_or_default();
        self.world.script.play("CreateContainer", &name).await?;
        ok(CreateContainerResponse { container_id: lives::create(&self.world, request)? })
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let id = request.into_inner().container_id;
        self.world.script.play("StartContainer", &self.name(&id)).await?;
        play::start(&self.world, &id)?;
        ok(StartContainerResponse {})
    }

    async fn stop_container(
        &self,
        request: Request<StopContainerRequest>,
    ) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        self.world.script.play("StopContainer", &self.name(&id)).await?;
        lives::stop_container(&self.world, &id, request.timeout).await?;
        ok(StopContainerResponse {})
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.world.script.play("RemoveContainer", &self.name(&id)).await?;
        lives::remove(&self.world, &id).await?;
        ok(RemoveContainerResponse {})
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        self.world.script.play("ListContainers", "").await?;
        let filter = request.into_inner().filter.unwrap_or_default();
        ok(ListContainersResponse { containers: lists::containers(&self.world, &filter) })
    }

    async fn stream_containers(
        &self,
        request: Request<StreamContainersRequest>,
    ) -> Answer<Self::StreamContainersStream> {
        self.world.script.play("StreamContainers", "").await?;
        let items =
            lists::containers(&self.world, &request.into_inner().filter.unwrap_or_default());
        ok(parts(&self.world, items, |containers| StreamContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        self.world.script.play("ContainerStatus", &self.name(&id)).await?;
        let tables = self.world.lock();
        let one =
            tables.containers.get(&id).ok_or_else(|| unknown(&self.world, "container", &id))?;
        let status = Some(self.world.container_status(&id, one));
        ok(ContainerStatusResponse { status, info: info(&self.world, request.verbose) })
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let id = request.container_id;
        self.world.script.play("UpdateContainerResources", &self.name(&id)).await?;
        lives::update(&self.world, &id, request.linux)?;
        ok(UpdateContainerResourcesResponse {})
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        play::reopen(&self.world, &request.into_inner().container_id)?;
        ok(ReopenContainerLogResponse {})
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        self.world.script.play("ExecSync", &self.name(&request.container_id)).await?;
        ok(play::exec_sync(&self.world, request).await?)
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request.into_inner();
        play::running(&self.world, &container_id)?;
        check::streams(tty, stdin, stdout, stderr)?;
        let streams = Wanted { tty, stdin, stdout, stderr };
        let exec = Exec { container: container_id, command: cmd, streams };
        ok(ExecResponse { url: self.streams.exec_url(exec).map_err(refusal)? })
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let AttachRequest { container_id, stdin, tty, stdout, stderr } = request.into_inner();
        play::running(&self.world, &container_id)?;
        check::streams(tty, stdin, stdout, stderr)?;
        let streams = Wanted { tty, stdin, stdout, stderr };
        let attach = Attach { container: container_id, streams };
        ok(AttachResponse { url: self.streams.attach_url(attach).map_err(refusal)? })
    }

    async fn port_forward(
        &self,
        request: Request<PortForwardRequest>,
    ) -> Answer<PortForwardResponse> {
        let PortForwardRequest { pod_sandbox_id: sandbox, port } = request.into_inner();
        match self.world.lock().pods.get(&sandbox) {
            None => return Err(unknown(&self.world, "sandbox", &sandbox)),
            Some(pod) if !pod.is_ready => {
                return Err(Status::failed_precondition(format!("sandbox {sandbox} is stopped")));
            }
            Some(_) => {}
        }
        let ports = port.into_iter().filter_map(|port| u16::try_from(port).ok()).collect();
        let url = self.streams.port_forward_url(PortForward { sandbox, ports }).map_err(refusal)?;
        ok(PortForwardResponse { url })
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let id = request.into_inner().container_id;
        let tables = self.world.lock();
        let one =
            tables.containers.get(&id).ok_or_else(|| unknown(&self.world, "container", &id))?;
        ok(ContainerStatsResponse { stats: Some(figures::container(&self.world, &id, one)) })
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        self.world.script.play("ListContainerStats", "").await?;
        let filter = request.into_inner().filter.unwrap_or_default();
        ok(ListContainerStatsResponse { stats: figures::containers(&self.world, &filter) })
    }

    async fn stream_container_stats(
        &self,
        request: Request<StreamContainerStatsRequest>,
    ) -> Answer<Self::StreamContainerStatsStream> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let items = figures::containers(&self.world, &filter);
        ok(parts(&self.world, items, |container_stats| StreamContainerStatsResponse {
            container_stats,
        }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let tables = self.world.lock();
        let pod = tables.pods.get(&id).ok_or_else(|| unknown(&self.world, "sandbox", &id))?;
        ok(PodSandboxStatsResponse { stats: Some(figures::pod(&self.world, &tables, &id, pod)) })
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        ok(ListPodSandboxStatsResponse { stats: figures::pods(&self.world, &filter) })
    }

    async fn stream_pod_sandbox_stats(
        &self,
        request: Request<StreamPodSandboxStatsRequest>,
    ) -> Answer<Self::StreamPodSandboxStatsStream> {
        let items = figures::pods(&self.world, &request.into_inner().filter.unwrap_or_default());
        ok(parts(&self.world, items, |pod_sandbox_stats| StreamPodSandboxStatsResponse {
            pod_sandbox_stats,
        }))
    }

    async fn checkpoint_container(
        &self,
        _: Request<CheckpointContainerRequest>,
    ) -> Answer<CheckpointContainerResponse> {
        Err(Status::unimplemented("nothing is here that could be checkpointed"))
    }

    async fn checkpoint_pod(
        &self,
        _: Request<CheckpointPodRequest>,
    ) -> Answer<CheckpointPodResponse> {
        Err(Status::unimplemented("nothing is here that could be checkpointed"))
    }

    async fn restore_pod(&self, _: Request<RestorePodRequest>) -> Answer<RestorePodResponse> {
        Err(Status::unimplemented("nothing is here that could be restored"))
    }

    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = BroadcastStream::new(self.world.events.subscribe());
        let behind = |_| Status::resource_exhausted("the subscriber fell behind; list again");
        ok(Box::pin(events.map(move |event| event.map_err(behind))))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        ok(ListMetricDescriptorsResponse { descriptors: figures::descriptors(&self.world) })
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        ok(ListPodSandboxMetricsResponse { pod_metrics: figures::pod_metrics(&self.world) })
    }

    async fn stream_pod_sandbox_metrics(
        &self,
        _: Request<StreamPodSandboxMetricsRequest>,
    ) -> Answer<Self::StreamPodSandboxMetricsStream> {
        let items = figures::pod_metrics(&self.world);
        ok(parts(&self.world, items, |pod_sandbox_metrics| StreamPodSandboxMetricsResponse {
            pod_sandbox_metrics,
        }))
    }

    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        let id = request.into_inner().pod_sandbox_id;
        if !self.world.lock().pods.contains_key(&id) {
            return Err(unknown(&self.world, "sandbox", &id));
        }
        ok(UpdatePodSandboxResourcesResponse {})
    }
}
