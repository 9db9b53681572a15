//! Everything that can be asked of pods.

use std::sync::Arc;
use std::time::Duration;

use image_store::ImageStore;
use model::{
    Class, ContainerConfig, ContainerId, Resources, SandboxConfig, SandboxId,
};
use monitor_client::MonitorProgram;
use network::Networks;
use operations::Operations;

use crate::config::PodsConfig;
use crate::error::{Cause, PodsError};
use crate::events::{Events, Subscription};
use crate::status::{
    ContainerFilter, ContainerStatus, ExecResult, SandboxFilter, SandboxStatus, Usage,
};

/// What the pods of a node are made with.
#[derive(Debug, Clone)]
pub struct Services {
    /// The daemon's table of operations.
    pub operations: Operations,
    /// Root file systems.
    pub images: ImageStore,
    /// Networks.
    pub networks: Networks,
    /// What monitors are started from.
    pub monitor: Arc<MonitorProgram>,
}

/// What recovery found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Pods whose monitor answered.
    pub alive: usize,
    /// Pods whose monitor was gone.
    pub lost: usize,
    /// Pods that were half made, and are undone.
    pub undone: usize,
    /// Records that could not be read and were set aside, each with what is wrong.
    pub quarantined: Vec<String>,
    /// What could not be done, each with its object.
    pub problems: Vec<String>,
}

/// The pods of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pods {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: PodsConfig,
    services: Services,
    events: Events,
}

fn not_yet<T>(operation: &'static str) -> Result<T, PodsError> {
    Err(PodsError::Failed {
        operation,
        object: String::new(),
        phase: "begin",
        source: Cause::other(Class::Unimplemented, "not there yet"),
    })
}

impl Pods {
    /// Reads the records of an earlier daemon; nothing else is looked at before [`Pods::recover`].
    ///
    /// # Errors
    /// When the records' directory cannot be made or read. Bad records are no error.
    pub fn open(config: PodsConfig, services: Services) -> Result<Self, PodsError> {
        Ok(Self { inner: Arc::new(Inner { config, services, events: Events::new() }) })
    }

    /// Takes up every pod of an earlier daemon, each on its own and within a bound, and undoes what was
    /// half made. Calls that name a pod wait for that pod alone, so the daemon serves meanwhile.
    pub async fn recover(&self) -> Recovered {
        Recovered::default()
    }

    /// How pods are configured.
    #[must_use]
    pub fn config(&self) -> &PodsConfig {
        &self.inner.config
    }

    /// Events from now on.
    #[must_use]
    pub fn events(&self) -> Subscription {
        self.inner.events.subscribe()
    }

    /// Why pods cannot be run here now: records that cannot be written, a missing cgroup hierarchy.
    ///
    /// # Errors
    /// The reason, for the node's `RuntimeReady` condition.
    pub fn ready(&self) -> Result<(), PodsError> {
        let _ = &self.inner.services;
        Ok(())
    }

    /// What could not be undone yet and is tried again, each for people.
    #[must_use]
    pub fn owed(&self) -> Vec<String> {
        Vec::new()
    }

    /// RunPodSandbox: a ready sandbox, or nothing is left of it. Called again for the same name, namespace,
    /// uid and attempt, it gives the same answer.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, PodsError> {
        let _ = config;
        not_yet("RunPodSandbox")
    }

    /// StopPodSandbox: what runs in it is killed, its network is given back. Succeeds for one that is gone.
    ///
    /// # Errors
    /// [`PodsError`]; to be called again.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), PodsError> {
        let _ = id;
        not_yet("StopPodSandbox")
    }

    /// RemovePodSandbox: the same, and its containers and all records are gone. Succeeds for one that is gone.
    ///
    /// # Errors
    /// [`PodsError`]; to be called again.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), PodsError> {
        let _ = id;
        not_yet("RemovePodSandbox")
    }

    /// PodSandboxStatus, with the statuses of its containers at the same time.
    ///
    /// # Errors
    /// [`PodsError::NoSandbox`].
    pub async fn sandbox_status(
        &self,
        id: &SandboxId,
    ) -> Result<(Arc<SandboxStatus>, Vec<Arc<ContainerStatus>>), PodsError> {
        Err(PodsError::NoSandbox { id: id.clone() })
    }

    /// ListPodSandbox, the oldest first. Waits for nothing.
    #[must_use]
    pub fn list_sandboxes(&self, filter: &SandboxFilter) -> Vec<Arc<SandboxStatus>> {
        let _ = filter;
        Vec::new()
    }

    /// UpdatePodSandboxResources: limits of the pod's cgroup.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn update_sandbox_resources(
        &self,
        id: &SandboxId,
        overhead: Resources,
        resources: Resources,
    ) -> Result<(), PodsError> {
        let _ = (id, overhead, resources);
        not_yet("UpdatePodSandboxResources")
    }

    /// Sandboxes whose id begins with `prefix`. For people.
    #[must_use]
    pub fn find_sandboxes(&self, prefix: &str) -> Vec<SandboxId> {
        let _ = prefix;
        Vec::new()
    }

    /// CreateContainer: a container that waits for its start, or nothing is left of it. Called again for the
    /// same sandbox, name and attempt, it gives the same answer.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, PodsError> {
        let _ = (sandbox, config);
        not_yet("CreateContainer")
    }

    /// StartContainer.
    ///
    /// # Errors
    /// [`PodsError`]; a container whose program cannot be executed has exited then.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), PodsError> {
        let _ = id;
        not_yet("StartContainer")
    }

    /// StopContainer: its stop signal, then after `timeout` SIGKILL to everything in it. Returns when it has
    /// ended; succeeds for one that has ended or is gone. Calls with other timeouts do not wait for this one.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn stop_container(
        &self,
        id: &ContainerId,
        timeout: Duration,
    ) -> Result<(), PodsError> {
        let _ = (id, timeout);
        not_yet("StopContainer")
    }

    /// RemoveContainer: killed if it runs, then gone. Succeeds for one that is gone.
    ///
    /// # Errors
    /// [`PodsError`]; to be called again.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), PodsError> {
        let _ = id;
        not_yet("RemoveContainer")
    }

    /// ContainerStatus.
    ///
    /// # Errors
    /// [`PodsError::NoContainer`].
    pub async fn container_status(
        &self,
        id: &ContainerId,
    ) -> Result<Arc<ContainerStatus>, PodsError> {
        Err(PodsError::NoContainer { id: id.clone() })
    }

    /// ListContainers, the oldest first. Waits for nothing.
    #[must_use]
    pub fn list_containers(&self, filter: &ContainerFilter) -> Vec<Arc<ContainerStatus>> {
        let _ = filter;
        Vec::new()
    }

    /// UpdateContainerResources: applied at once to one that runs, remembered for one that does not yet.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn update_container_resources(
        &self,
        id: &ContainerId,
        resources: Resources,
    ) -> Result<(), PodsError> {
        let _ = (id, resources);
        not_yet("UpdateContainerResources")
    }

    /// ExecSync: runs a process in the container and gives its output back. A `timeout` of zero is none.
    ///
    /// # Errors
    /// [`PodsError::ExecTimeout`] when it was killed; [`PodsError`].
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, PodsError> {
        let _ = (id, command, timeout);
        not_yet("ExecSync")
    }

    /// ReopenContainerLog.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), PodsError> {
        let _ = id;
        not_yet("ReopenContainerLog")
    }

    /// Containers whose id begins with `prefix`. For people.
    #[must_use]
    pub fn find_containers(&self, prefix: &str) -> Vec<ContainerId> {
        let _ = prefix;
        Vec::new()
    }

    /// What a container uses now. Reads its cgroup, and measures nothing.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn container_usage(&self, id: &ContainerId) -> Result<Usage, PodsError> {
        Err(PodsError::NoContainer { id: id.clone() })
    }

    /// What a pod uses now, with what its interfaces have carried.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn sandbox_usage(
        &self,
        id: &SandboxId,
    ) -> Result<(Usage, Vec<network::InterfaceStats>), PodsError> {
        Err(PodsError::NoSandbox { id: id.clone() })
    }
}
