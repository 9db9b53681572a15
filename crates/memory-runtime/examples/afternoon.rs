//! A CRI runtime in one file: each container is a process of this machine, without any isolation.
//!
//! docs/guide/runtime.md goes through it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cri_api::v1::image_service_server::{ImageService, ImageServiceServer};
use cri_api::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use cri_api::v1::*;
use cri_log::{Encoder, Stamp, Time};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;
type Never<T> = tokio_stream::Empty<Result<T, Status>>;

#[derive(Default)]
struct Tables {
    pods: BTreeMap<String, PodSandboxStatus>,
    /// A container's status, what it was asked to be, its sandbox, and its process group.
    containers: BTreeMap<String, (ContainerStatus, ContainerConfig, String, Option<u32>)>,
    images: BTreeMap<String, Image>,
    directories: BTreeMap<String, String>,
    count: u64,
    ended: Option<watch::Sender<u64>>,
}

/// Both services share it.
#[derive(Clone, Default)]
struct Afternoon(Arc<Mutex<Tables>>);

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as i64)
}

fn ok<T>(message: T) -> Answer<T> {
    Ok(Response::new(message))
}

fn has(labels: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Copies a stream of a process into its log, line by line.
async fn log(mut from: impl AsyncRead + Unpin, stream: cri_log::Stream, path: PathBuf) {
    let file = tokio::fs::OpenOptions::new().create(true).append(true).open(&path).await;
    let Ok(mut file) = file else { return };
    let (mut encoder, mut buffer) = (Encoder::new(stream), vec![0; 32 << 10]);
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let stamp = Stamp::of(Time::from_nanoseconds(now()));
        let (mut rest, mut out) = (&buffer[..count], Vec::with_capacity(64 << 10));
        while !rest.is_empty() {
            rest = encoder.encode(&stamp, rest, &mut out);
            let _ = file.write_all(&out).await;
            out.clear();
        }
        if count == 0 {
            encoder.finish(&stamp, &mut out);
            let _ = (file.write_all(&out).await, file.flush().await);
            return;
        }
    }
}

impl Afternoon {
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, words: &[String], config: &ContainerConfig) -> Result<Command, Status> {
        let (name, args) =
            words.split_first().ok_or_else(|| Status::invalid_argument("no command"))?;
        let mut command = Command::new(name);
        command.args(args).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        for variable in &config.envs {
            command.env(&variable.key, String::from_utf8_lossy(&variable.value).as_ref());
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        Ok(command)
    }

    fn start(&self, id: &str) -> Result<(), Status> {
        let mut tables = self.lock();
        let (status, config, _, group) =
            tables.containers.get_mut(id).ok_or_else(|| Status::not_found("no such container"))?;
        if status.state() != ContainerState::ContainerCreated {
            return Err(Status::failed_precondition("it has been started before"));
        }
        let words = [config.command.clone(), config.args.clone()].concat();
        let spawned = self.command(&words, config)?.spawn();
        let child = spawned.map_err(|error| {
            (status.state, status.exit_code) = (ContainerState::ContainerExited.into(), 128);
            "StartError".clone_into(&mut status.reason);
            status.message = error.to_string();
            Status::failed_precondition(format!("{words:?} cannot be executed: {error}"))
        })?;
        status.state = ContainerState::ContainerRunning.into();
        (status.started_at, *group) = (now(), child.id());
        tokio::spawn(self.clone().wait(id.to_owned(), child, status.log_path.clone().into()));
        Ok(())
    }

    /// Waits for a container's end, with its logs whole, and writes it down.
    async fn wait(self, id: String, mut child: Child, path: PathBuf) {
        use std::os::unix::process::ExitStatusExt as _;
        if let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) {
            let out = log(out, cri_log::Stream::Stdout, path.clone());
            tokio::join!(out, log(err, cri_log::Stream::Stderr, path));
        }
        let ended = child.wait().await;
        let code = ended.map_or(255, |s| s.code().unwrap_or_else(|| 128 + s.signal().unwrap_or(0)));
        let mut tables = self.lock();
        if let Some((status, ..)) = tables.containers.get_mut(&id) {
            status.state = ContainerState::ContainerExited.into();
            (status.exit_code, status.finished_at) = (code, now());
            if code == 0 { "Completed" } else { "Error" }.clone_into(&mut status.reason);
        }
        tables.ended.get_or_insert_with(|| watch::channel(0).0).send_modify(|count| *count += 1);
    }

    /// The group of a container that runs.
    fn group(&self, id: &str) -> Option<u32> {
        let tables = self.lock();
        let (status, _, _, group) = tables.containers.get(id)?;
        group.filter(|_| status.state() == ContainerState::ContainerRunning)
    }

    async fn stop(&self, id: &str, timeout: i64) {
        let mut ended = self.lock().ended.get_or_insert_with(|| watch::channel(0).0).subscribe();
        let patience = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
        for (signal, time) in [("-TERM", patience), ("-KILL", Duration::from_secs(10))] {
            let Some(group) = self.group(id) else { return };
            if time.is_zero() {
                continue;
            }
            let target = format!("-{group}");
            let mut kill = Command::new("kill");
            let _ = kill.args([signal, "--", &target]).stderr(Stdio::null()).status().await;
            let over = async { while self.group(id).is_some() && ended.changed().await.is_ok() {} };
            let _ = tokio::time::timeout(time, over).await;
        }
    }

    async fn stop_pod(&self, id: &str) {
        let ours: Vec<String> = {
            let mut tables = self.lock();
            if let Some(pod) = tables.pods.get_mut(id) {
                pod.state = PodSandboxState::SandboxNotready.into();
            }
            let ours = tables.containers.iter().filter(|(_, (_, _, pod, _))| pod == id);
            ours.map(|(id, _)| id.clone()).collect()
        };
        for container in ours {
            self.stop(&container, 0).await;
        }
    }
}

/// A service of which some calls are written out, and the others are not there.
macro_rules! service {
    ($service:ident { $($given:tt)* } $($name:ident($request:ty) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl $service for Afternoon {
            $($given)*
            $(async fn $name(&self, _: Request<$request>) -> Answer<$answer> {
                Err(Status::unimplemented(stringify!($name)))
            })*
        }
    };
}

service! { RuntimeService {
    type StreamPodSandboxesStream = Never<StreamPodSandboxesResponse>;
    type StreamContainersStream = Never<StreamContainersResponse>;
    type StreamContainerStatsStream = Never<StreamContainerStatsResponse>;
    type StreamPodSandboxStatsStream = Never<StreamPodSandboxStatsResponse>;
    type StreamPodSandboxMetricsStream = Never<StreamPodSandboxMetricsResponse>;
    type GetContainerEventsStream = Never<ContainerEventResponse>;

    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        let [version, name, own, api] = ["0.1.0", "afternoon", "0.1.0", "v1"].map(str::to_owned);
        ok(VersionResponse { version, runtime_name: name, runtime_version: own, runtime_api_version: api })
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<StatusResponse> {
        let conditions = ["RuntimeReady", "NetworkReady"].map(|name| RuntimeCondition {
            r#type: name.to_owned(),
            status: true,
            ..Default::default()
        });
        let info = request.into_inner().verbose.then(|| ("pid".to_owned(), std::process::id().to_string()));
        let status = Some(RuntimeStatus { conditions: conditions.to_vec() });
        ok(StatusResponse { status, info: info.into_iter().collect(), ..Default::default() })
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let RunPodSandboxRequest { config, runtime_handler } = request.into_inner();
        let config = config.ok_or_else(|| Status::invalid_argument("no config"))?;
        std::fs::create_dir_all(&config.log_directory)?;
        let mut tables = self.lock();
        if let Some((id, _)) = tables.pods.iter().find(|(_, pod)| pod.metadata == config.metadata) {
            return ok(RunPodSandboxResponse { pod_sandbox_id: id.clone() });
        }
        tables.count += 1;
        let id = format!("{:064x}", (u128::from(std::process::id()) << 64) + u128::from(tables.count));
        let context = config.linux.and_then(|linux| linux.security_context);
        let options = context.and_then(|context| context.namespace_options);
        tables.directories.insert(id.clone(), config.log_directory);
        tables.pods.insert(id.clone(), PodSandboxStatus {
            id: id.clone(), metadata: config.metadata, created_at: now(), labels: config.labels,
            annotations: config.annotations, runtime_handler,
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options }) }), ..Default::default()
        });
        ok(RunPodSandboxResponse { pod_sandbox_id: id })
    }

    async fn stop_pod_sandbox(&self, request: Request<StopPodSandboxRequest>) -> Answer<StopPodSandboxResponse> {
        self.stop_pod(&request.into_inner().pod_sandbox_id).await;
        ok(StopPodSandboxResponse {})
    }

    async fn remove_pod_sandbox(&self, request: Request<RemovePodSandboxRequest>) -> Answer<RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        self.stop_pod(&id).await;
        self.lock().containers.retain(|_, (_, _, pod, _)| *pod != id);
        self.lock().pods.remove(&id);
        ok(RemovePodSandboxResponse {})
    }

    async fn pod_sandbox_status(&self, request: Request<PodSandboxStatusRequest>) -> Answer<PodSandboxStatusResponse> {
        let PodSandboxStatusRequest { pod_sandbox_id: id, verbose } = request.into_inner();
        let status = self.lock().pods.get(&id).cloned();
        let status = status.ok_or_else(|| Status::not_found("no such sandbox"))?;
        let info = verbose.then(|| ("id".to_owned(), id)).into_iter().collect();
        ok(PodSandboxStatusResponse { status: Some(status), info, ..Default::default() })
    }

    async fn list_pod_sandbox(&self, request: Request<ListPodSandboxRequest>) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let tables = self.lock();
        let chosen = tables.pods.values().filter(|pod| {
            (filter.id.is_empty() || filter.id == pod.id)
                && filter.state.is_none_or(|wanted| wanted.state == pod.state)
                && has(&pod.labels, &filter.label_selector)
        });
        let items = chosen.cloned().map(|pod| PodSandbox {
            id: pod.id, metadata: pod.metadata, state: pod.state, created_at: pod.created_at,
            labels: pod.labels, annotations: pod.annotations, runtime_handler: pod.runtime_handler,
        });
        ok(ListPodSandboxResponse { items: items.collect() })
    }

    async fn create_container(&self, request: Request<CreateContainerRequest>) -> Answer<CreateContainerResponse> {
        let CreateContainerRequest { pod_sandbox_id: pod, config, .. } = request.into_inner();
        let config = config.ok_or_else(|| Status::invalid_argument("no config"))?;
        let mut tables = self.lock();
        let directory = tables.directories.get(&pod).cloned().ok_or_else(|| Status::not_found("no such sandbox"))?;
        let image = config.image.clone().unwrap_or_default();
        let id_of = tables.images.values().find(|known| known.id == image.image || known.repo_tags.contains(&image.image));
        let image_id = id_of.map(|known| known.id.clone()).ok_or_else(|| Status::not_found("no such image"))?;
        tables.count += 1;
        let id = format!("{:064x}", (u128::from(std::process::id()) << 64) + u128::from(tables.count));
        let status = ContainerStatus {
            id: id.clone(), metadata: config.metadata.clone(), created_at: now(), image: config.image.clone(),
            image_ref: image_id.clone(), image_id, labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: Path::new(&directory).join(&config.log_path).to_string_lossy().into_owned(),
            ..Default::default()
        };
        tables.containers.insert(id.clone(), (status, config, pod, None));
        ok(CreateContainerResponse { container_id: id })
    }

    async fn start_container(&self, request: Request<StartContainerRequest>) -> Answer<StartContainerResponse> {
        self.start(&request.into_inner().container_id)?;
        ok(StartContainerResponse {})
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let StopContainerRequest { container_id, timeout } = request.into_inner();
        self.stop(&container_id, timeout).await;
        ok(StopContainerResponse {})
    }

    async fn remove_container(&self, request: Request<RemoveContainerRequest>) -> Answer<RemoveContainerResponse> {
        let id = request.into_inner().container_id;
        self.stop(&id, 0).await;
        self.lock().containers.remove(&id);
        ok(RemoveContainerResponse {})
    }

    async fn container_status(&self, request: Request<ContainerStatusRequest>) -> Answer<ContainerStatusResponse> {
        let ContainerStatusRequest { container_id: id, verbose } = request.into_inner();
        let tables = self.lock();
        let (status, _, pod, _) = tables.containers.get(&id).ok_or_else(|| Status::not_found("no such container"))?;
        let info = verbose.then(|| ("sandbox".to_owned(), pod.clone())).into_iter().collect();
        ok(ContainerStatusResponse { status: Some(status.clone()), info })
    }

    async fn list_containers(&self, request: Request<ListContainersRequest>) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let tables = self.lock();
        let chosen = tables.containers.values().filter(|(status, _, pod, _)| {
            (filter.id.is_empty() || filter.id == status.id)
                && (filter.pod_sandbox_id.is_empty() || filter.pod_sandbox_id == *pod)
                && filter.state.is_none_or(|wanted| wanted.state == status.state)
                && has(&status.labels, &filter.label_selector)
        });
        let containers = chosen.cloned().map(|(status, _, pod_sandbox_id, _)| Container {
            id: status.id, pod_sandbox_id, metadata: status.metadata, image: status.image,
            image_ref: status.image_ref, state: status.state, created_at: status.created_at,
            labels: status.labels, annotations: status.annotations, image_id: status.image_id,
        });
        ok(ListContainersResponse { containers: containers.collect() })
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let ExecSyncRequest { container_id: id, cmd, timeout } = request.into_inner();
        let config = self.lock().containers.get(&id).map(|(_, config, ..)| config.clone());
        let config = config.ok_or_else(|| Status::not_found("no such container"))?;
        self.group(&id).ok_or_else(|| Status::failed_precondition("it does not run"))?;
        let child = self.command(&cmd, &config)?.kill_on_drop(true).spawn()?;
        let limit = if timeout > 0 { timeout.unsigned_abs() } else { 1 << 30 };
        let done = tokio::time::timeout(Duration::from_secs(limit), child.wait_with_output()).await;
        let done = done.map_err(|_| Status::deadline_exceeded("it ran past its timeout"))??;
        let exit_code = done.status.code().unwrap_or(137);
        ok(ExecSyncResponse { stdout: done.stdout.into(), stderr: done.stderr.into(), exit_code })
    }
}
    runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
    stream_pod_sandboxes(StreamPodSandboxesRequest) -> Self::StreamPodSandboxesStream;
    stream_containers(StreamContainersRequest) -> Self::StreamContainersStream;
    update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
    reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse; exec(ExecRequest) -> ExecResponse;
    attach(AttachRequest) -> AttachResponse; port_forward(PortForwardRequest) -> PortForwardResponse;
    container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
    list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
    stream_container_stats(StreamContainerStatsRequest) -> Self::StreamContainerStatsStream;
    pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
    list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
    stream_pod_sandbox_stats(StreamPodSandboxStatsRequest) -> Self::StreamPodSandboxStatsStream;
    checkpoint_container(CheckpointContainerRequest) -> CheckpointContainerResponse;
    checkpoint_pod(CheckpointPodRequest) -> CheckpointPodResponse; restore_pod(RestorePodRequest) -> RestorePodResponse;
    get_container_events(GetEventsRequest) -> Self::GetContainerEventsStream;
    list_metric_descriptors(ListMetricDescriptorsRequest) -> ListMetricDescriptorsResponse;
    list_pod_sandbox_metrics(ListPodSandboxMetricsRequest) -> ListPodSandboxMetricsResponse;
    stream_pod_sandbox_metrics(StreamPodSandboxMetricsRequest) -> Self::StreamPodSandboxMetricsStream;
    update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
}

service! { ImageService {
    type StreamImagesStream = Never<StreamImagesResponse>;
    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let id = Sha256::digest(&name).iter().fold("sha256:".to_owned(), |id, byte| format!("{id}{byte:02x}"));
        let image = Image { id: id.clone(), repo_tags: vec![name.clone()], size: 1, ..Default::default() };
        self.lock().images.insert(name, image);
        ok(PullImageResponse { image_ref: id })
    }

    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let tables = self.lock();
        let image = tables.images.values().find(|image| image.id == name || image.repo_tags.contains(&name));
        ok(ImageStatusResponse { image: image.cloned(), ..Default::default() })
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        self.lock().images.retain(|tag, image| *tag != name && image.id != name);
        ok(RemoveImageResponse {})
    }
}
    list_images(ListImagesRequest) -> ListImagesResponse; stream_images(StreamImagesRequest) -> Self::StreamImagesStream; image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let socket = std::env::args().nth(1).ok_or("where does it listen?")?;
    let runtime = Afternoon::default();
    let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
    tonic::transport::Server::builder()
        .add_service(RuntimeServiceServer::new(runtime.clone()))
        .add_service(ImageServiceServer::new(runtime))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
