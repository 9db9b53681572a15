//! What whoever looks after the node asks about the networks of pods.
//!
//! Always: a check changes nothing and is bounded for each pod; a collection takes only what no pod's record
//! speaks of, and goes on when its caller gives up.

use std::sync::Arc;

use futures_util::StreamExt as _;
use model::{SandboxId, with_causes};
use network::{Attachment, Collected, Overview, Verdict};
use operations::Phases;

use crate::error::{Cause, PodsError};
use crate::pods::{Inner, Pods};
use crate::records::{PodNetwork, SandboxRecord, SandboxStage};
use crate::recover;
use crate::steps::{Failure, bounded};

/// Pods that are checked at once; plugins have a bound of their own.
const AT_ONCE: usize = 16;

/// A network of a pod, and what was found of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkCheck {
    /// The pod.
    pub sandbox: SandboxId,
    /// Its namespace and name.
    pub pod: String,
    /// The network; empty for what concerns all networks of the pod.
    pub network: String,
    /// The interface inside; empty where there is none in particular.
    pub interface: String,
    /// What was found.
    pub found: Found,
}

/// What was found of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// It is as it was left.
    Whole,
    /// There was nothing to look at, for this reason.
    Unchecked(String),
    /// What is missing.
    Broken(String),
}

/// The networks of the node.
pub(crate) async fn overview(pods: &Pods) -> Result<Overview, PodsError> {
    let overview = pods.inner.services.networks.overview().await;
    overview.map_err(|error| Failure::new("records", error).of("NetworkStatus", "networks"))
}

/// Checks the networks of `named`, or, where that is empty, of all pods that are ready and have one.
pub(crate) async fn check(
    pods: &Pods,
    named: &[SandboxId],
) -> Result<Vec<NetworkCheck>, PodsError> {
    let inner = &pods.inner;
    let mut chosen = Vec::new();
    for id in named {
        inner.table.settled(id).await;
        let visible = inner.table.sandbox(id).filter(|r| r.stage != SandboxStage::Making);
        chosen.push(visible.ok_or_else(|| PodsError::NoSandbox { id: id.clone() })?);
    }
    if named.is_empty() {
        let all = inner.table.sandbox_statuses();
        let all = all.iter().filter_map(|status| inner.table.sandbox(&status.id));
        chosen.extend(all.filter(|record| is_up(record)));
    }
    // Each has its record to itself: a borrowed one would keep this future from being sent to a task.
    let each = chosen.into_iter().map(|record| async move { check_one(inner, &record).await });
    let checked: Vec<_> = futures_util::stream::iter(each).buffered(AT_ONCE).collect().await;
    Ok(checked.into_iter().flatten().collect())
}

/// Whether the pod should have a network now.
fn is_up(record: &SandboxRecord) -> bool {
    record.stage == SandboxStage::Ready && record.network.netns().is_some()
}

async fn check_one(inner: &Inner, record: &SandboxRecord) -> Vec<NetworkCheck> {
    let row = |network: String, interface: String, found| NetworkCheck {
        sandbox: record.id.clone(),
        pod: record.config.metadata.to_string(),
        network,
        interface,
        found,
    };
    let of_all = |found| vec![row(String::new(), String::new(), found)];
    let netns = match &record.network {
        PodNetwork::Host => {
            return of_all(Found::Unchecked("it is on the node's own network".to_owned()));
        }
        PodNetwork::Released => {
            return of_all(Found::Unchecked("it has given its network back".to_owned()));
        }
        PodNetwork::Intended { netns } | PodNetwork::Attached { netns, .. } => netns.clone(),
    };
    let attachment = Attachment::new(&record.id, &record.config, netns);
    let asked = inner.services.networks.check(&attachment, record.network.result());
    let checked = bounded("network", inner.config.deadlines.network, Box::pin(asked)).await;
    // What is missing of a pod that goes meanwhile is no finding.
    if is_up(record) && !inner.table.sandbox(&record.id).is_some_and(|now| is_up(&now)) {
        return of_all(Found::Unchecked("it was stopped meanwhile".to_owned()));
    }
    match checked {
        Ok(checked) => checked
            .into_iter()
            .map(|one| row(one.network, one.interface, found(&one.verdict)))
            .collect(),
        Err(cause) => of_all(Found::Broken(with_causes(&cause))),
    }
}

fn found(verdict: &Verdict) -> Found {
    match verdict {
        Verdict::Whole => Found::Whole,
        Verdict::Unchecked(why) => Found::Unchecked((*why).to_owned()),
        Verdict::Broken(error) => Found::Broken(with_causes(error)),
    }
}

/// Gives back what belongs to no pod. One that runs already is joined.
pub(crate) async fn collect(pods: &Pods) -> Result<Collected, PodsError> {
    const OPERATION: &str = "CollectNetworks";
    let inner = Arc::clone(&pods.inner);
    let operations = inner.services.operations.clone();
    let work = move |phases: Phases| async move {
        phases.enter("networks", Some(inner.config.deadlines.network));
        let collected = recover::networks(&inner).await;
        collected.map_err(|cause: Cause| Failure::new("networks", cause).of(OPERATION, "networks"))
    };
    Ok(operations.run(OPERATION, String::new(), "networks".to_owned(), work).await?)
}
