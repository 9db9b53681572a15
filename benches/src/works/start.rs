//! The daemon's start: its first answer, all pods found again, and its memory when it has begun. Only where the daemon
//! is ours.

use std::time::{Duration, Instant};

use cri_api::v1::{ContainerState, ListContainersRequest, NamespaceMode, VersionRequest};

use super::mb;
use crate::cri::Wanted;
use crate::cri::endpoint::{Endpoint, SLEEPER};
use crate::cri::figures::Figures;
use crate::cri::machine;

const ROUNDS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(120);
/// How long after its start a daemon has begun, and rests.
const BEGUN: Duration = Duration::from_secs(10);

pub async fn measure(endpoints: &mut [Endpoint], wanted: &Wanted, figures: &mut Figures) {
    let pods = wanted.counts.iter().copied().max().unwrap_or(10);
    for (at, endpoint) in endpoints.iter_mut().enumerate() {
        if endpoint.restart.is_none() {
            continue;
        }
        for (count, said) in [(0, "no pods".to_owned()), (pods, format!("{pods} pods"))] {
            for _ in 0..count {
                Box::pin(endpoint.up(NamespaceMode::Node, SLEEPER)).await;
            }
            for _ in 0..ROUNDS {
                let (first, all) = restart(endpoint, count).await;
                figures.took(&format!("first answer after a kill, {said}"), at, first);
                figures.took(&format!("all found again after a kill, {said}"), at, all);
            }
            if count == 0 {
                tokio::time::sleep(BEGUN).await;
                if let Some(kib) = endpoint.daemon().await.and_then(machine::pss) {
                    figures.add("daemon's memory (PSS), fresh", "MB", at, mb(kib));
                }
            }
        }
        endpoint.clear().await;
    }
}

async fn restart(endpoint: &mut Endpoint, pods: usize) -> (Duration, Duration) {
    let Some(daemon) = &mut endpoint.restart else { return Default::default() };
    daemon.kill();
    let began = Instant::now();
    daemon.start();
    let again = || async {
        assert!(began.elapsed() < PATIENCE, "the daemon does not come back");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let version = VersionRequest { version: "v1".to_owned() };
    while endpoint.runtime().version(version.clone()).await.is_err() {
        again().await;
    }
    let first = began.elapsed();
    loop {
        let list = endpoint.runtime().list_containers(ListContainersRequest { filter: None }).await;
        let running = list.map_or(0, |list| {
            let all = list.into_inner().containers;
            all.iter().filter(|one| one.state() == ContainerState::ContainerRunning).count()
        });
        if running >= pods {
            return (first, began.elapsed());
        }
        again().await;
    }
}
