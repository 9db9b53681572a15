//! From RunPodSandbox to a container that runs; and one more process in it.

use std::time::{Duration, Instant};

use cri_api::v1::{PodSandboxConfig, RemovePodSandboxRequest, StopPodSandboxRequest};
use testkit::{Daemon, Network};

use crate::samples::Samples;

const ROUNDS: usize = 30;
const EXECS: usize = 100;
/// A node rests between pods; caches and clocks of the processor do, too.
const REST: Duration = Duration::from_millis(150);

pub async fn measure() {
    let (daemon, _registry, image) = crate::daemon(Network::None).await;
    let mut starts = Starts::default();
    for round in 0..ROUNDS {
        let pod = testkit::host_network(testkit::pod(&daemon, &format!("start-{round}")));
        starts.one(&daemon, &image, &pod).await;
        tokio::time::sleep(REST).await;
    }
    starts.print("host network", Some(15.0));
    let pod = testkit::host_network(testkit::pod(&daemon, "exec"));
    let id = daemon.run_pod(&pod, "").await.expect("a pod");
    let sleeper = testkit::sleeper("main", &image);
    let container = daemon.launch(&id, &pod, &sleeper).await.expect("a container");
    let mut execs = Samples::default();
    for _ in 0..EXECS {
        let began = Instant::now();
        let done = daemon.exec(&container, &["/bin/true"]).await.expect("an exec");
        execs.add(began.elapsed());
        assert_eq!(done.exit_code, 0);
    }
    execs.print("ExecSync of true", Some(5.0));
    drop(daemon);
    bridge().await;
}

/// The same with an address of its own. For the record: nothing is promised.
async fn bridge() {
    let (daemon, _registry, image) = crate::daemon(Network::Bridge).await;
    let mut starts = Starts::default();
    for round in 0..ROUNDS {
        let pod = testkit::pod(&daemon, &format!("bridge-{round}"));
        starts.one(&daemon, &image, &pod).await;
        tokio::time::sleep(REST).await;
    }
    starts.print("built-in bridge", None);
}

/// The three calls, and their sum.
#[derive(Default)]
struct Starts {
    calls: [Samples; 3],
    all: Samples,
}

impl Starts {
    /// A pod that is gone afterwards.
    async fn one(&mut self, daemon: &Daemon, image: &str, pod: &PodSandboxConfig) {
        let sleeper = testkit::sleeper("main", image);
        let began = Instant::now();
        let id = daemon.run_pod(pod, "").await.expect("a pod");
        let ran = began.elapsed();
        let container = daemon.create(&id, pod, &sleeper).await.expect("a container");
        let created = began.elapsed();
        daemon.start_container(&container).await.expect("it starts");
        let all = began.elapsed();
        for (samples, took) in self.calls.iter_mut().zip([ran, created - ran, all - created]) {
            samples.add(took);
        }
        self.all.add(all);
        remove(daemon, id).await;
    }

    fn print(&self, network: &str, promised_ms: Option<f64>) {
        self.all.print(&format!("pod with a container, {network}"), promised_ms);
        for (samples, call) in
            self.calls.iter().zip(["RunPodSandbox", "CreateContainer", "StartContainer"])
        {
            samples.print(&format!("  {call}"), None);
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
