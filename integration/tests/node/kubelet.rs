//! A kubelet that makes one pod after the other, and knows what must be true after each call.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use cri_api::v1::{
    ContainerConfig, ContainerState, ExecSyncRequest, ImageSpec, ImageStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandboxConfig, PodSandboxState, PortMapping,
    RemoveContainerRequest, RemoveImageRequest, RemovePodSandboxRequest, StopPodSandboxRequest,
};
use tonic::Status;

use crate::around::Around;
use crate::network_left::inventory;

/// How long what was given back in vain may take to be gone: it is tried again after a second, then two.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// What the container ends with when it is asked to.
const ASKED: i32 = 7;

/// A call of a kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    RemoveImage,
    Pull,
    Run,
    Create,
    Start,
    Exec,
    Stop,
    Remove,
    StopPod,
    RemovePod,
}

/// What must be true of the pod and its container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Truth {
    no_image: bool,
    pod: Option<PodSandboxState>,
    container: Option<ContainerState>,
    /// The container was asked to end, and not killed.
    asked: bool,
}

pub struct Kubelet {
    pub around: Around,
    pub pod: PodSandboxConfig,
    pub container: ContainerConfig,
    pub pod_id: String,
    pub container_id: String,
    truth: Truth,
    files: BTreeSet<String>,
    /// What there is of networks on this machine.
    network: Vec<String>,
}

/// A port of the host that leads into each pod.
fn port() -> PortMapping {
    PortMapping { container_port: 80, host_port: 18_090, ..PortMapping::default() }
}

impl Kubelet {
    /// One that has made and removed a pod already, so that what stays of a node is there.
    pub async fn new(around: Around) -> Self {
        let script =
            format!("trap 'exit {ASKED}' TERM; echo ready; while :; do sleep 1000 & wait $!; done");
        let container = testkit::container("main", &around.image, &["sh", "-c", &script]);
        let mut pod = testkit::pod(&around.daemon, "pod");
        pod.port_mappings.push(port());
        let mut kubelet = Self {
            around,
            pod,
            container,
            pod_id: String::new(),
            container_id: String::new(),
            truth: Truth::default(),
            files: BTreeSet::new(),
            network: Vec::new(),
        };
        for call in [Call::Run, Call::Create, Call::Start, Call::StopPod, Call::RemovePod] {
            kubelet.must(call).await;
        }
        let mut files = kubelet.list();
        testkit::until("the files of a pod are gone", GONE_WITHIN, async || {
            let before = std::mem::replace(&mut files, kubelet.list());
            (files == before).then_some(())
        })
        .await;
        kubelet.files = files;
        kubelet.network = inventory(&kubelet.around.daemon);
        kubelet
    }

    /// What is there now is not looked at any more.
    pub fn remember_files(&mut self) {
        self.files = self.list();
        self.network = inventory(&self.around.daemon);
    }

    /// Goes on with another pod.
    pub fn next_pod(&mut self, name: &str) {
        self.pod = testkit::pod(&self.around.daemon, name);
        self.pod.port_mappings.push(port());
        self.pod_id.clear();
        self.container_id.clear();
        self.truth = Truth::default();
    }

    /// Makes a call. The answer is the daemon's.
    pub async fn call(&mut self, call: Call) -> Result<(), Status> {
        let daemon = &self.around.daemon;
        let mut runtime = daemon.runtime();
        let (pod, container) = (self.pod_id.clone(), self.container_id.clone());
        match call {
            Call::RemoveImage => {
                let image = ImageSpec { image: self.around.image.clone(), ..Default::default() };
                daemon.images().remove_image(RemoveImageRequest { image: Some(image) }).await?;
            }
            Call::Pull => drop(daemon.pull(&self.around.image).await?),
            Call::Run => self.pod_id = daemon.run_pod(&self.pod, "").await?,
            Call::Create => {
                self.container_id = daemon.create(&pod, &self.pod, &self.container).await?;
            }
            Call::Start => daemon.start_container(&container).await?,
            Call::Exec => {
                let cmd = vec!["true".to_owned()];
                let request = ExecSyncRequest { container_id: container, cmd, timeout: 20 };
                runtime.exec_sync(request).await?;
            }
            Call::Stop => daemon.stop_container(&container, 20).await?,
            Call::Remove => {
                let request = RemoveContainerRequest { container_id: container };
                runtime.remove_container(request).await?;
            }
            Call::StopPod => {
                let request = StopPodSandboxRequest { pod_sandbox_id: pod };
                runtime.stop_pod_sandbox(request).await?;
            }
            Call::RemovePod => {
                let request = RemovePodSandboxRequest { pod_sandbox_id: pod };
                runtime.remove_pod_sandbox(request).await?;
            }
        }
        Ok(())
    }

    /// Makes a call that must succeed; then all that was acknowledged so far must be true.
    pub async fn must(&mut self, call: Call) {
        let answer = self.call(call).await;
        answer.unwrap_or_else(|status| panic!("{call:?}: {status}"));
        let truth = &mut self.truth;
        match call {
            Call::RemoveImage => truth.no_image = true,
            Call::Pull => truth.no_image = false,
            Call::Run => truth.pod = Some(PodSandboxState::SandboxReady),
            Call::Create => truth.container = Some(ContainerState::ContainerCreated),
            Call::Start => truth.container = Some(ContainerState::ContainerRunning),
            Call::Exec => {}
            Call::Stop => {
                truth.container = Some(ContainerState::ContainerExited);
                truth.asked = true;
            }
            Call::Remove => truth.container = None,
            Call::StopPod => {
                truth.pod = Some(PodSandboxState::SandboxNotready);
                truth.container = truth.container.map(|_| ContainerState::ContainerExited);
            }
            Call::RemovePod => *truth = Truth { no_image: truth.no_image, ..Truth::default() },
        }
        self.holds().await;
        if call == Call::Start {
            // It can be asked to end from then on.
            testkit::until("the container is ready", GONE_WITHIN, async || {
                (self.around.daemon.logged(&self.container_id).await == "ready\n").then_some(())
            })
            .await;
        }
    }

    /// What was acknowledged is true, and nothing is there twice.
    async fn holds(&self) {
        let daemon = &self.around.daemon;
        let mut runtime = daemon.runtime();
        let pods = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await.unwrap();
        let pods = pods.into_inner().items;
        let ours: Vec<_> = pods.iter().filter(|p| p.metadata == self.pod.metadata).collect();
        let states: Vec<_> = ours.iter().map(|p| p.state()).collect();
        assert_eq!(states, self.truth.pod.into_iter().collect::<Vec<_>>(), "{ours:?}");
        let request = ListContainersRequest { filter: None };
        let all = runtime.list_containers(request).await.unwrap().into_inner().containers;
        let ours: Vec<_> = all.iter().filter(|c| c.pod_sandbox_id == self.pod_id).collect();
        let states: Vec<_> = ours.iter().map(|c| c.state()).collect();
        assert_eq!(states, self.truth.container.into_iter().collect::<Vec<_>>(), "{ours:?}");
        if self.truth.container == Some(ContainerState::ContainerExited) && self.truth.asked {
            let status = daemon.status(&self.container_id).await.unwrap();
            assert_eq!(status.exit_code, ASKED, "{status:?}");
            assert_eq!(daemon.logged(&self.container_id).await, "ready\n");
        }
        let image = ImageSpec { image: self.around.image.clone(), ..Default::default() };
        let request = ImageStatusRequest { image: Some(image), verbose: false };
        let image = daemon.images().image_status(request).await.unwrap().into_inner().image;
        assert_eq!(image.is_none(), self.truth.no_image);
    }

    /// No file of a pod is left, and no link, rule or address, once what could not be given back at once has been.
    pub async fn nothing_is_left(&self, after: &str) {
        let mut new = Vec::new();
        let gone = async {
            loop {
                new = self.list().difference(&self.files).cloned().collect();
                if new.is_empty() {
                    // Asked last: it costs some programs.
                    new = inventory(&self.around.daemon);
                    if new == self.network {
                        return;
                    }
                    new.push(format!("and before: {:?}", self.network));
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = tokio::time::timeout(GONE_WITHIN, gone).await;
        assert!(gone.is_ok(), "left after {after}:\n  {}", new.join("\n  "));
    }

    /// The files of the daemon, but for what it has pulled.
    fn list(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let top = self.around.daemon.directory();
        for place in ["root", "state", "netns"] {
            descend(&top.join(place), 4, &mut found);
        }
        found
    }
}

fn descend(directory: &Path, depth: u32, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        // What could not be deleted at once is nobody's any more, and is deleted within minutes.
        if ["trash", ".trash"].iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        found.insert(entry.path().to_string_lossy().into_owned());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            descend(&entry.path(), depth - 1, found);
        }
    }
}
