//! What a case has in hand.
//!
//! Owns: the calls as cases make them, and what a case has made. Always: what is made through a context
//! is removed after the case. Callers: every case.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cri_api::v1::*;
use tempfile::TempDir;
use tonic::{Code, Status};

use crate::case::{Case, Stop, said, until};
use crate::facts::Facts;
use crate::images::{Image, Registry, push};
use crate::logs::Log;
use crate::options::Options;
use crate::rpc::Rpc;
use crate::scope::Scope;

/// How long something that happens by itself may take.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_millis(15);

/// Where images come from.
#[derive(Debug)]
pub(crate) enum Source {
    Own(Registry),
    Given(String),
}

/// What all cases of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub rpc: Rpc,
    pub options: Options,
    pub facts: Facts,
    pub source: Source,
    /// The image that most containers run.
    pub busybox: Image,
    /// Its reference; it is on the node while cases run.
    pub image: String,
    /// For logs and volumes.
    pub directory: TempDir,
    /// Tells this run from others.
    pub run: String,
}

/// A sandbox and what it was asked to be.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub id: String,
    pub config: PodSandboxConfig,
}

/// A container that ran to its end.
#[derive(Debug)]
pub(crate) struct Ran {
    pub id: String,
    pub status: ContainerStatus,
    pub log: Log,
}

impl Ran {
    /// What it wrote, both streams as they came.
    pub(crate) fn text(&self) -> String {
        self.log.text()
    }
}

/// One case's hands.
#[derive(Debug)]
pub struct Context {
    pub(crate) shared: Arc<Shared>,
    pub(crate) rpc: Rpc,
    pub(crate) scope: Scope,
    pub(crate) case: &'static str,
    /// Tells this case's objects from all others'.
    pub(crate) mark: String,
    count: AtomicU32,
}

impl Context {
    pub(crate) fn new(shared: &Arc<Shared>, case: &Case) -> Self {
        let mark = format!("{}-{}", shared.run, case.name.replace('/', "-"));
        Self {
            shared: Arc::clone(shared),
            rpc: shared.rpc.clone(),
            scope: Scope::default(),
            case: case.name,
            mark,
            count: AtomicU32::new(0),
        }
    }

    /// A number that this case has not had yet.
    pub(crate) fn number(&self) -> u32 {
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    /// A directory of this case's own, which is there.
    pub(crate) fn directory(&self) -> Result<PathBuf, Stop> {
        let path = self.shared.directory.path().join(&self.mark);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The reference of the image that most containers run.
    pub(crate) fn image(&self) -> &str {
        &self.shared.image
    }

    /// Runs a pod; it is removed after the case.
    pub(crate) async fn run_pod(&self, config: &PodSandboxConfig) -> Result<String, Status> {
        let config = Some(config.clone());
        let runtime_handler = self.shared.options.handler.clone();
        let answer =
            self.rpc.run_pod_sandbox(RunPodSandboxRequest { config, runtime_handler }).await?;
        self.scope.pod(&answer.pod_sandbox_id);
        Ok(answer.pod_sandbox_id)
    }

    /// A ready pod in the host's network.
    pub(crate) async fn pod(&self) -> Result<Pod, Stop> {
        self.pod_of(self.pod_config()).await
    }

    /// A ready pod as `config` says.
    pub(crate) async fn pod_of(&self, config: PodSandboxConfig) -> Result<Pod, Stop> {
        let id = self.run_pod(&config).await?;
        ensure_id(&id)?;
        Ok(Pod { id, config })
    }

    pub(crate) async fn pod_status(&self, id: &str) -> Result<PodSandboxStatus, Status> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let answer = self.rpc.pod_sandbox_status(request).await?;
        answer.status.ok_or_else(|| Status::internal("PodSandboxStatus answers without a status"))
    }

    pub(crate) async fn stop_pod(&self, id: &str) -> Result<(), Status> {
        let pod_sandbox_id = id.to_owned();
        self.rpc.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }).await.map(|_| ())
    }

    pub(crate) async fn remove_pod(&self, id: &str) -> Result<(), Status> {
        let pod_sandbox_id = id.to_owned();
        self.rpc.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.map(|_| ())
    }

    pub(crate) async fn create(
        &self,
        pod: &Pod,
        config: &ContainerConfig,
    ) -> Result<String, Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.id.clone(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.config.clone()),
        };
        Ok(self.rpc.create_container(request).await?.container_id)
    }

    pub(crate) async fn start(&self, id: &str) -> Result<(), Status> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.rpc.start_container(request).await.map(|_| ())
    }

    /// Creates and starts a container.
    pub(crate) async fn launch(&self, pod: &Pod, config: &ContainerConfig) -> Result<String, Stop> {
        let id = self.create(pod, config).await?;
        ensure_id(&id)?;
        self.start(&id).await?;
        Ok(id)
    }

    pub(crate) async fn stop(&self, id: &str, timeout: i64) -> Result<(), Status> {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout };
        self.rpc.stop_container(request).await.map(|_| ())
    }

    pub(crate) async fn remove(&self, id: &str) -> Result<(), Status> {
        let request = RemoveContainerRequest { container_id: id.to_owned() };
        self.rpc.remove_container(request).await.map(|_| ())
    }

    pub(crate) async fn status(&self, id: &str) -> Result<ContainerStatus, Status> {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let answer = self.rpc.container_status(request).await?;
        answer.status.ok_or_else(|| Status::internal("ContainerStatus answers without a status"))
    }

    /// Waits until a container has ended.
    pub(crate) async fn ended(&self, id: &str) -> Result<ContainerStatus, Stop> {
        let status = until!("the container ends", {
            let status = self.status(id).await?;
            (status.state() == ContainerState::ContainerExited).then_some(status)
        });
        Ok(status)
    }

    /// What a container has logged so far.
    pub(crate) async fn log(&self, id: &str) -> Result<Log, Stop> {
        let path = self.status(id).await?.log_path;
        Log::read(path.as_ref())
    }

    /// Runs a container to its end.
    pub(crate) async fn run(&self, pod: &Pod, config: &ContainerConfig) -> Result<Ran, Stop> {
        let id = self.launch(pod, config).await?;
        let status = self.ended(&id).await?;
        let log = Log::read(status.log_path.as_ref())?;
        Ok(Ran { id, status, log })
    }

    /// Runs a container to its end, which must be a good one, and gives what it wrote.
    #[track_caller]
    #[expect(clippy::manual_async_fn, reason = "an async function does not know its caller")]
    pub(crate) fn output<'c>(
        &'c self,
        pod: &'c Pod,
        config: &'c ContainerConfig,
    ) -> impl Future<Output = Result<String, Stop>> + Send + 'c {
        async move {
            let ran = self.run(pod, config).await?;
            let (code, text) = (ran.status.exit_code, ran.text());
            if code != 0 {
                return Err(Stop::failed(format!("the container ended with {code}: {text}")));
            }
            Ok(text)
        }
    }

    /// ExecSync with `timeout` seconds, 0 for no limit.
    pub(crate) async fn exec_for(
        &self,
        id: &str,
        command: &[&str],
        timeout: i64,
    ) -> Result<ExecSyncResponse, Status> {
        let cmd = command.iter().map(|&word| word.to_owned()).collect();
        self.rpc.exec_sync(ExecSyncRequest { container_id: id.to_owned(), cmd, timeout }).await
    }

    /// What a command in a container writes to its standard output; it must end well.
    pub(crate) async fn exec(&self, id: &str, command: &[&str]) -> Result<String, Stop> {
        let done = self.exec_for(id, command, 0).await?;
        let [out, err] = [&done.stdout, &done.stderr].map(|b| String::from_utf8_lossy(b));
        if done.exit_code != 0 {
            let why = format!("{command:?} ended with {}: {out}{err}", done.exit_code);
            return Err(Stop::failed(why));
        }
        Ok(out.into_owned())
    }

    pub(crate) async fn containers(
        &self,
        filter: ContainerFilter,
    ) -> Result<Vec<Container>, Status> {
        let request = ListContainersRequest { filter: Some(filter) };
        Ok(self.rpc.list_containers(request).await?.containers)
    }

    pub(crate) async fn pods(&self, filter: PodSandboxFilter) -> Result<Vec<PodSandbox>, Status> {
        let request = ListPodSandboxRequest { filter: Some(filter) };
        Ok(self.rpc.list_pod_sandbox(request).await?.items)
    }

    /// Offers an image in a repository of this case's own; gives the repository, `HOST/NAME`.
    pub(crate) async fn offer(&self, image: &Image, name: &str, tag: &str) -> Result<String, Stop> {
        let repository = self.repository(name);
        match &self.shared.source {
            Source::Own(registry) => registry.put(image, &repository, tag),
            Source::Given(host) => push(host, image, &repository, tag).await?,
        }
        Ok(format!("{}/{repository}", self.shared.source.host()))
    }

    /// The path of a repository of this case's own.
    pub(crate) fn repository(&self, name: &str) -> String {
        format!("check-{}/{name}", self.mark)
    }

    /// The suite's own registry; a case that uses it needs [`crate::case::Need::OwnRegistry`].
    pub(crate) fn registry(&self) -> Result<&Registry, Stop> {
        match &self.shared.source {
            Source::Own(registry) => Ok(registry),
            Source::Given(_) => Err(Stop::Skipped("the registry was given".to_owned())),
        }
    }

    /// PullImage without credentials; the image is removed after the case.
    pub(crate) async fn pull(&self, reference: &str) -> Result<String, Status> {
        self.pull_as(reference, None).await
    }

    pub(crate) async fn pull_as(
        &self,
        reference: &str,
        auth: Option<AuthConfig>,
    ) -> Result<String, Status> {
        self.scope.image(reference);
        let image = Some(spec(reference));
        let request = PullImageRequest { image, auth, sandbox_config: None };
        Ok(self.rpc.pull_image(request).await?.image_ref)
    }

    /// ImageStatus; `None` where the image is not there.
    pub(crate) async fn image_status(&self, reference: &str) -> Result<Option<Image_>, Status> {
        let request = ImageStatusRequest { image: Some(spec(reference)), verbose: false };
        Ok(self.rpc.image_status(request).await?.image)
    }

    pub(crate) async fn remove_image(&self, reference: &str) -> Result<(), Status> {
        let image = Some(spec(reference));
        self.rpc.remove_image(RemoveImageRequest { image }).await.map(|_| ())
    }
}

/// The message `Image`; the name is taken by what is offered.
pub(crate) type Image_ = cri_api::v1::Image;

impl Source {
    /// `HOST:PORT`, with which references begin.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Own(registry) => registry.host(),
            Self::Given(host) => host.clone(),
        }
    }
}

/// An image by its name.
pub(crate) fn spec(reference: &str) -> ImageSpec {
    ImageSpec { image: reference.to_owned(), ..Default::default() }
}

fn ensure_id(id: &str) -> Result<(), Stop> {
    if id.is_empty() {
        return Err(Stop::failed("the answer has an empty id"));
    }
    Ok(())
}

/// The call is refused with one of these codes, and with words.
#[track_caller]
pub(crate) fn refused<T>(answer: Result<T, Status>, codes: &[Code]) -> Result<Status, Stop> {
    match answer {
        Ok(_) => Err(Stop::failed(format!("it succeeds, and should be refused with {codes:?}"))),
        Err(status) if codes.contains(&status.code()) => {
            if status.message().is_empty() {
                return Err(Stop::failed(format!("{:?} comes without a word", status.code())));
            }
            Ok(status)
        }
        Err(status) if status.code() == Code::Unimplemented => Err(status.into()),
        Err(status) => Err(Stop::failed(format!(
            "it should be refused with {codes:?}, and is with {}",
            said(&status)
        ))),
    }
}
