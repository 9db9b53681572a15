//! Lists and statistics of many pods, and the memory that they cost.
//!
//! What belongs to a runtime is its daemon, and every process that came with the pods and is no container's:
//! monitors, shims, what holds a pod's namespaces.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cri_api::v1::{
    ListContainerStatsRequest, ListContainersRequest, ListPodSandboxRequest,
    ListPodSandboxStatsRequest, NamespaceMode,
};

use super::{mb, ms, timed};
use crate::cri::Wanted;
use crate::cri::cpu::CpuTime;
use crate::cri::endpoint::{Endpoint, SLEEPER};
use crate::cri::figures::Figures;
use crate::cri::machine;

/// Samples of each list, and the pause between them: statistics may be kept for a moment.
const ROUNDS: usize = 10;
const PAUSE: Duration = Duration::from_millis(1100);
/// How long an idle runtime is watched, after as long a rest.
const IDLE: Duration = Duration::from_secs(10);

pub async fn measure(endpoints: &[Endpoint], wanted: &Wanted, figures: &mut Figures) {
    for (at, endpoint) in endpoints.iter().enumerate() {
        // Alone on the machine, one after the other: hundreds of pods of two runtimes would be another
        // measurement.
        let daemon = endpoint.daemon().await;
        if let Some(kib) = daemon.and_then(machine::pss) {
            figures.add("daemon's memory (PSS) before", "MB", at, mb(kib));
        }
        let before = machine::processes();
        let mut up = Vec::new();
        for &count in &wanted.counts {
            while up.len() < count {
                let (pod, _) = Box::pin(endpoint.up(NamespaceMode::Node, SLEEPER)).await;
                up.push(pod.id);
            }
            lists(endpoint, at, count, figures).await;
            if let Some(kib) = daemon.and_then(machine::pss) {
                let what = format!("daemon's memory (PSS) just after lists of {count}");
                figures.add(&what, "MB", at, mb(kib));
            }
            tokio::time::sleep(IDLE).await;
            let new = machine::processes();
            let new: Vec<u32> = new.difference(&before).copied().collect();
            let of_runtime = machine::of_runtime(new.iter().copied()).into_keys();
            if let Some(daemon) = daemon
                && let Some(used) = idle(daemon, of_runtime).await
            {
                let what = format!("runtime's CPU time, idle, {count} pods");
                figures.add(&what, "ms/s", at, used);
            }
            // At rest, for all of them.
            let all: u64 = machine::of_runtime(new.into_iter()).values().sum();
            let what = format!("runtime's memory per pod (PSS) with {count}");
            figures.add(&what, "KiB", at, all as f64 / count as f64);
            if let Some(kib) = daemon.and_then(machine::pss) {
                figures.add(&format!("daemon's memory (PSS) with {count} pods"), "MB", at, mb(kib));
            }
        }
        for id in &up {
            endpoint.remove(id).await;
        }
    }
}

/// CPU time of the runtime in a second in which nobody asks for anything, in milliseconds: of its daemon, of these
/// processes, and of what they started meanwhile. What else came meanwhile, and what is elsewhere, may be anybody's.
/// Not counted is what [`CpuTime::since`] names; nothing where it says nothing.
async fn idle(daemon: u32, with_pods: impl Iterator<Item = u32>) -> Option<f64> {
    let with_pods = with_pods.filter(|pid| !machine::is_elsewhere(*pid, daemon));
    let mut pids: BTreeSet<u32> = with_pods.chain([daemon]).collect();
    let there = machine::processes();
    let (began, before) = (Instant::now(), CpuTime::of(&pids));
    tokio::time::sleep(IDLE).await;
    let now = machine::processes();
    let is_child = |pid: &u32| machine::parent(*pid).is_some_and(|parent| pids.contains(&parent));
    let children = machine::of_runtime(now.difference(&there).copied().filter(is_child));
    pids.extend(children.into_keys());
    let spent = CpuTime::of(&pids).since(&before, daemon)?;
    Some(ms(spent) / began.elapsed().as_secs_f64())
}

async fn lists(endpoint: &Endpoint, at: usize, count: usize, figures: &mut Figures) {
    let mut runtime = endpoint.runtime();
    for _ in 0..ROUNDS {
        let mut took = |what: &str, took| figures.took(&format!("{what} of {count}"), at, took);
        let list = timed(runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None })).await;
        took("ListPodSandbox", list.1);
        let list = timed(runtime.list_containers(ListContainersRequest { filter: None })).await;
        assert!(list.0.into_inner().containers.len() >= count, "{}", endpoint.name);
        took("ListContainers", list.1);
        let request = ListContainerStatsRequest { filter: None };
        took("ListContainerStats", timed(runtime.list_container_stats(request)).await.1);
        let request = ListPodSandboxStatsRequest { filter: None };
        took("ListPodSandboxStats", timed(runtime.list_pod_sandbox_stats(request)).await.1);
        tokio::time::sleep(PAUSE).await;
    }
}
