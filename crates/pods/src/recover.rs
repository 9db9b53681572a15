//! After a start: what an earlier daemon has left.
//!
//! Always: records are read before anything is served, everything else comes after; each pod is looked at
//! on its own and within a bound, and only calls that name it wait for it; what was half made is undone,
//! what was half undone is undone to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use model::{Class, SandboxId, with_causes};
use network::Collected;

use crate::apparmor;
use crate::cgroup;
use crate::container::remove::leavings;
use crate::error::{Cause, PodsError};
use crate::leaks::Leaks;
use crate::monitors;
use crate::pods::{Inner, Pods};
use crate::reconnect::{self, Attempt};
use crate::records::{ContainerRecord, PodNetwork, SandboxRecord, SandboxStage};
use crate::sandbox::stop::owed_network;
use crate::steps::{Failure, bounded, unblocked};
use crate::table::Table;
use crate::undo::Undo;

/// Pods that are taken up at once.
const AT_ONCE: usize = 32;
/// How often what belongs to no pod is looked for.
const RECONCILE_EVERY: Duration = Duration::from_secs(600);

/// What recovery found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Pods whose monitor answered.
    pub alive: usize,
    /// Pods whose monitor was gone.
    pub lost: usize,
    /// Pods that were half made or half removed, and are undone.
    pub undone: usize,
    /// Records that could not be read and were set aside, each with what is wrong.
    pub quarantined: Vec<String>,
    /// What could not be done, each with its object.
    pub problems: Vec<String>,
}

/// Fills the table from the records; those that are bad are told.
pub(crate) fn load(table: &Table) -> Result<Vec<String>, PodsError> {
    let sandboxes = table.records().sandboxes.load_all().map_err(PodsError::Open)?;
    let containers = table.records().containers.load_all().map_err(PodsError::Open)?;
    for (_, record) in sandboxes.records {
        table.add_sandbox(record, false);
    }
    for (_, record) in containers.records {
        table.add_container(record);
    }
    let bad = sandboxes.quarantined.into_iter().chain(containers.quarantined);
    Ok(bad.map(|q| format!("{}: {}, now {}", q.name, q.reason, q.moved_to.display())).collect())
}

/// Whether pods can be made now. Says so where that has changed.
pub(crate) fn ready(pods: &Pods) -> Result<(), PodsError> {
    let problem = problem(pods);
    let told = problem.as_ref().map(|(phase, cause)| (*phase, with_causes(cause)));
    pods.inner.health.tell(told);
    match problem {
        None => Ok(()),
        Some((phase, cause)) => Err(Failure::new(phase, cause).of("self-check of", "the node")),
    }
}

fn problem(pods: &Pods) -> Option<(&'static str, Cause)> {
    let inner = &pods.inner;
    if inner.owed.is_full() {
        let message = "too many leftovers of pods could not be removed";
        return Some(("records", Cause::other(Class::ResourceExhausted, message)));
    }
    inner.health.problem()
}

/// What is to be done with a pod of an earlier daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// It was not finished: nothing of it may stay.
    Undo,
    /// It should run: its monitor is looked for.
    TakeUp,
    /// It was stopped: whatever still runs is ended.
    Stop,
    /// It was being removed, and that goes on.
    Remove,
}

fn decide(record: &SandboxRecord) -> Decision {
    match record.stage {
        SandboxStage::Making => Decision::Undo,
        SandboxStage::Ready => Decision::TakeUp,
        SandboxStage::Stopped => Decision::Stop,
        SandboxStage::Removing => Decision::Remove,
    }
}

/// What became of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Alive,
    Lost,
    Undone,
    Stopped,
}

/// Takes up every pod that an earlier daemon has left, then clears away what belongs to none.
pub(crate) async fn recover(pods: &Pods) -> Recovered {
    let inner = &pods.inner;
    let mut recovered =
        Recovered { quarantined: inner.quarantined.clone(), ..Recovered::default() };
    let known: Vec<SandboxId> = inner.table.unsettled_ids();
    let deadline = inner.config.deadlines.recover;
    // Each has its id to itself: a borrowed one would keep this future from being sent to a task.
    let each = known.iter().cloned().map(|id| async move {
        let outcome = bounded("recover", deadline, Box::pin(take_up(pods, &id))).await;
        if outcome.is_err() {
            go_on(pods, &id);
        }
        inner.table.settle(&id);
        (id, outcome)
    });
    let mut all = futures_util::stream::iter(each).buffer_unordered(AT_ONCE);
    while let Some((id, outcome)) = all.next().await {
        match outcome {
            Ok(Outcome::Alive) => recovered.alive += 1,
            Ok(Outcome::Lost) => recovered.lost += 1,
            Ok(Outcome::Undone) => recovered.undone += 1,
            Ok(Outcome::Stopped) => {}
            Err(cause) => recovered.problems.push(format!("sandbox {id}: {}", with_causes(&cause))),
        }
    }
    drop(all);
    if let Err(cause) = renew_profile(inner).await {
        recovered.problems.push(with_causes(&cause));
    }
    recovered.problems.extend(reconcile(inner).await);
    reconcile_from_time_to_time(pods);
    recovered
}

/// What runs with the default AppArmor profile of an earlier version has this one's from now on.
async fn renew_profile(inner: &Inner) -> Result<(), Cause> {
    let is_generated = inner.config.apparmor_profile.as_deref() == Some(apparmor::GENERATED);
    if !inner.host.apparmor || !is_generated {
        return Ok(());
    }
    let apparmor = inner.apparmor.clone();
    let renew = inner.may_hang.run(move || apparmor.renew());
    bounded("apparmor", inner.config.deadlines.host_path, renew).await
}

/// Clears away what belongs to no pod; what could not be done comes back.
async fn reconcile(inner: &Arc<Inner>) -> Vec<String> {
    let mut problems = Vec::new();
    for result in [orphans(inner).await, networks(inner).await.map(drop)] {
        if let Err(cause) = result {
            problems.push(with_causes(&cause));
        }
    }
    problems
}

/// For as long as there are pods.
fn reconcile_from_time_to_time(pods: &Pods) {
    let weak = Arc::downgrade(&pods.inner);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(RECONCILE_EVERY).await;
            let Some(inner) = weak.upgrade() else { return };
            for problem in reconcile(&inner).await {
                tracing::warn!(problem, "looking for what belongs to no pod");
            }
        }
    });
}

async fn take_up(pods: &Pods, id: &SandboxId) -> Result<Outcome, Cause> {
    let inner = &pods.inner;
    let Some(record) = inner.table.sandbox(id) else { return Ok(Outcome::Undone) };
    match decide(&record) {
        Decision::TakeUp => connect(pods, &record).await,
        Decision::Undo => {
            let containers = inner.table.containers_of(id);
            let undos = half_made(inner, &record, &containers);
            // What is not undone in time is owed, and nobody waits for it any more.
            inner.owed.undo(id.as_str(), undos, inner.as_ref()).await;
            Ok(Outcome::Undone)
        }
        Decision::Stop => {
            carry_on(pods, id, Carry::Stop);
            Ok(Outcome::Stopped)
        }
        Decision::Remove => {
            carry_on(pods, id, Carry::Remove);
            Ok(Outcome::Undone)
        }
    }
}

/// A pod that was not taken up in time: one that should run is looked for until it is found or has certainly
/// ended, while nobody waits for it any more. What is to be undone is owed already.
fn go_on(pods: &Pods, id: &SandboxId) {
    let table = &pods.inner.table;
    let Some(record) = table.sandbox(id) else { return };
    // With a connection, its events are being taken.
    if decide(&record) == Decision::TakeUp && table.monitor(id).is_none() {
        monitors::find_and_follow(pods, id);
    }
}

enum Carry {
    Stop,
    Remove,
}

/// An operation that the earlier daemon did not finish is this one's now.
fn carry_on(pods: &Pods, id: &SandboxId, what: Carry) {
    let (pods, id) = (pods.clone(), id.clone());
    tokio::spawn(async move {
        let done = match what {
            Carry::Stop => pods.stop_sandbox(&id).await,
            Carry::Remove => pods.remove_sandbox(&id).await,
        };
        if let Err(error) = done {
            tracing::warn!(error = %with_causes(&error), sandbox = %id, "what was begun before the restart");
        }
    });
}

/// Everything that there is, or may be, of a sandbox that was not finished, in the order in which it goes.
fn half_made(
    inner: &Inner,
    record: &SandboxRecord,
    containers: &[Arc<ContainerRecord>],
) -> Vec<Undo> {
    let mut undos = vec![Undo::EndMonitor {
        sandbox: record.id.clone(),
        directory: inner.pod_dir(&record.id),
        identity: record.monitor,
    }];
    for container in containers {
        undos.extend(leavings(inner, container).into_iter().map(|(_, undo)| undo));
    }
    if record.cgroup.is_own {
        undos.push(Undo::RemoveCgroup(record.cgroup.path.clone()));
    }
    undos.extend(owed_network(record).into_iter().map(|(_, undo)| undo));
    undos.push(Undo::RemoveDirectory(inner.pod_dir(&record.id)));
    undos.push(Undo::ForgetSandbox(record.id.clone()));
    undos
}

/// Finds a pod's monitor and hears from it what has happened meanwhile.
async fn connect(pods: &Pods, record: &SandboxRecord) -> Result<Outcome, Cause> {
    let inner = &pods.inner;
    let id = &record.id;
    let attempt = match record.monitor {
        Some(identity) => reconnect::attempt(inner, id, identity).await,
        None => Attempt::Ended,
    };
    match attempt {
        Attempt::Found(found) => {
            let (monitor, events, reports) = *found;
            monitors::follow(pods, id, monitor, events);
            reconnect::compare(inner, id, reports);
            Ok(Outcome::Alive)
        }
        Attempt::Ended => {
            tracing::warn!(sandbox = %id, "a pod has no monitor any more");
            monitors::lost(inner, id).await;
            Ok(Outcome::Lost)
        }
        Attempt::Silent(cause) => Err(cause),
    }
}

/// Containers and directories that no record knows.
async fn orphans(inner: &Inner) -> Result<(), Cause> {
    let mut undos = Vec::new();
    let stray = |id: &SandboxId| inner.table.sandbox(id).is_none();
    let ids = inner.table.container_ids();
    for container in ids.iter().filter_map(|id| inner.table.container(id)) {
        if stray(&container.sandbox) {
            Leaks::found(&inner.leaks.containers, 1);
            undos.extend(leavings(inner, &container).into_iter().map(|(_, undo)| undo));
        }
    }
    for name in names_in(&inner.pods_dir()) {
        let Ok(id) = SandboxId::parse(&name) else { continue };
        if stray(&id) {
            Leaks::found(&inner.leaks.pods, 1);
            let directory = inner.pod_dir(&id);
            let own = own_cgroup(inner, &id);
            undos.push(Undo::EndMonitor {
                sandbox: id,
                directory: directory.clone(),
                identity: None,
            });
            undos.extend(own.map(Undo::RemoveCgroup));
            undos.push(Undo::RemoveDirectory(directory));
        }
    }
    let images = inner.services.images.clone();
    let listed = unblocked(move || images.containers());
    for id in bounded("root file systems", inner.config.deadlines.rootfs, listed).await? {
        if inner.table.container(&id).is_none() {
            Leaks::found(&inner.leaks.root_file_systems, 1);
            undos.push(Undo::ReleaseRootfs(id));
        }
    }
    inner.owed.undo("leftovers without a record", undos, inner).await;
    Ok(())
}

/// The cgroup that a pod of this id has if it has one of its own.
fn own_cgroup(inner: &Inner, id: &SandboxId) -> Option<cgroups::CgroupPath> {
    let config = &inner.config;
    let planned = cgroup::plan(config.cgroup_driver, None, &config.cgroup_parent, id);
    planned.ok().map(|own| own.path)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Networks of sandboxes that no record knows.
pub(crate) async fn networks(inner: &Inner) -> Result<Collected, Cause> {
    let ids = inner.table.sandbox_ids().into_iter();
    let joined = ids.filter_map(|id| inner.table.sandbox(&id)).filter(|r| has_network(&r.network));
    let valid: Vec<SandboxId> = joined.map(|r| r.id.clone()).collect();
    let collect = Box::pin(inner.services.networks.gc(&valid));
    let collected = bounded("networks", inner.config.deadlines.network, collect).await?;
    let found = collected.freed.len() + collected.left.len() + collected.swept.len();
    Leaks::found(&inner.leaks.networks, found);
    tracing::debug!(?collected, "networks of sandboxes that are gone");
    Ok(collected)
}

fn has_network(network: &PodNetwork) -> bool {
    network.netns().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::sandbox_record;

    #[test]
    fn a_pod_is_taken_up_stopped_or_undone_by_how_far_it_had_come() {
        for (stage, expected) in [
            (SandboxStage::Making, Decision::Undo),
            (SandboxStage::Ready, Decision::TakeUp),
            (SandboxStage::Stopped, Decision::Stop),
            (SandboxStage::Removing, Decision::Remove),
        ] {
            assert_eq!(decide(&sandbox_record(1, stage)), expected);
        }
    }
}
