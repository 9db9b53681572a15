//! The calls, each as one function from a request to an answer.

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::*;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

/// Longest answer that is taken, in bytes: nodes with many pods are tested too.
const LONGEST_ANSWER: usize = 256 << 20;

/// Both services at one endpoint. Clones share the connection.
#[derive(Debug, Clone)]
pub(crate) struct Rpc {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

macro_rules! calls {
    ($($method:ident($request:ty) -> $answer:ty, $client:ident;)+) => {
        $(pub(crate) async fn $method(&self, request: $request) -> Result<$answer, Status> {
            let mut client = self.$client.clone();
            // On the heap: what waits for an answer would else be as large as its request.
            Box::pin(async move { client.$method(request).await.map(Response::into_inner) }).await
        })+
    };
}

impl Rpc {
    pub(crate) fn new(channel: Channel) -> Self {
        Self {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(LONGEST_ANSWER),
            images: ImageServiceClient::new(channel).max_decoding_message_size(LONGEST_ANSWER),
        }
    }

    calls! {
        version(VersionRequest) -> VersionResponse, runtime;
        status(StatusRequest) -> StatusResponse, runtime;
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse, runtime;
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse, runtime;
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse, runtime;
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse, runtime;
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse, runtime;
        pod_sandbox_status(PodSandboxStatusRequest) -> PodSandboxStatusResponse, runtime;
        list_pod_sandbox(ListPodSandboxRequest) -> ListPodSandboxResponse, runtime;
        stream_pod_sandboxes(StreamPodSandboxesRequest)
            -> Streaming<StreamPodSandboxesResponse>, runtime;
        create_container(CreateContainerRequest) -> CreateContainerResponse, runtime;
        start_container(StartContainerRequest) -> StartContainerResponse, runtime;
        stop_container(StopContainerRequest) -> StopContainerResponse, runtime;
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse, runtime;
        list_containers(ListContainersRequest) -> ListContainersResponse, runtime;
        stream_containers(StreamContainersRequest) -> Streaming<StreamContainersResponse>, runtime;
        container_status(ContainerStatusRequest) -> ContainerStatusResponse, runtime;
        update_container_resources(UpdateContainerResourcesRequest)
            -> UpdateContainerResourcesResponse, runtime;
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse, runtime;
        exec_sync(ExecSyncRequest) -> ExecSyncResponse, runtime;
        exec(ExecRequest) -> ExecResponse, runtime;
        attach(AttachRequest) -> AttachResponse, runtime;
        port_forward(PortForwardRequest) -> PortForwardResponse, runtime;
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse, runtime;
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse, runtime;
        stream_container_stats(StreamContainerStatsRequest)
            -> Streaming<StreamContainerStatsResponse>, runtime;
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse, runtime;
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse, runtime;
        stream_pod_sandbox_stats(StreamPodSandboxStatsRequest)
            -> Streaming<StreamPodSandboxStatsResponse>, runtime;
        checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse, runtime;
        checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse, runtime;
        restore_pod(RestorePodRequest) -> RestorePodResponse, runtime;
        get_container_events(GetEventsRequest) -> Streaming<ContainerEventResponse>, runtime;
        list_metric_descriptors(ListMetricDescriptorsRequest)
            -> ListMetricDescriptorsResponse, runtime;
        list_pod_sandbox_metrics(ListPodSandboxMetricsRequest)
            -> ListPodSandboxMetricsResponse, runtime;
        stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest)
            -> Streaming<StreamPodSandboxMetricsResponse>, runtime;
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest)
            -> UpdatePodSandboxResourcesResponse, runtime;
        list_images(ListImagesRequest) -> ListImagesResponse, images;
        stream_images(StreamImagesRequest) -> Streaming<StreamImagesResponse>, images;
        image_status(ImageStatusRequest) -> ImageStatusResponse, images;
        pull_image(PullImageRequest) -> PullImageResponse, images;
        remove_image(RemoveImageRequest) -> RemoveImageResponse, images;
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse, images;
    }
}

/// Reads a stream of lists to its end.
pub(crate) async fn drained<T>(mut stream: Streaming<T>) -> Result<Vec<T>, Status> {
    let mut all = Vec::new();
    while let Some(part) = stream.message().await? {
        all.push(part);
    }
    Ok(all)
}
