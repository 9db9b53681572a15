//! What there is: sandboxes, containers and images, all of it in memory.
//!
//! Always: the lock is held for a moment only, and never while anything is waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use cri_api::v1::*;
use cri_log::Stream;
use tokio::sync::{broadcast, mpsc, watch};

use crate::fault::{Fault, Faults};
use crate::log::Log;
use crate::script::Script;

/// Events that a subscriber may fall behind by; past it, it is cut off.
pub(crate) const EVENTS_AHEAD: usize = 4096;
/// Chunks of output that an attached client may fall behind by; past it, it is cut off.
pub(crate) const CHUNKS_AHEAD: usize = 1024;
/// Chunks of input that wait for a program.
pub(crate) const INPUT_AHEAD: usize = 64;

/// Nanoseconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_nanos()).unwrap_or_default())
}

/// A sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub config: PodSandboxConfig,
    pub handler: String,
    pub is_ready: bool,
    pub created_at: i64,
    pub ip: String,
}

/// The parts of a container that its program and its clients hold too.
#[derive(Debug)]
pub(crate) struct Running {
    pub signals: mpsc::UnboundedSender<i32>,
    /// Taken by the client that ends it.
    pub input: Mutex<Option<mpsc::Sender<Bytes>>>,
    pub output: broadcast::Sender<(Stream, Bytes)>,
    pub log: Mutex<Log>,
    /// True once it is killed.
    pub kill: watch::Sender<bool>,
    /// True once it has ended.
    pub over: watch::Sender<bool>,
}

/// A container.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    pub pod: String,
    pub config: ContainerConfig,
    pub image: String,
    pub stored: StoredImage,
    pub log_path: String,
    pub state: ContainerState,
    pub created_at: i64,
    pub started_at: i64,
    pub finished_at: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub resources: LinuxContainerResources,
    pub running: Option<Arc<Running>>,
}

/// An image, as far as anybody asks.
#[derive(Debug, Clone, Default)]
pub(crate) struct StoredImage {
    pub tags: Vec<String>,
    pub digests: Vec<String>,
    pub size: u64,
    pub user: String,
    pub environment: Vec<String>,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub stop_signal: String,
}

/// All records.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub pods: BTreeMap<String, Pod>,
    pub containers: BTreeMap<String, Container>,
    /// By id.
    pub images: BTreeMap<String, StoredImage>,
    /// Blobs that were fetched.
    pub blobs: BTreeSet<String>,
    count: u64,
}

/// Everything, behind one lock, and what goes with it.
#[derive(Debug)]
pub(crate) struct World {
    tables: Mutex<Tables>,
    pub faults: Faults,
    pub script: Script,
    pub events: broadcast::Sender<ContainerEventResponse>,
    /// Tells ids of one process from another's.
    seed: u64,
}

impl World {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            tables: Mutex::default(),
            faults: Faults::default(),
            script,
            events: broadcast::channel(EVENTS_AHEAD).0,
            seed: now().unsigned_abs(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        // Whoever panics has changed one record at most, and whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }

    /// An id that nothing else has, and the number that it was made of.
    pub(crate) fn id(&self, tables: &mut Tables) -> (String, u64) {
        tables.count += 1;
        (format!("{:032x}{:032x}", self.seed, tables.count), tables.count)
    }

    pub(crate) fn pod_status(&self, id: &str, pod: &Pod) -> PodSandboxStatus {
        let mut metadata = pod.config.metadata.clone();
        if self.has(Fault::AttemptLost) {
            metadata.get_or_insert_default().attempt = 0;
        }
        let mut labels = pod.config.labels.clone();
        if self.has(Fault::PodLabelLost) {
            labels.pop_first();
        }
        let lost = self.has(Fault::PodAnnotationLost);
        let annotations = if lost { BTreeMap::new() } else { pod.config.annotations.clone() };
        let is_ready = pod.is_ready || self.has(Fault::StopLeavesReady);
        let context = pod.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
        let options = context.and_then(|context| context.namespace_options.clone());
        PodSandboxStatus {
            id: id.to_owned(),
            metadata,
            state: state_of(is_ready).into(),
            created_at: self.created(pod.created_at),
            network: Some(PodSandboxNetworkStatus { ip: pod.ip.clone(), additional_ips: vec![] }),
            linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options }) }),
            labels,
            annotations,
            runtime_handler: pod.handler.clone(),
        }
    }

    fn created(&self, at: i64) -> i64 {
        if self.has(Fault::Seconds) { at / 1_000_000_000 } else { at }
    }

    pub(crate) fn container_status(&self, id: &str, container: &Container) -> ContainerStatus {
        let config = &container.config;
        let labels =
            if self.has(Fault::LabelLost) { BTreeMap::new() } else { config.labels.clone() };
        let lost = self.has(Fault::AnnotationLost);
        let annotations = if lost { BTreeMap::new() } else { config.annotations.clone() };
        let finished_at = if self.has(Fault::NoFinishTime) { 0 } else { container.finished_at };
        ContainerStatus {
            id: id.to_owned(),
            metadata: config.metadata.clone(),
            state: container.state.into(),
            created_at: self.created(container.created_at),
            started_at: container.started_at,
            finished_at,
            exit_code: container.exit_code,
            image: config.image.clone(),
            image_ref: container.image.clone(),
            reason: container.reason.clone(),
            message: container.message.clone(),
            labels,
            annotations,
            mounts: config.mounts.clone(),
            log_path: container.log_path.clone(),
            resources: Some(ContainerResources {
                linux: Some(container.resources.clone()),
                windows: None,
            }),
            image_id: container.image.clone(),
            user: None,
            stop_signal: config.stop_signal,
        }
    }

    /// Tells of what has just happened to a container or a sandbox.
    pub(crate) fn tell(&self, tables: &Tables, id: &str, pod_id: &str, kind: ContainerEventType) {
        if kind == ContainerEventType::ContainerStoppedEvent && self.has(Fault::EventLost) {
            return;
        }
        if self.events.receiver_count() == 0 {
            return;
        }
        let is_bare = self.has(Fault::EventBare);
        let status = tables.pods.get(pod_id).map(|pod| self.pod_status(pod_id, pod));
        let statuses = tables.containers.iter().filter(|(_, container)| container.pod == pod_id);
        let statuses = statuses.map(|(id, container)| self.container_status(id, container));
        let event = ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: now(),
            pod_sandbox_status: status.filter(|_| !is_bare),
            containers_statuses: if is_bare { Vec::new() } else { statuses.collect() },
        };
        if self.has(Fault::EventRepeats) {
            // Nobody may be listening any more, here and below.
            let _ = self.events.send(event.clone());
        }
        let _ = self.events.send(event);
    }

    /// A container's program has ended.
    pub(crate) fn ended(&self, id: &str, code: i32) {
        let mut tables = self.lock();
        let Some(container) = tables.containers.get_mut(id) else { return };
        if container.state != ContainerState::ContainerRunning {
            return;
        }
        let code = if self.has(Fault::ExitCodeCut) { code & 0x7f } else { code };
        let code = if self.has(Fault::ExitCodeZero) { 0 } else { code };
        container.state = ContainerState::ContainerExited;
        container.finished_at = now();
        container.exit_code = code;
        let is_good = code == 0 || self.has(Fault::WrongReason);
        container.reason = if is_good { "Completed" } else { "Error" }.to_owned();
        let pod = container.pod.clone();
        self.tell(&tables, id, &pod, ContainerEventType::ContainerStoppedEvent);
    }
}

/// A sandbox' state.
pub(crate) fn state_of(is_ready: bool) -> PodSandboxState {
    if is_ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
}
