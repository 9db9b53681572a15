//! A CRI endpoint, and pods on it.
//!
//! Always: pods of a measurement are in the namespace [`NAMESPACE`]; only those are removed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, ImageStatusRequest,
    LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, ListPodSandboxRequest, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxFilter, PodSandboxMetadata, PullImageRequest,
    RemovePodSandboxRequest, RunPodSandboxRequest, SecurityProfile, StartContainerRequest,
    StopPodSandboxRequest, VersionRequest,
};
use tonic::transport::Channel;

/// The namespace of all pods of a measurement.
pub const NAMESPACE: &str = "isopod-bench";
/// The label that they are found by.
const LABEL: &str = "isopod.dev/bench";
/// A word on the command line of every container's process: what has it belongs to no runtime.
pub const MARK: &str = "98765431";
/// What containers run: ends at once when it is told to.
pub const SLEEPER: &str = "trap 'exit 0' TERM; while :; do sleep 98765431 & wait $!; done";

/// Tells pods of one process apart.
static PODS: AtomicU32 = AtomicU32::new(0);

/// Ends a daemon as kill -9 does and starts it again.
pub trait Restart: std::fmt::Debug {
    /// Kills it.
    fn kill(&mut self);
    /// Starts it; it need not serve yet.
    fn start(&mut self);
}

/// An endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// For people.
    pub name: String,
    /// Where it listens.
    pub socket: PathBuf,
    /// The one connection that all calls go over, as a kubelet has one.
    pub channel: Channel,
    /// The runtime handler of all pods.
    pub handler: String,
    /// The image of all containers.
    pub image: String,
    /// The cgroup of all pods, as the endpoint's driver writes it; empty for its own choice.
    pub cgroup: String,
    /// Directory for logs.
    pub logs: PathBuf,
    /// How it is restarted, where it is ours.
    pub restart: Option<Box<dyn Restart>>,
}

/// A pod that runs.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its sandbox.
    pub id: String,
    /// Its container; empty before there is one.
    pub container: String,
}

impl Endpoint {
    /// CRI: sandboxes and containers.
    pub fn runtime(&self) -> RuntimeServiceClient<Channel> {
        RuntimeServiceClient::new(self.channel.clone()).max_decoding_message_size(256 << 20)
    }

    /// CRI: images.
    pub fn images(&self) -> ImageServiceClient<Channel> {
        ImageServiceClient::new(self.channel.clone()).max_decoding_message_size(256 << 20)
    }

    /// Its name and version; a daemon that cannot be reached ends the program.
    pub async fn version(&self) -> String {
        let request = VersionRequest { version: "v1".to_owned() };
        let answer = self.runtime().version(request).await;
        let answer = answer.unwrap_or_else(|e| panic!("{}: {e}", self.socket.display()));
        let answer = answer.into_inner();
        format!("{} {}", answer.runtime_name, answer.runtime_version)
    }

    /// The daemon's process: the one that listens on the socket.
    pub async fn daemon(&self) -> Option<u32> {
        let stream = tokio::net::UnixStream::connect(&self.socket).await.ok()?;
        u32::try_from(stream.peer_cred().ok()?.pid()?).ok()
    }

    /// Brings an image here that may be here already, and nowhere else.
    pub async fn have(&self, image: &str) {
        let spec = ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = ImageStatusRequest { image: Some(spec), verbose: false };
        let status = self.images().image_status(request).await;
        let status = status.unwrap_or_else(|e| panic!("{}: image status: {e}", self.name));
        if status.into_inner().image.is_none() {
            self.pull(image).await;
        }
    }

    /// Brings an image here, or its newest version.
    pub async fn pull(&self, image: &str) {
        let image = ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = PullImageRequest { image: Some(image), auth: None, sandbox_config: None };
        let pulled = self.images().pull_image(request).await;
        pulled.unwrap_or_else(|e| panic!("{}: pull: {e}", self.name));
    }

    /// A pod that is asked for by nobody yet.
    pub fn pod(&self, network: NamespaceMode) -> PodSandboxConfig {
        let number = PODS.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench-{}-{number}", std::process::id());
        let namespaces = NamespaceOption {
            network: network.into(),
            pid: NamespaceMode::Container.into(),
            ipc: NamespaceMode::Pod.into(),
            ..Default::default()
        };
        let hostname = if network == NamespaceMode::Node { String::new() } else { name.clone() };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.clone(),
                uid: format!("{}-{number}", std::process::id()),
                namespace: NAMESPACE.to_owned(),
                attempt: 0,
            }),
            hostname,
            log_directory: self.logs.join(&name).to_string_lossy().into_owned(),
            labels: BTreeMap::from([(LABEL.to_owned(), "yes".to_owned())]),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.cgroup.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces),
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// A container with the default filter that runs a shell script.
    pub fn container(&self, pod: &PodSandboxConfig, script: &str) -> ContainerConfig {
        let of_pod = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let namespace_options = of_pod.and_then(|context| context.namespace_options.clone());
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: self.image.clone(), ..Default::default() }),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: "main.log".to_owned(),
            linux: Some(LinuxContainerConfig {
                resources: None,
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options,
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    /// RunPodSandbox.
    pub async fn run(&self, config: &PodSandboxConfig) -> String {
        let log = Path::new(&config.log_directory);
        std::fs::create_dir_all(log).expect("a directory for logs");
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
            runtime_handler: self.handler.clone(),
        };
        let run = self.runtime().run_pod_sandbox(request).await;
        run.unwrap_or_else(|e| panic!("{}: {e}", self.name)).into_inner().pod_sandbox_id
    }

    /// CreateContainer.
    pub async fn create(&self, id: &str, pod: &PodSandboxConfig, script: &str) -> String {
        let request = CreateContainerRequest {
            pod_sandbox_id: id.to_owned(),
            config: Some(self.container(pod, script)),
            sandbox_config: Some(pod.clone()),
        };
        let created = Box::pin(async { self.runtime().create_container(request).await }).await;
        created.unwrap_or_else(|e| panic!("{}: {e}", self.name)).into_inner().container_id
    }

    /// StartContainer.
    pub async fn start(&self, container_id: &str) {
        let request = StartContainerRequest { container_id: container_id.to_owned() };
        let started = self.runtime().start_container(request).await;
        started.unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// The three calls; how long they took.
    pub async fn up(&self, network: NamespaceMode, script: &str) -> (Pod, Duration) {
        let config = self.pod(network);
        let began = Instant::now();
        let id = self.run(&config).await;
        let container = self.create(&id, &config, script).await;
        self.start(&container).await;
        (Pod { id, container }, began.elapsed())
    }

    /// The pod and everything of it goes.
    pub async fn remove(&self, pod_sandbox_id: &str) {
        let pod_sandbox_id = pod_sandbox_id.to_owned();
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        let stopped = self.runtime().stop_pod_sandbox(stop).await;
        stopped.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let remove = RemovePodSandboxRequest { pod_sandbox_id };
        let removed = self.runtime().remove_pod_sandbox(remove).await;
        removed.unwrap_or_else(|e| panic!("{}: {e}", self.name));
    }

    /// All pods of measurements go.
    pub async fn clear(&self) {
        let filter = PodSandboxFilter {
            label_selector: BTreeMap::from([(LABEL.to_owned(), "yes".to_owned())]),
            ..Default::default()
        };
        let request = ListPodSandboxRequest { filter: Some(filter) };
        let list = self.runtime().list_pod_sandbox(request).await;
        let list = list.unwrap_or_else(|e| panic!("{}: {e}", self.name));
        for pod in list.into_inner().items {
            self.remove(&pod.id).await;
        }
    }
}
