//! From the daemon's start to its first answer, with pods on the machine.

use std::time::{Duration, Instant};

use cri_api::v1::{
    ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxState, VersionRequest,
};
use testkit::{Daemon, Network};

use crate::samples::Samples;

const PATIENCE: Duration = Duration::from_secs(60);

pub async fn measure(pods: usize, rounds: usize) {
    let (mut daemon, _registry, image) = crate::daemon(Network::None).await;
    let _ = crate::memory::fill(&daemon, &image, pods).await;
    let mut first = Samples::default();
    let mut all = Samples::default();
    for _ in 0..rounds {
        daemon.kill();
        let began = Instant::now();
        let mut process = daemon.command().spawn().expect("the daemon's program");
        answers(&daemon).await;
        first.add(began.elapsed());
        has_found(&daemon, pods).await;
        all.add(began.elapsed());
        process.kill().expect("it runs");
        process.wait().expect("it is ours");
        daemon.start().await;
    }
    let promised = if pods <= 10 { (100.0, None) } else { (200.0, Some(2000.0)) };
    first.print(&format!("first answer after a start with {pods} pods"), Some(promised.0));
    all.print(&format!("all of {pods} pods found again"), promised.1);
}

async fn answers(daemon: &Daemon) {
    let began = Instant::now();
    loop {
        let request = VersionRequest { version: "v1".to_owned() };
        if daemon.runtime().version(request).await.is_ok() {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the daemon does not answer");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Until every pod is ready and every container runs, as the lists say.
async fn has_found(daemon: &Daemon, pods: usize) {
    let began = Instant::now();
    loop {
        let mut runtime = daemon.runtime();
        let list = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await;
        let ready = list.map_or(0, |list| {
            list.into_inner()
                .items
                .iter()
                .filter(|p| p.state() == PodSandboxState::SandboxReady)
                .count()
        });
        let list = runtime.list_containers(ListContainersRequest { filter: None }).await;
        let running = list.map_or(0, |list| {
            list.into_inner()
                .containers
                .iter()
                .filter(|c| c.state() == ContainerState::ContainerRunning)
                .count()
        });
        if ready == pods && running == pods {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{ready} pods and {running} containers of {pods} were found"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
