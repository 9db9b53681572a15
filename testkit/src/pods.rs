//! Pods and containers, as a kubelet would ask for them.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cri_api::v1::{
    ContainerConfig, ContainerMetadata, ContainerState, ContainerStatus, ContainerStatusRequest,
    CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ImageSpec, LinuxContainerConfig,
    LinuxContainerSecurityContext, LinuxPodSandboxConfig, LinuxSandboxSecurityContext,
    NamespaceMode, NamespaceOption, PodSandboxConfig, PodSandboxMetadata, PodSandboxStatus,
    PodSandboxStatusRequest, PullImageRequest, RunPodSandboxRequest, SecurityProfile,
    StartContainerRequest, StopContainerRequest,
};
use tonic::Status;

use crate::daemon::Daemon;
use crate::poll::until;

/// How long a container may take to end that ends by itself.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Tells pods of one process apart.
static PODS: AtomicU32 = AtomicU32::new(0);

/// A pod with namespaces of its own, its logs in the daemon's directory.
#[must_use]
pub fn pod(daemon: &Daemon, name: &str) -> PodSandboxConfig {
    let number = PODS.fetch_add(1, Ordering::Relaxed);
    let uid = format!("00000000-0000-4000-8000-{number:012x}");
    let logs = daemon.directory().join("logs").join(name);
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.to_owned(),
            uid,
            namespace: "tests".to_owned(),
            attempt: 0,
        }),
        hostname: name.to_owned(),
        log_directory: logs.to_string_lossy().into_owned(),
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent: daemon.cgroup(),
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(NamespaceMode::Pod)),
                seccomp: Some(SecurityProfile::default()),
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// The same pod in the host's network.
#[must_use]
pub fn host_network(mut pod: PodSandboxConfig) -> PodSandboxConfig {
    pod.hostname.clear();
    let linux = pod.linux.get_or_insert_default();
    let context = linux.security_context.get_or_insert_default();
    context.namespace_options = Some(namespaces(NamespaceMode::Node));
    pod
}

fn namespaces(network: NamespaceMode) -> NamespaceOption {
    NamespaceOption {
        network: network.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}

/// A container of an image, with the default filter; its namespaces follow from the pod's when it is
/// created.
#[must_use]
pub fn container(name: &str, image: &str, command: &[&str]) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: image.to_owned(), ..Default::default() }),
        command: command.iter().map(|&word| word.to_owned()).collect(),
        log_path: format!("{name}.log"),
        linux: Some(LinuxContainerConfig {
            resources: None,
            security_context: Some(LinuxContainerSecurityContext {
                seccomp: Some(SecurityProfile::default()),
                ..Default::default()
            }),
        }),
        ..Default::default()
    }
}

/// A container that does nothing for long, and ends at once when it is told to.
#[must_use]
pub fn sleeper(name: &str, image: &str) -> ContainerConfig {
    let script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
    container(name, image, &["sh", "-c", script])
}

/// CreateContainer's request; the container's namespaces follow from the pod's.
#[must_use]
pub fn create_request(
    pod_id: &str,
    pod: &PodSandboxConfig,
    container: &ContainerConfig,
) -> CreateContainerRequest {
    let mut config = container.clone();
    let of_pod = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let of_pod = of_pod.and_then(|context| context.namespace_options.clone());
    let linux = config.linux.get_or_insert_default();
    let context = linux.security_context.get_or_insert_default();
    if context.namespace_options.is_none() {
        context.namespace_options = of_pod;
    }
    CreateContainerRequest {
        pod_sandbox_id: pod_id.to_owned(),
        config: Some(config),
        sandbox_config: Some(pod.clone()),
    }
}

impl Daemon {
    /// PullImage.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn pull(&self, image: &str) -> Result<String, Status> {
        let image = ImageSpec { image: image.to_owned(), ..Default::default() };
        let request = PullImageRequest { image: Some(image), auth: None, sandbox_config: None };
        Ok(self.images().pull_image(request).await?.into_inner().image_ref)
    }

    /// RunPodSandbox.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn run_pod(&self, pod: &PodSandboxConfig, handler: &str) -> Result<String, Status> {
        let request =
            RunPodSandboxRequest { config: Some(pod.clone()), runtime_handler: handler.to_owned() };
        Ok(self.runtime().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    /// PodSandboxStatus.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn pod_status(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.runtime().pod_sandbox_status(request).await?;
        Ok(answer.into_inner().status.unwrap_or_default())
    }

    /// CreateContainer, in the pod's network.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn create(
        &self,
        pod_id: &str,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> Result<String, Status> {
        // On the heap: these messages are large, and so would be every future that has this one.
        Box::pin(async {
            let request = create_request(pod_id, pod, container);
            Ok(self.runtime().create_container(request).await?.into_inner().container_id)
        })
        .await
    }

    /// StartContainer.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn start_container(&self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.runtime().start_container(request).await.map(|_| ())
    }

    /// Both.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn launch(
        &self,
        pod_id: &str,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> Result<String, Status> {
        let id = self.create(pod_id, pod, container).await?;
        self.start_container(&id).await?;
        Ok(id)
    }

    /// StopContainer.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn stop_container(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        self.runtime().stop_container(request).await.map(|_| ())
    }

    /// ContainerStatus.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn status(&self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.runtime().container_status(request).await?;
        Ok(answer.into_inner().status.unwrap_or_default())
    }

    /// ExecSync without a time limit.
    ///
    /// # Errors
    /// The daemon's answer.
    pub async fn exec(&self, id: &str, command: &[&str]) -> Result<ExecSyncResponse, Status> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 0,
        };
        Ok(self.runtime().exec_sync(request).await?.into_inner())
    }

    /// Waits until a container has ended.
    ///
    /// # Panics
    /// Where it does not end.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        until(format!("container {id} ends"), ENDS_WITHIN, async || {
            let status = self.status(id).await.expect("a container has a status");
            (status.state() == ContainerState::ContainerExited).then_some(status)
        })
        .await
    }

    /// What a container has logged, each line without its head.
    ///
    /// # Panics
    /// Where the log cannot be read.
    pub async fn logged(&self, id: &str) -> String {
        let status = self.status(id).await.expect("a container has a status");
        let text = std::fs::read(&status.log_path);
        let text = text.unwrap_or_else(|e| panic!("{}: {e}", status.log_path));
        let text = String::from_utf8_lossy(&text).into_owned();
        let contents = text.lines().map(|line| line.splitn(4, ' ').nth(3).unwrap_or_default());
        contents.map(|content| format!("{content}\n")).collect()
    }

    /// Runs a container to its end, and gives its status and what it logged.
    ///
    /// # Panics
    /// Where it cannot be run or does not end.
    pub async fn run_to_end(
        &self,
        pod_id: &str,
        pod: &PodSandboxConfig,
        container: &ContainerConfig,
    ) -> (ContainerStatus, String) {
        let id = self.launch(pod_id, pod, container).await.expect("the container starts");
        let status = self.ended(&id).await;
        let logged = self.logged(&id).await;
        (status, logged)
    }
}
