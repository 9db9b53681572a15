//! RemovePodSandbox.

use std::sync::Arc;

use model::{SandboxId, with_causes};
use operations::Phases;

use super::stop::{give_network_back, owed_network, quiet};
use crate::container;
use crate::error::PodsError;
use crate::pods::{Inner, Pods};
use crate::records::SandboxStage;
use crate::steps::{Failure, step};
use crate::undo::{Hands as _, Undo};

const OPERATION: &str = "RemovePodSandbox";

/// Joins or begins the operation.
pub(crate) async fn remove(pods: &Pods, id: &SandboxId) -> Result<(), PodsError> {
    let inner = &pods.inner;
    inner.table.settled(id).await;
    let Some(record) = inner.table.sandbox(id) else { return Ok(()) };
    let object = record.config.metadata.to_string();
    let operations = inner.services.operations.clone();
    let (inner, id, name) = (Arc::clone(inner), id.clone(), object.clone());
    let key = id.to_string();
    let work = move |phases: Phases| async move {
        let gone = clear(&inner, &id, &phases).await;
        gone.map_err(|failure| failure.of(OPERATION, &name))
    };
    Ok(operations.run(OPERATION, key, object, work).await?)
}

async fn clear(inner: &Inner, id: &SandboxId, phases: &Phases) -> Result<(), Failure> {
    quiet(inner, id, phases).await?;
    inner.table.change_sandbox(id, |r| r.stage = SandboxStage::Removing);
    inner.table.save_sandbox(id).map_err(|e| Failure::new("record", e))?;
    let Some(record) = inner.table.sandbox(id) else { return Ok(()) };
    if let Err(failure) = give_network_back(inner, id, phases).await {
        // The pod need not wait for a network that does not answer; what it has stays owed.
        tracing::warn!(error = %with_causes(failure.cause.as_ref()), sandbox = %id, "its network is given back later");
        let owed = owed_network(&record).into_iter().map(|(_, undo)| undo).collect();
        inner.owed.add(&record.config.metadata.to_string(), owed);
    }
    for container in inner.table.containers_of(id) {
        container::remove::clear(inner, &container, phases).await?;
    }
    let deadline = inner.config.deadlines.rootfs;
    let directory = Undo::RemoveDirectory(inner.pod_dir(id));
    step(phases, "directory", deadline, inner.carry_out(&directory)).await?;
    inner.table.forget_sandbox(id).map_err(|e| Failure::new("record", e))
}
