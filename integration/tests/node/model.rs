//! Random calls, with random deaths between and during them, beside a small model of what must be true.
//!
//! The calls follow from a seed, which is printed; a run with the same seed makes the same calls, only the
//! moments differ. `ISOPOD_MODEL_SEED` and `ISOPOD_MODEL_SECONDS` say which and how long; `cargo xtask model
//! --minutes N` says it for people.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cri_api::v1::{
    ContainerState, ListContainersRequest, ListPodSandboxRequest, PodSandboxConfig,
    PodSandboxState, RemoveContainerRequest, RemovePodSandboxRequest, StopPodSandboxRequest,
};
use testkit::{Daemon, Network};
use tonic::Status;

use crate::around::{Around, around};

const PODS: u64 = 4;
const CONTAINERS: u64 = 2;
/// In a run of a test; always the same, so that it fails for everybody or for nobody.
const SEED: u64 = 20_261_129;
const SECONDS: u64 = 20;
/// What a loss takes to be noticed.
const NOTICED: Duration = Duration::from_secs(30);

/// splitmix64: any seed is as good as another.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// What happens next.
#[derive(Debug, Clone, Copy)]
enum Step {
    Run(u64),
    Create(u64, u64),
    Start(u64, u64),
    Exec(u64, u64),
    Stop(u64, u64),
    Remove(u64, u64),
    StopPod(u64),
    RemovePod(u64),
    /// The daemon is killed, and started again.
    Kill,
    /// It is told to end, and started again.
    Restart,
    /// A pod's monitor is killed.
    KillMonitor(u64),
}

#[derive(Debug)]
struct Pod {
    config: PodSandboxConfig,
    id: String,
    is_ready: bool,
    containers: BTreeMap<u64, Container>,
}

#[derive(Debug)]
struct Container {
    id: String,
    state: ContainerState,
}

struct World {
    around: Around,
    pods: BTreeMap<u64, Pod>,
    random: Random,
    calls: usize,
    deaths: usize,
    attempts: u32,
}

fn number_of(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test]
async fn random_calls_and_deaths_leave_what_a_model_says() {
    let seed = number_of("ISOPOD_MODEL_SEED").unwrap_or(SEED);
    let seconds = number_of("ISOPOD_MODEL_SECONDS").unwrap_or(SECONDS);
    println!("model: ISOPOD_MODEL_SEED={seed}");
    let around = around(|setup| setup.network(Network::Bridge)).await;
    let (pods, random) = (BTreeMap::new(), Random(seed));
    let mut world = World { around, pods, random, calls: 0, deaths: 0, attempts: 0 };
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let step = world.choose_possible();
        println!("{step:?}");
        Box::pin(world.take(step)).await;
        world.compare().await;
    }
    println!("model: seed {seed}, {} calls, {} deaths, no difference", world.calls, world.deaths);
}

impl World {
    /// The next that succeeds by what the model says; running a pod always does.
    fn choose_possible(&mut self) -> Step {
        loop {
            let step = self.choose();
            if self.may(step) {
                return step;
            }
        }
    }

    fn choose(&mut self) -> Step {
        let pod = self.random.below(PODS);
        let container = self.random.below(CONTAINERS);
        match self.random.below(24) {
            0..=3 => Step::Run(pod),
            4..=7 => Step::Create(pod, container),
            8..=11 => Step::Start(pod, container),
            12..=13 => Step::Exec(pod, container),
            14..=15 => Step::Stop(pod, container),
            16..=17 => Step::Remove(pod, container),
            18 => Step::StopPod(pod),
            19..=20 => Step::RemovePod(pod),
            21 => Step::Kill,
            22 => Step::Restart,
            _ => Step::KillMonitor(pod),
        }
    }

    fn daemon(&self) -> &Daemon {
        &self.around.daemon
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Kill => {
                self.around.daemon.kill();
                self.around.daemon.start().await;
                self.deaths += 1;
            }
            Step::Restart => {
                assert!(self.around.daemon.terminate().success());
                self.around.daemon.start().await;
            }
            Step::KillMonitor(pod) => self.kill_monitor(pod).await,
            Step::Run(pod) => {
                self.begin(pod);
                self.call(step).await.unwrap();
            }
            Step::Create(..)
            | Step::Start(..)
            | Step::Exec(..)
            | Step::Stop(..)
            | Step::Remove(..)
            | Step::StopPod(_)
            | Step::RemovePod(_) => {
                self.call(step).await.unwrap();
                self.note(step);
            }
        }
    }

    /// A pod that is not there gets a name; one that is not ready any more gives way to the next attempt, as
    /// a kubelet has it.
    fn begin(&mut self, number: u64) {
        if self.pods.get(&number).is_some_and(|pod| pod.is_ready || !pod.id.is_empty()) {
            return;
        }
        let mut config = testkit::pod(self.daemon(), &format!("pod-{number}"));
        self.attempts += 1;
        config.metadata.get_or_insert_default().attempt = self.attempts;
        let pod = Pod { config, id: String::new(), is_ready: false, containers: BTreeMap::new() };
        self.pods.insert(number, pod);
    }

    /// Whether the model says that the call succeeds. Calls that must fail are other tests' matter.
    fn may(&self, step: Step) -> bool {
        let pod = |number| self.pods.get(&number);
        let state = |p, c| pod(p).and_then(|pod| pod.containers.get(&c)).map(|c| c.state);
        let is_ready = |number| pod(number).is_some_and(|pod| pod.is_ready);
        match step {
            Step::Run(_) | Step::Kill | Step::Restart | Step::KillMonitor(_) => true,
            Step::Create(p, _) => is_ready(p),
            Step::Start(p, c) => {
                let state = state(p, c);
                let can = state == Some(ContainerState::ContainerCreated)
                    || state == Some(ContainerState::ContainerRunning);
                is_ready(p) && can
            }
            Step::Exec(p, c) => state(p, c) == Some(ContainerState::ContainerRunning),
            Step::Stop(p, c) | Step::Remove(p, c) => state(p, c).is_some(),
            Step::StopPod(p) | Step::RemovePod(p) => pod(p).is_some(),
        }
    }

    /// Makes a call; now and then the daemon dies in the middle of it, and then it is made again.
    async fn call(&mut self, step: Step) -> Result<(), Status> {
        self.calls += 1;
        if self.random.below(6) == 0 {
            let cut = Duration::from_micros(self.random.below(40_000));
            {
                let answer = std::pin::pin!(self.ask(step));
                // Not a wait for anything: the place of the cut.
                let _ = tokio::time::timeout(cut, answer).await;
            }
            self.around.daemon.kill();
            self.around.daemon.start().await;
            self.deaths += 1;
        }
        let id = Box::pin(self.ask(step)).await?;
        match step {
            Step::Run(p) => {
                let pod = self.pods.get_mut(&p).unwrap();
                if pod.id.is_empty() {
                    (pod.id, pod.is_ready) = (id, true);
                }
            }
            Step::Create(p, c) => {
                let containers = &mut self.pods.get_mut(&p).unwrap().containers;
                let new = Container { id, state: ContainerState::ContainerCreated };
                let there = containers.entry(c).or_insert(new);
                assert!(!there.id.is_empty());
            }
            Step::Start(..)
            | Step::Exec(..)
            | Step::Stop(..)
            | Step::Remove(..)
            | Step::StopPod(_)
            | Step::RemovePod(_)
            | Step::Kill
            | Step::Restart
            | Step::KillMonitor(_) => {}
        }
        Ok(())
    }

    /// Asks the daemon; the id of what was made.
    async fn ask(&self, step: Step) -> Result<String, Status> {
        let daemon = self.daemon();
        let mut runtime = daemon.runtime();
        let pod_id = |p: u64| self.pods[&p].id.clone();
        let container_id = |p: u64, c: u64| self.pods[&p].containers[&c].id.clone();
        match step {
            Step::Run(p) => {
                let pod = &self.pods[&p];
                if pod.is_ready || pod.id.is_empty() {
                    return daemon.run_pod(&pod.config, "").await;
                }
            }
            Step::Create(p, c) => {
                let config = testkit::sleeper(&format!("c{c}"), &self.around.image);
                return daemon.create(&pod_id(p), &self.pods[&p].config, &config).await;
            }
            Step::Start(p, c) => daemon.start_container(&container_id(p, c)).await?,
            Step::Exec(p, c) => {
                let done = daemon.exec(&container_id(p, c), &["echo", "word"]).await?;
                assert_eq!(&done.stdout[..], b"word\n");
            }
            Step::Stop(p, c) => daemon.stop_container(&container_id(p, c), 0).await?,
            Step::Remove(p, c) => {
                let container_id = container_id(p, c);
                runtime.remove_container(RemoveContainerRequest { container_id }).await?;
            }
            Step::StopPod(p) => {
                let request = StopPodSandboxRequest { pod_sandbox_id: pod_id(p) };
                runtime.stop_pod_sandbox(request).await?;
            }
            Step::RemovePod(p) => {
                let request = RemovePodSandboxRequest { pod_sandbox_id: pod_id(p) };
                runtime.remove_pod_sandbox(request).await?;
            }
            Step::Kill | Step::Restart | Step::KillMonitor(_) => {}
        }
        Ok(String::new())
    }

    /// What is true after a call.
    fn note(&mut self, step: Step) {
        let exited = ContainerState::ContainerExited;
        let mut set = |p: u64, c: u64, state| {
            let pod = self.pods.get_mut(&p).unwrap();
            pod.containers.get_mut(&c).unwrap().state = state;
        };
        match step {
            Step::Start(p, c) => set(p, c, ContainerState::ContainerRunning),
            Step::Stop(p, c) => set(p, c, exited),
            Step::Remove(p, c) => {
                self.pods.get_mut(&p).unwrap().containers.remove(&c);
            }
            Step::StopPod(p) => self.over(p),
            Step::RemovePod(p) => drop(self.pods.remove(&p)),
            Step::Run(_)
            | Step::Create(..)
            | Step::Exec(..)
            | Step::Kill
            | Step::Restart
            | Step::KillMonitor(_) => {}
        }
    }

    fn over(&mut self, number: u64) {
        let pod = self.pods.get_mut(&number).unwrap();
        pod.is_ready = false;
        for container in pod.containers.values_mut() {
            container.state = ContainerState::ContainerExited;
        }
    }

    async fn kill_monitor(&mut self, number: u64) {
        let Some(pod) = self.pods.get(&number).filter(|pod| pod.is_ready) else { return };
        let monitor = self.daemon().monitor(&pod.id).expect("a ready pod has a monitor");
        let killed =
            std::process::Command::new("kill").args(["-KILL", &monitor.to_string()]).status();
        assert!(killed.unwrap().success());
        let daemon = self.daemon();
        testkit::until("the loss is told", NOTICED, async || {
            let status = daemon.pod_status(&pod.id).await.unwrap();
            (status.state() == PodSandboxState::SandboxNotready).then_some(())
        })
        .await;
        self.over(number);
        self.deaths += 1;
    }

    /// What the daemon lists is what the model has, no more and no less.
    async fn compare(&self) {
        let mut runtime = self.daemon().runtime();
        let ready = |is_ready| match is_ready {
            true => PodSandboxState::SandboxReady,
            false => PodSandboxState::SandboxNotready,
        };
        let there: BTreeMap<String, _> =
            self.pods.values().map(|pod| (pod.id.clone(), ready(pod.is_ready))).collect();
        let of_pods = self.pods.values().flat_map(|pod| pod.containers.values());
        let containers: BTreeMap<String, _> = of_pods.map(|c| (c.id.clone(), c.state)).collect();
        // What a restart has to undo goes behind the first answers.
        let mut seen = (BTreeMap::new(), BTreeMap::new());
        let same = async {
            loop {
                let pods = ListPodSandboxRequest { filter: None };
                let pods = runtime.list_pod_sandbox(pods).await.unwrap().into_inner().items;
                let all = ListContainersRequest { filter: None };
                let all = runtime.list_containers(all).await.unwrap().into_inner().containers;
                seen.0 = pods.into_iter().map(|p| (p.id.clone(), p.state())).collect();
                seen.1 = all.into_iter().map(|c| (c.id.clone(), c.state())).collect();
                if (&seen.0, &seen.1) == (&there, &containers) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let same = tokio::time::timeout(NOTICED, same).await;
        assert!(same.is_ok(), "the model has\n{there:#?}\n{containers:#?}\nthe daemon\n{seen:#?}");
    }
}
