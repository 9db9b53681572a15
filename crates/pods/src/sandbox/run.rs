//! RunPodSandbox.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cgroups::Cgroup;
use model::{Class, SandboxConfig, SandboxId, SandboxMetadata, UserNamespace};
use monitor_client::Started;
use network::{Attached, Attachment, Netns};
use operations::{Origin, Phases, Spot};

use super::{files, limits, setup};
use crate::cgroup;
use crate::clock;
use crate::error::{Cause, PodsError};
use crate::monitors;
use crate::pods::{Inner, Pods, file_failed};
use crate::records::{PodNetwork, SandboxRecord, SandboxStage};
use crate::steps::{Failure, TURN, UNDO, Waiting, blocking_step, step, step_at};
use crate::undo::{Undo, Undos};

const OPERATION: &str = "RunPodSandbox";

/// What a sandbox is asked for by: the same key is the same sandbox.
pub(crate) fn key(metadata: &SandboxMetadata) -> String {
    let SandboxMetadata { name, uid, namespace, attempt } = metadata;
    format!("{namespace:?} {name:?} {uid:?} {attempt}")
}

/// Joins or begins the operation.
pub(crate) async fn run(pods: &Pods, config: SandboxConfig) -> Result<SandboxId, PodsError> {
    let object = config.metadata.to_string();
    let handler = pods.inner.config.handlers.get(&config.handler);
    if let Some(problem) = setup::contradiction(&config, handler) {
        return Err(PodsError::Invalid { operation: OPERATION, object, problem });
    }
    let operations = pods.inner.services.operations.clone();
    let (key, pods, name) = (key(&config.metadata), pods.clone(), object.clone());
    let work = move |phases: Phases| async move {
        if let Some(there) = find(&pods, &config.metadata).await {
            return Ok(there);
        }
        make(&pods, config, &phases).await.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

/// The ready sandbox that an earlier call for the same has made.
async fn find(pods: &Pods, metadata: &SandboxMetadata) -> Option<SandboxId> {
    let table = &pods.inner.table;
    // What an earlier daemon was making is undone before it is settled.
    let there = table.sandbox_of(metadata)?.id.clone();
    table.settled(&there).await;
    let now = table.sandbox(&there)?;
    (now.stage == SandboxStage::Ready).then_some(there)
}

async fn make(pods: &Pods, config: SandboxConfig, phases: &Phases) -> Result<SandboxId, Failure> {
    let inner = &pods.inner;
    if inner.owed.is_full() {
        let message = "too many leftovers of other pods could not be removed";
        return Err(Failure::new("begin", Cause::other(Class::ResourceExhausted, message)));
    }
    let object = config.metadata.to_string();
    let mut undos = Undos::default();
    let made = build(pods, config, phases, &mut undos).await;
    if let Err(failure) = &made {
        phases.failed(failure.phase);
        phases.enter(UNDO, None);
        inner.owed.add(&object, undos.unwind(inner.as_ref()).await);
    }
    made
}

async fn build(
    pods: &Pods,
    config: SandboxConfig,
    phases: &Phases,
    undos: &mut Undos,
) -> Result<SandboxId, Failure> {
    let reserved = Reserved::record(&pods.inner, config, undos)?;
    let prepared = reserved.prepare(phases, undos).await?;
    let running = prepared.start(phases, undos).await?;
    running.ready(pods, phases)
}

/// A sandbox whose intention is written down.
struct Reserved<'a> {
    inner: &'a Arc<Inner>,
    record: SandboxRecord,
}

/// Who makes a sandbox's network namespace.
enum NetnsPlan {
    /// Nobody: the host's is used.
    Hosts,
    /// It is there.
    Made(Netns),
    /// The monitor, in the pod's user namespace: only then it belongs to the pod's users.
    ByMonitor,
}

/// One with a cgroup, a directory and, if it is to have one of its own, a network namespace.
struct Prepared<'a> {
    reserved: Reserved<'a>,
    netns: NetnsPlan,
}

/// One whose monitor runs, whose networks are joined and whose files are written.
struct Running<'a> {
    reserved: Reserved<'a>,
    started: Started,
}

impl<'a> Reserved<'a> {
    fn record(
        inner: &'a Arc<Inner>,
        config: SandboxConfig,
        undos: &mut Undos,
    ) -> Result<Self, Failure> {
        let mut random = [0; 32];
        getrandom::fill(&mut random).map_err(|e| {
            Failure::new("begin", Cause::other(Class::Internal, format!("no randomness: {e}")))
        })?;
        let id = SandboxId::from_random(random);
        let node = &inner.config;
        let parent = config.cgroup_parent.as_deref();
        let cgroup = cgroup::plan(node.cgroup_driver, parent, &node.cgroup_parent, &id)
            .map_err(|e| Failure::new("begin", Cause::Cgroup(e.into())))?;
        let network = match config.namespaces.network {
            model::NetworkMode::Node => PodNetwork::Host,
            model::NetworkMode::Pod => {
                let netns = inner.services.networks.netns(&id).path().to_owned();
                PodNetwork::Intended { netns }
            }
        };
        let record = SandboxRecord {
            created_at: clock::now(),
            asked_by: Origin::current().to_string(),
            stage: SandboxStage::Making,
            network,
            cgroup,
            resources: limits::of_pod(&config.overhead, &config.resources),
            monitor: None,
            spans: Vec::new(),
            config: Arc::new(config),
            id,
        };
        undos.push(Undo::ForgetSandbox(record.id.clone()));
        inner.table.add_sandbox(record.clone(), true);
        inner.table.save_sandbox(&record.id).map_err(|e| Failure::new("record", e))?;
        Ok(Self { inner, record })
    }

    /// All at once: none of them needs another.
    async fn prepare(self, phases: &Phases, undos: &mut Undos) -> Result<Prepared<'a>, Failure> {
        undos.push(Undo::RemoveDirectory(self.inner.pod_dir(&self.record.id)));
        if self.record.network.netns().is_some() {
            undos.push(Undo::RemoveNetns(self.record.id.clone()));
        }
        if self.record.cgroup.is_own {
            undos.push(Undo::RemoveCgroup(self.record.cgroup.path.clone()));
        }
        // Each is waited for also when another fails: nothing may come to be after it was undone.
        let (directories, cgroup, netns) = tokio::join!(
            self.make_directories(phases),
            self.make_cgroup(phases),
            self.make_netns(phases),
        );
        directories?;
        cgroup?;
        Ok(Prepared { netns: netns?, reserved: self })
    }

    async fn make_directories(&self, phases: &Phases) -> Result<(), Failure> {
        let directory = self.inner.pod_dir(&self.record.id);
        let logs = self.record.config.log_directory.clone();
        let spot = Spot::of(TURN);
        let at = spot.clone();
        // The directory of logs may lie on any file system.
        let make = self.inner.may_hang.run(move || {
            at.set(directory.display().to_string());
            files::make_pod_dir(&directory)?;
            let Some(logs) = logs else { return Ok(()) };
            at.set(format!("{} (log_directory)", logs.display()));
            files::make_log_dir(&logs)
        });
        let deadline = self.inner.config.deadlines.host_path;
        step_at(phases, "directories", deadline, &spot, make).await
    }

    async fn make_netns(&self, phases: &Phases) -> Result<NetnsPlan, Failure> {
        if self.record.network.netns().is_none() {
            return Ok(NetnsPlan::Hosts);
        }
        match self.record.config.namespaces.user {
            UserNamespace::Pod { .. } => Ok(NetnsPlan::ByMonitor),
            UserNamespace::Node => {
                let new = Box::pin(self.inner.services.networks.new_netns(&self.record.id));
                let deadline = self.inner.config.deadlines.network;
                Ok(NetnsPlan::Made(step(phases, "netns", deadline, new).await?))
            }
        }
    }

    /// The pod's own cgroup with its limits. One that the kubelet has made has the kubelet's.
    async fn make_cgroup(&self, phases: &Phases) -> Result<(), Failure> {
        let cgroup = self.record.cgroup.clone();
        let limits = specgen::resources(&self.record.resources, &self.inner.host)
            .map_err(|e| Failure::new("cgroup", e))?;
        let hierarchies = self.inner.hierarchies.clone();
        // The undo begins when this returns.
        let waiting = Waiting::default();
        let is_given_up = waiting.is_given_up();
        let make = move || {
            let is_there = Cgroup::at(&hierarchies, &cgroup.path).exists();
            let made = Cgroup::create(&hierarchies, &cgroup.path)?;
            if cgroup.is_own && is_given_up() {
                return made.remove();
            }
            if cgroup.is_own || !is_there { made.apply(&limits) } else { Ok(()) }
        };
        blocking_step(phases, "cgroup", self.inner.config.deadlines.cgroup, make).await
    }
}

impl<'a> Prepared<'a> {
    /// Joins the networks, writes the files and starts the monitor, at once where none needs another.
    async fn start(self, phases: &Phases, undos: &mut Undos) -> Result<Running<'a>, Failure> {
        let Self { reserved, netns } = self;
        let Reserved { inner, record } = &reserved;
        if record.network.netns().is_some() {
            let attachment = attachment(record, &inner.services.networks.netns(&record.id));
            undos.push(Undo::Detach { attachment, result: None });
        }
        undos.push(Undo::EndMonitor {
            sandbox: record.id.clone(),
            directory: inner.pod_dir(&record.id),
            identity: None,
        });
        let started = match netns {
            NetnsPlan::Hosts => {
                let (written, started) = tokio::join!(
                    write_files(inner, record, &PodNetwork::Host, phases),
                    start_monitor(inner, record, None, phases),
                );
                let started = started?;
                undos.monitor_is(started.identity);
                written?;
                started
            }
            NetnsPlan::Made(netns) => {
                // Both are waited for also when one fails: nothing may come to be after it was undone.
                let (network, started) = tokio::join!(
                    attach(inner, record, &netns, phases),
                    start_monitor(inner, record, Some(&netns), phases),
                );
                let started = started?;
                undos.monitor_is(started.identity);
                network?;
                started
            }
            NetnsPlan::ByMonitor => {
                let mut started = start_monitor(inner, record, None, phases).await?;
                undos.monitor_is(started.identity);
                let netns = pin(inner, record, started.netns.take(), phases).await?;
                attach(inner, record, &netns, phases).await?;
                started
            }
        };
        Ok(Running { reserved, started })
    }
}

fn attachment(record: &SandboxRecord, netns: &Netns) -> Box<Attachment> {
    Box::new(Attachment::new(&record.id, &record.config, netns.path().to_owned()))
}

/// Pins the namespace that the monitor has made.
async fn pin(
    inner: &Inner,
    record: &SandboxRecord,
    made: Option<OwnedFd>,
    phases: &Phases,
) -> Result<Netns, Failure> {
    let none = || {
        let message = "the monitor has made no network namespace";
        Failure::new("netns", Cause::other(Class::Internal, message))
    };
    let made = made.ok_or_else(none)?;
    let pin = Box::pin(inner.services.networks.pin_netns(&record.id, made));
    step(phases, "netns", inner.config.deadlines.network, pin).await
}

/// Joins the networks and writes the files that tell the pod's addresses.
async fn attach(
    inner: &Inner,
    record: &SandboxRecord,
    netns: &Netns,
    phases: &Phases,
) -> Result<(), Failure> {
    let attachment = attachment(record, netns);
    let attach = Box::pin(inner.services.networks.attach(&attachment));
    let attached = step(phases, "network", inner.config.deadlines.network, attach).await?;
    let Attached { ips, result, .. } = attached;
    let network = PodNetwork::Attached { netns: netns.path().to_owned(), ips, result };
    let change = network.clone();
    inner.table.change_sandbox(&record.id, move |r| r.network = change);
    inner.table.save_sandbox(&record.id).map_err(|e| Failure::new("record", e))?;
    write_files(inner, record, &network, phases).await
}

/// Writes the files that the pod's containers share.
async fn write_files(
    inner: &Inner,
    record: &SandboxRecord,
    network: &PodNetwork,
    phases: &Phases,
) -> Result<(), Failure> {
    let directory = inner.pod_dir(&record.id);
    let config = Arc::clone(&record.config);
    let name = setup::hostname(&config, &inner.host.hostname).to_owned();
    let ips = match network {
        PodNetwork::Attached { ips, .. } => ips.clone(),
        PodNetwork::Host | PodNetwork::Intended { .. } | PodNetwork::Released => Vec::new(),
    };
    let write = move || files::write(&directory, &config, &name, &ips);
    blocking_step(phases, "files", inner.config.deadlines.host_path, write).await
}

async fn start_monitor(
    inner: &Inner,
    record: &SandboxRecord,
    netns: Option<&Netns>,
    phases: &Phases,
) -> Result<Started, Failure> {
    let directory = inner.pod_dir(&record.id);
    let netns = match netns {
        Some(netns) => {
            let opened = netns.open().map_err(file_failed("open", netns.path()));
            Some(opened.map_err(|e| Failure::new("monitor", e))?)
        }
        None => None,
    };
    let setup =
        setup::setup(&record.id, &record.config, &inner.config, directory, &inner.host.hostname);
    let program = Arc::clone(&inner.services.monitor);
    let start = Box::pin(monitor_client::start(program, setup, netns));
    let started = step(phases, "monitor", inner.config.deadlines.monitor, start).await?;
    phases.adopt("monitor", "monitor", &started.spans);
    Ok(started)
}

impl Running<'_> {
    /// Takes the monitor's events and tells that the sandbox is ready.
    fn ready(self, pods: &Pods, phases: &Phases) -> Result<SandboxId, Failure> {
        let Self { reserved: Reserved { inner, record }, started } = self;
        let id = record.id;
        let identity = started.identity;
        inner.table.change_sandbox(&id, |r| r.monitor = Some(identity));
        monitors::follow(pods, &id, started.monitor, started.events);
        if !inner.table.sandbox_ready(&id, phases.spans()) {
            let message = "the monitor has ended while the sandbox was made";
            return Err(Failure::new("monitor", Cause::other(Class::Unavailable, message)));
        }
        inner.table.save_sandbox(&id).map_err(|e| Failure::new("record", e))?;
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::sandbox_config;

    #[test]
    fn the_key_is_name_namespace_uid_and_attempt_and_nothing_else() {
        let one = sandbox_config("a", 0);
        let mut other = one.clone();
        other.labels.clear();
        other.hostname = "other".to_owned();
        assert_eq!(key(&one.metadata), key(&other.metadata));
        for change in [
            (|m| m.attempt = 1) as fn(&mut SandboxMetadata),
            |m| m.name = "b".to_owned(),
            |m| m.uid = "b".to_owned(),
            |m| m.namespace = "b".to_owned(),
        ] {
            let mut changed = one.metadata.clone();
            change(&mut changed);
            assert_ne!(key(&one.metadata), key(&changed));
        }
    }
}
