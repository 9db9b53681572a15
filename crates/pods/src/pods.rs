//! Everything that can be asked of pods.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cgroups::{Detail, Hierarchies};
use image_store::ImageStore;
use model::{ContainerConfig, ContainerId, Resources, SandboxConfig, SandboxId, Timestamp};
use monitor_client::api::LogTotals;
use monitor_client::{AttachStreams, MonitorProgram};
use network::{Collected, Networks, Overview};
use operations::{Note, Operations, Phases};
use specgen::HostFacts;
use store::{Durability, Store};
use tokio::net::TcpStream;

use crate::apparmor::Apparmor;
use crate::config::PodsConfig;
use crate::container::attach::Attachment;
use crate::container::exec::{Exec, ExecWanted};
use crate::error::{Cause, PodsError};
use crate::events::Subscription;
use crate::filters::Filters;
use crate::health::Health;
use crate::leaks::Leaks;
use crate::log_totals::Ledger;
use crate::networks::NetworkCheck;
use crate::owed::Owed;
use crate::readers::Readers;
use crate::recover::Recovered;
use crate::samples::Samples;
use crate::status::{
    ContainerFilter, ContainerStatus, ExecResult, LogLines, SandboxFilter, SandboxStatus, Usage,
};
use crate::steps::MayHang;
use crate::table::{Records, Table};
use crate::{
    clock, container, health, host, log_totals, networks, recover, sandbox, undoing, usage,
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

/// The pods of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pods {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: PodsConfig,
    pub(crate) services: Services,
    pub(crate) table: Table,
    pub(crate) owed: Owed,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) counts_huge_pages: bool,
    pub(crate) host: HostFacts,
    pub(crate) filters: Filters,
    pub(crate) apparmor: Apparmor,
    pub(crate) may_hang: MayHang,
    /// The same, one at a time, for what only metrics ask.
    pub(crate) measuring: MayHang,
    pub(crate) readers: Readers,
    /// For all that there is of a cgroup.
    pub(crate) slow_readers: Readers,
    /// Containers that an earlier daemon has left.
    pub(crate) inherited: BTreeSet<ContainerId>,
    /// Records of an earlier daemon that could not be read.
    pub(crate) quarantined: Vec<String>,
    /// Since when this daemon is there.
    pub(crate) started_at: Timestamp,
    pub(crate) health: Health,
    pub(crate) logged: Ledger,
    pub(crate) samples: Samples<PodsError>,
    pub(crate) leaks: Leaks,
}

impl Pods {
    /// Reads the records of an earlier daemon and finds out about the host; nothing else is looked at before
    /// [`Pods::recover`]. To be called inside a tokio runtime. It blocks for a moment.
    ///
    /// # Errors
    /// When the records' directory cannot be made or read, or no cgroup hierarchy is mounted. Bad records
    /// are no error.
    pub fn open(config: PodsConfig, services: Services) -> Result<Self, PodsError> {
        let open = |name: &str| {
            let path = config.state_dir.join("records").join(name);
            Store::open(&path, Durability::Boot).map_err(PodsError::Open)
        };
        let records = Records { sandboxes: open("sandboxes")?, containers: open("containers")? };
        let table = Table::new(records, config.events_ahead);
        let (owed, mut quarantined) = Owed::open(open("owed")?).map_err(PodsError::Open)?;
        quarantined.extend(recover::load(&table)?);
        let hierarchies = Hierarchies::detect().map_err(PodsError::Cgroups)?;
        let host = host::facts(&config, &hierarchies);
        let samples = Samples::new(config.stats);
        let inner = Inner {
            config,
            services,
            inherited: table.container_ids().into_iter().collect(),
            table,
            owed,
            counts_huge_pages: hierarchies.counts_huge_pages(),
            hierarchies,
            host,
            filters: Filters::new(),
            apparmor: Apparmor::of_this_machine(),
            may_hang: MayHang::new(),
            measuring: MayHang::of(1),
            readers: Readers::new(),
            slow_readers: Readers::new(),
            quarantined,
            started_at: clock::now(),
            health: Health::default(),
            logged: Ledger::default(),
            samples,
            leaks: Leaks::default(),
        };
        let pods = Self { inner: Arc::new(inner) };
        undoing::work_on_what_is_owed(&pods);
        Ok(pods)
    }

    /// Takes up every pod of an earlier daemon, each on its own and within a bound, and undoes what was
    /// half made. Calls that name a pod wait for that pod alone, so the daemon serves meanwhile.
    pub async fn recover(&self) -> Recovered {
        recover::recover(self).await
    }

    /// How pods are configured.
    #[must_use]
    pub fn config(&self) -> &PodsConfig {
        &self.inner.config
    }

    /// Events from now on.
    #[must_use]
    pub fn events(&self) -> Subscription {
        self.inner.table.events().subscribe()
    }

    /// Tells those who listen to events that there will be none any more: for a daemon that ends.
    pub fn end_events(&self) {
        self.inner.table.events().close();
    }

    /// How many subscribers of events were too slow, or did not answer any more, and were cut off.
    #[must_use]
    pub fn events_cut(&self) -> u64 {
        self.inner.table.events().cut()
    }

    /// Checks from time to time whether pods can be made, for as long as it is polled; [`Pods::ready`] tells
    /// what the last check found. The daemon spawns it once.
    pub async fn keep_checking(&self) {
        health::keep_checking(self).await;
    }

    /// Has [`Pods::ready`] say what is so now and not a while ago. Waits for a moment at most.
    pub async fn check_anew(&self) {
        self.inner.health.renew().await;
    }

    /// Whether pods can be run here, by the last self-check.
    ///
    /// # Errors
    /// Why not, for the node's `RuntimeReady` condition: records or images that cannot be written, a monitor
    /// that does not start, or too much that could not be undone.
    pub fn ready(&self) -> Result<(), PodsError> {
        recover::ready(self)
    }

    /// What could not be undone yet and is tried again, each for people.
    #[must_use]
    pub fn owed(&self) -> Vec<String> {
        self.inner.owed.describe()
    }

    /// What the networks of the node are and have.
    ///
    /// # Errors
    /// [`PodsError`], when their records cannot be read.
    pub async fn networks(&self) -> Result<Overview, PodsError> {
        networks::overview(self).await
    }

    /// Checks the networks of these pods, or, where none is named, of all that are ready and have one.
    ///
    /// # Errors
    /// [`PodsError::NoSandbox`]. What is missing is in the answer.
    pub async fn check_networks(
        &self,
        named: &[SandboxId],
    ) -> Result<Vec<NetworkCheck>, PodsError> {
        networks::check(self, named).await
    }

    /// Gives back what networks hold for no pod. Pods that came in the last minutes are left alone.
    ///
    /// # Errors
    /// [`PodsError`], when the records cannot be read, or it took too long and goes on unheard.
    pub async fn collect_networks(&self) -> Result<Collected, PodsError> {
        networks::collect(self).await
    }

    /// What containers have logged since this daemon began, as their monitors count it. Asks them now and
    /// then, within a bound.
    pub async fn log_totals(&self) -> LogTotals {
        log_totals::totals(self).await
    }

    /// What was found since this daemon began that belongs to no pod, by kind.
    #[must_use]
    pub fn leaks(&self) -> [(&'static str, u64); 4] {
        self.inner.leaks.list()
    }

    /// RunPodSandbox: a ready sandbox, or nothing is left of it. Called again for the same name, namespace,
    /// uid and attempt, it gives the same answer.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn run_sandbox(&self, config: SandboxConfig) -> Result<SandboxId, PodsError> {
        sandbox::run::run(self, config).await
    }

    /// StopPodSandbox: what runs in it is killed, its network is given back. Succeeds for one that is gone.
    ///
    /// # Errors
    /// [`PodsError`]; to be called again.
    pub async fn stop_sandbox(&self, id: &SandboxId) -> Result<(), PodsError> {
        sandbox::stop::stop(self, id).await
    }

    /// RemovePodSandbox: the same, and its containers and all records are gone. Succeeds for one that is gone.
    ///
    /// # Errors
    /// [`PodsError`]; to be called again.
    pub async fn remove_sandbox(&self, id: &SandboxId) -> Result<(), PodsError> {
        sandbox::remove::remove(self, id).await
    }

    /// PodSandboxStatus, with the statuses of its containers at the same time.
    ///
    /// # Errors
    /// [`PodsError::NoSandbox`].
    pub async fn sandbox_status(
        &self,
        id: &SandboxId,
    ) -> Result<(Arc<SandboxStatus>, Vec<Arc<ContainerStatus>>), PodsError> {
        sandbox::status::status(self, id).await
    }

    /// ListPodSandbox, the oldest first. Waits for nothing.
    #[must_use]
    pub fn list_sandboxes(&self, filter: &SandboxFilter) -> Vec<Arc<SandboxStatus>> {
        sandbox::list::list(self, filter)
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
        sandbox::update_resources::update_resources(self, id, overhead, resources).await
    }

    /// Sandboxes whose id begins with `prefix`. For people.
    #[must_use]
    pub fn find_sandboxes(&self, prefix: &str) -> Vec<SandboxId> {
        sandbox::list::find(self, prefix)
    }

    /// CreateContainer: a container that waits for its start, or nothing is left of it. Called again for the
    /// same sandbox, name and attempt while that one has not ended, it gives the same answer.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, PodsError> {
        container::create::create(self, sandbox, config).await
    }

    /// StartContainer.
    ///
    /// # Errors
    /// [`PodsError`]; a container whose program cannot be executed has exited then.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), PodsError> {
        container::start::start(self, id).await
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
        container::stop::stop(self, id, timeout).await
    }

    /// RemoveContainer: killed if it runs, then gone. Succeeds for one that is gone.
    ///
    /// # Errors
    /// [`PodsError`]; to be called again.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), PodsError> {
        container::remove::remove(self, id).await
    }

    /// ContainerStatus.
    ///
    /// # Errors
    /// [`PodsError::NoContainer`].
    pub async fn container_status(
        &self,
        id: &ContainerId,
    ) -> Result<Arc<ContainerStatus>, PodsError> {
        container::status::status(self, id).await
    }

    /// ListContainers, the oldest first. Waits for nothing.
    #[must_use]
    pub fn list_containers(&self, filter: &ContainerFilter) -> Vec<Arc<ContainerStatus>> {
        container::list::list(self, filter)
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
        container::update_resources::update_resources(self, id, resources).await
    }

    /// ExecSync: runs a process in the container and gives its output back. A `timeout` of zero is none.
    /// When the caller gives up, the process is killed: nobody is left to take its output.
    ///
    /// # Errors
    /// [`PodsError::ExecTimeout`] when it was killed; [`PodsError`].
    pub async fn exec_sync(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, PodsError> {
        container::exec_sync::exec_sync(self, id, command, timeout).await
    }

    /// ReopenContainerLog.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn reopen_log(&self, id: &ContainerId) -> Result<(), PodsError> {
        container::reopen_log::reopen_log(self, id).await
    }

    /// Containers whose id begins with `prefix`. For people.
    #[must_use]
    pub fn find_containers(&self, prefix: &str) -> Vec<ContainerId> {
        container::list::find(self, prefix)
    }

    /// Notes a call that is no operation and works on a container, for whoever looks.
    pub fn note_call(&self, kind: &'static str, id: &ContainerId) -> Note {
        let inner = &self.inner;
        inner.services.operations.note(kind, || match inner.table.container(id) {
            Some(record) => container::name(inner, &record),
            None => id.to_string(),
        })
    }

    /// The same of one that works on a sandbox.
    pub fn note_call_of_sandbox(&self, kind: &'static str, id: &SandboxId) -> Note {
        let inner = &self.inner;
        inner.services.operations.note(kind, || match inner.table.sandbox(id) {
            Some(record) => record.config.metadata.to_string(),
            None => id.to_string(),
        })
    }

    /// Exec: runs a process in a running container, and gives its streams. Takes place in `phases`.
    ///
    /// # Errors
    /// [`PodsError`]; no process is left then.
    pub async fn exec(
        &self,
        id: &ContainerId,
        command: Vec<String>,
        wanted: ExecWanted,
        phases: &Phases,
    ) -> Result<Exec, PodsError> {
        container::exec::exec(self, id, command, wanted, phases).await
    }

    /// Attach: takes part in the streams of a running container. Takes place in `phases`.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn attach(
        &self,
        id: &ContainerId,
        streams: AttachStreams,
        phases: &Phases,
    ) -> Result<Attachment, PodsError> {
        container::attach::attach(self, id, streams, phases).await
    }

    /// PortForward: connects to a port of a pod's loopback interface, IPv4 first, then IPv6. Takes
    /// place in `phases`.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn connect(
        &self,
        id: &SandboxId,
        port: u16,
        phases: &Phases,
    ) -> Result<TcpStream, PodsError> {
        sandbox::port_forward::connect(self, id, port, phases).await
    }

    /// The OCI runtime spec that a container was made from, updates included; of its environment only the
    /// names, because the values are secrets. For people.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn runtime_spec(&self, id: &ContainerId) -> Result<runtime_spec::Spec, PodsError> {
        container::spec::spec(self, id).await
    }

    /// Log lines of a container that are not in its log, as its monitor counts them. For people.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn log_lines(&self, id: &ContainerId) -> Result<Option<LogLines>, PodsError> {
        container::log_lines::log_lines(self, id).await
    }

    /// What a container uses now, or a moment ago as it is configured. Reads its cgroup, and
    /// measures nothing but, where all is to be read, a writable layer that was never measured.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn container_usage(
        &self,
        id: &ContainerId,
        detail: Detail,
    ) -> Result<Usage, PodsError> {
        usage::of_container(self, id, detail).await
    }

    /// Whether this machine has huge pages and counts them. The same for as long as the daemon runs.
    #[must_use]
    pub fn counts_huge_pages(&self) -> bool {
        self.inner.counts_huge_pages
    }

    /// What a pod uses now, or a moment ago as it is configured, with what its interfaces have carried.
    ///
    /// # Errors
    /// [`PodsError`].
    pub async fn sandbox_usage(
        &self,
        id: &SandboxId,
        detail: Detail,
    ) -> Result<(Usage, Vec<network::InterfaceStats>), PodsError> {
        usage::of_sandbox(self, id, detail).await
    }
}

/// Where things of a pod are.
impl Inner {
    /// A pod's directory.
    pub(crate) fn pod_dir(&self, id: &SandboxId) -> PathBuf {
        self.pods_dir().join(id.as_str())
    }

    pub(crate) fn pods_dir(&self) -> PathBuf {
        self.config.state_dir.join("pods")
    }

    /// A container's bundle, in its pod's directory.
    pub(crate) fn bundle(&self, sandbox: &SandboxId, id: &ContainerId) -> PathBuf {
        self.pod_dir(sandbox).join("containers").join(id.as_str())
    }
}

/// A file of ours on which something failed.
pub(crate) fn file_failed(
    what: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> Cause {
    let path = path.to_owned();
    move |source| Cause::File { what, path, source }
}
