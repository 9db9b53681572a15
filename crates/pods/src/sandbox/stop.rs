//! StopPodSandbox.

use std::sync::Arc;

use model::SandboxId;
use network::Attachment;
use operations::Phases;

use crate::config::Launch;
use crate::error::{Cause, PodsError};
use crate::events::EventKind;
use crate::log_totals;
use crate::monitors;
use crate::pods::{Inner, Pods};
use crate::records::{PodNetwork, SandboxRecord, SandboxStage};
use crate::steps::{Failure, step};
use crate::undo::{Hands as _, Undo};

const OPERATION: &str = "StopPodSandbox";

/// Joins or begins the operation.
pub(crate) async fn stop(pods: &Pods, id: &SandboxId) -> Result<(), PodsError> {
    let inner = &pods.inner;
    inner.table.settled(id).await;
    let Some(record) = inner.table.sandbox(id) else { return Ok(()) };
    let object = record.config.metadata.to_string();
    let operations = inner.services.operations.clone();
    let (inner, id, name) = (Arc::clone(inner), id.clone(), object.clone());
    let key = id.to_string();
    let work = move |phases: Phases| async move {
        let ended = async {
            quiet(&inner, &id, &phases).await?;
            give_network_back(&inner, &id, &phases).await
        };
        ended.await.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

/// Nothing of the pod runs after this, and its cgroups are gone.
pub(super) async fn quiet(inner: &Inner, id: &SandboxId, phases: &Phases) -> Result<(), Failure> {
    if inner.table.is_quiet(id) {
        return Ok(());
    }
    let Some(record) = inner.table.sandbox(id) else { return Ok(()) };
    let kind = (record.stage == SandboxStage::Ready).then_some(EventKind::Stopped);
    inner.table.change_and_tell(id, kind, |r| {
        if r.stage == SandboxStage::Ready {
            r.stage = SandboxStage::Stopped;
        }
    });
    inner.table.save_sandbox(id).map_err(|e| Failure::new("record", e))?;
    delete_outside(inner, &record, phases).await;
    // The last time that it can be asked.
    log_totals::ask(inner, id).await;
    inner.logged.close(id, |id| inner.table.sandbox(id).is_some());
    let spot = inner.monitor_spot(id);
    phases.enter_at("monitor", Some(inner.config.deadlines.kill), &spot);
    let directory = inner.pod_dir(id);
    let end = inner.end_monitor(id, &directory, record.monitor).await;
    end.map_err(|e| Failure::new("monitor", e))?;
    // An earlier daemon's monitor may have ended without anybody taking its events.
    if inner.table.containers_of(id).iter().any(|c| !c.is_over()) {
        monitors::lost(inner, id).await;
    }
    inner.table.change_sandbox(id, |r| r.monitor = None);
    phases.leave();
    // Those that were making something in it fail now, and undo what they did.
    if let Some(gate) = inner.table.gate(id) {
        let alone = async {
            drop(gate.write().await);
            Ok::<_, Cause>(())
        };
        step(phases, "others", inner.config.deadlines.create, alone).await?;
    }
    let mut cgroups: Vec<_> =
        inner.table.containers_of(id).iter().map(|c| c.cgroup.clone()).collect();
    cgroups.extend(record.cgroup.is_own.then(|| record.cgroup.path.clone()));
    for cgroup in cgroups {
        let remove = inner.remove_cgroup(&cgroup);
        step(phases, "cgroup", inner.config.deadlines.cgroup, remove).await?;
    }
    inner.table.mark_quiet(id);
    Ok(())
}

/// An external runtime keeps state of its own for each container, which it alone removes. What fails here
/// is not worth keeping the pod for.
async fn delete_outside(inner: &Inner, record: &SandboxRecord, phases: &Phases) {
    let handler = inner.config.handlers.get(&record.config.handler);
    match handler.map(|h| &h.launch) {
        Some(Launch::External { .. }) => {}
        Some(Launch::Own) | None => return,
    }
    phases.enter("containers", Some(inner.config.deadlines.kill));
    for container in inner.table.containers_of(&record.id) {
        if let Err(cause) = inner.remove_from_monitor(&record.id, &container.id).await {
            tracing::warn!(error = %model::with_causes(&cause), container = %container.id, "its runtime keeps it");
        }
    }
    phases.leave();
}

/// Leaves the networks and unpins the namespace.
pub(super) async fn give_network_back(
    inner: &Inner,
    id: &SandboxId,
    phases: &Phases,
) -> Result<(), Failure> {
    let Some(record) = inner.table.sandbox(id) else { return Ok(()) };
    for (phase, undo) in owed_network(&record) {
        let undone = inner.carry_out(&undo);
        step(phases, phase, inner.config.deadlines.network, undone).await?;
    }
    inner.table.change_sandbox(id, |r| {
        if r.network != PodNetwork::Host {
            r.network = PodNetwork::Released;
        }
    });
    inner.table.save_sandbox(id).map_err(|e| Failure::new("record", e))
}

/// What gives a sandbox's network back, in this order.
pub(crate) fn owed_network(record: &SandboxRecord) -> Vec<(&'static str, Undo)> {
    let Some(netns) = record.network.netns() else { return Vec::new() };
    let attachment = Box::new(Attachment::new(&record.id, &record.config, netns.to_owned()));
    let result = record.network.result().cloned();
    vec![
        ("network", Undo::Detach { attachment, result }),
        ("netns", Undo::RemoveNetns(record.id.clone())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::sandbox_record;

    #[test]
    fn a_network_is_left_with_what_it_said_before_its_namespace_goes_and_only_once() {
        let mut record = sandbox_record(1, SandboxStage::Ready);
        assert!(owed_network(&record).is_empty(), "the host's network is nobody's");
        record.network = PodNetwork::Intended { netns: "/run/netns/x".into() };
        assert_eq!(owed_network(&record).len(), 2, "what was only intended may be there");
        let result = serde_json::json!({"cniVersion": "1.0.0"});
        let ips = vec!["10.0.0.1".parse().unwrap()];
        record.network =
            PodNetwork::Attached { netns: "/run/netns/x".into(), ips, result: result.clone() };
        let owed = owed_network(&record);
        let (_, Undo::Detach { result: kept, .. }) = &owed[0] else { unreachable!("{owed:?}") };
        assert_eq!(kept.as_ref(), Some(&result));
        assert_eq!(owed[1].1, Undo::RemoveNetns(record.id.clone()));
        record.network = PodNetwork::Released;
        assert!(owed_network(&record).is_empty());
    }
}
