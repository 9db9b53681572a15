//! From RunPodSandbox to a container that runs; and one more process in it.

use std::time::{Duration, Instant};

use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{
    ExecSyncRequest, PodSandboxConfig, RemovePodSandboxRequest, RunPodSandboxRequest,
    StartContainerRequest, StopPodSandboxRequest,
};
use testkit::{Daemon, Network};
use tonic::transport::Channel;

use crate::samples::Samples;

const ROUNDS: usize = 30;
const EXECS: usize = 100;
/// A node rests between pods; caches and clocks of the processor do, too.
const REST: Duration = Duration::from_millis(150);

pub async fn measure() {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    let mut starts = Starts::on(&daemon);
    for round in 0..ROUNDS {
        let pod = testkit::host_network(testkit::pod(&daemon, &format!("start-{round}")));
        starts.one(&image, &pod).await;
        tokio::time::sleep(REST).await;
    }
    starts.print(&daemon, "host network", Some(15.0)).await;
    let pod = testkit::host_network(testkit::pod(&daemon, "exec"));
    let id = daemon.run_pod(&pod, "").await.expect("a pod");
    let sleeper = testkit::sleeper("main", &image);
    let container = daemon.launch(&id, &pod, &sleeper).await.expect("a container");
    let mut execs = Samples::default();
    let mut runtime = daemon.runtime();
    for _ in 0..EXECS {
        let cmd = vec!["/bin/true".to_owned()];
        let request = ExecSyncRequest { container_id: container.clone(), cmd, timeout: 0 };
        let began = Instant::now();
        let done = runtime.exec_sync(request).await.expect("an exec");
        execs.add(began.elapsed());
        assert_eq!(done.into_inner().exit_code, 0);
    }
    execs.print("ExecSync of true", Some(5.0));
    drop(daemon);
    Box::pin(bridge()).await;
}

/// The same with an address of its own. For the record: nothing is promised.
async fn bridge() {
    let (daemon, _registry, image) = crate::daemon(Network::Bridge).await;
    let mut starts = Starts::on(&daemon);
    for round in 0..ROUNDS {
        let pod = testkit::pod(&daemon, &format!("bridge-{round}"));
        starts.one(&image, &pod).await;
        tokio::time::sleep(REST).await;
    }
    starts.print(&daemon, "built-in bridge", None).await;
}

/// The three calls, and their sum, over one connection, as a kubelet has it.
pub struct Starts {
    runtime: RuntimeServiceClient<Channel>,
    calls: [Samples; 3],
    all: Samples,
    /// They stay until all are measured: what a file system does about files that were deleted a moment
    /// ago (ext4 looks at each for five seconds) is no part of a start.
    pods: Vec<String>,
}

impl Starts {
    pub fn on(daemon: &Daemon) -> Self {
        Self {
            runtime: daemon.runtime(),
            calls: <[Samples; 3]>::default(),
            all: Samples::default(),
            pods: Vec::new(),
        }
    }

    pub async fn one(&mut self, image: &str, pod: &PodSandboxConfig) {
        let sleeper = testkit::sleeper("main", image);
        let request = RunPodSandboxRequest { config: Some(pod.clone()), ..Default::default() };
        let began = Instant::now();
        let id = self.runtime.run_pod_sandbox(request).await.expect("a pod");
        let ran = began.elapsed();
        let id = id.into_inner().pod_sandbox_id;
        let request = testkit::create_request(&id, pod, &sleeper);
        let container = self.runtime.create_container(request).await.expect("a container");
        let created = began.elapsed();
        let container_id = container.into_inner().container_id;
        let request = StartContainerRequest { container_id };
        self.runtime.start_container(request).await.expect("it starts");
        let all = began.elapsed();
        for (samples, took) in self.calls.iter_mut().zip([ran, created - ran, all - created]) {
            samples.add(took);
        }
        self.all.add(all);
        self.pods.push(id);
    }

    /// The whole in the middle.
    pub fn median(&self) -> Duration {
        self.all.median()
    }

    pub async fn print(self, daemon: &Daemon, network: &str, promised_ms: Option<f64>) {
        self.all.print(&format!("pod with a container, {network}"), promised_ms);
        for (samples, call) in
            self.calls.iter().zip(["RunPodSandbox", "CreateContainer", "StartContainer"])
        {
            samples.print(&format!("  {call}"), None);
        }
        for id in self.pods {
            remove(daemon, id).await;
        }
    }
}

pub async fn remove(daemon: &Daemon, pod_sandbox_id: String) {
    let mut runtime = daemon.runtime();
    let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    runtime.stop_pod_sandbox(stop).await.expect("the pod stops");
    let remove = RemovePodSandboxRequest { pod_sandbox_id };
    runtime.remove_pod_sandbox(remove).await.expect("the pod goes");
}
