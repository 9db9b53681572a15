//! What a case has made, and how it goes away.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cri_api::v1::{
    ImageSpec, ListPodSandboxRequest, PodSandboxFilter, RemoveImageRequest,
    RemovePodSandboxRequest, StopPodSandboxRequest,
};
use tonic::{Code, Status};

use crate::case::said;
use crate::rpc::Rpc;

/// The label whose value tells a case's pods from all others.
pub(crate) const LABEL: &str = "check.isopod/case";

#[derive(Debug, Clone)]
enum Made {
    Pod(String),
    Image(String),
    /// A mount of this machine.
    Mount(std::path::PathBuf),
}

/// Remembers pods and images; they are removed after the case, however it ends.
#[derive(Debug, Default)]
pub(crate) struct Scope(Mutex<Vec<Made>>);

impl Scope {
    fn add(&self, made: Made) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(made);
    }

    pub(crate) fn pod(&self, id: &str) {
        self.add(Made::Pod(id.to_owned()));
    }

    pub(crate) fn image(&self, reference: &str) {
        self.add(Made::Image(reference.to_owned()));
    }

    pub(crate) fn mount(&self, at: &std::path::Path) {
        self.add(Made::Mount(at.to_owned()));
    }

    /// Removes everything, pods with the label `mark` that were not remembered included. All is tried;
    /// gives what stays. The most it takes is half as much again as the case itself may: `patience`.
    pub(crate) async fn clean(&self, rpc: &Rpc, mark: &str, patience: Duration) -> Vec<String> {
        let made = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let patience = patience.saturating_mul(3) / 2;
        let cleaned = tokio::time::timeout(patience, clean(rpc, mark, made.clone())).await;
        let mut stays = cleaned.unwrap_or_else(|_| vec![format!("not done after {patience:?}")]);
        for made in made.iter().rev() {
            let Made::Mount(at) = made else { continue };
            let done = std::process::Command::new("umount").arg("--lazy").arg(at).output();
            if !done.is_ok_and(|done| done.status.success()) {
                stays.push(format!("a mount at {}", at.display()));
            }
        }
        stays
    }
}

async fn clean(rpc: &Rpc, mark: &str, made: Vec<Made>) -> Vec<String> {
    let mut stays = Vec::new();
    let (mut pods, mut images) = (Vec::new(), Vec::new());
    for made in made {
        match made {
            Made::Pod(id) => pods.push(id),
            Made::Image(reference) => images.push(reference),
            Made::Mount(_) => {}
        }
    }
    match labelled(rpc, mark).await {
        Ok(found) => pods.extend(found),
        Err(status) => stays.push(format!("the list of pods: {}", said(&status))),
    }
    pods.sort();
    pods.dedup();
    for id in pods {
        if let Err(status) = remove_pod(rpc, &id).await {
            stays.push(format!("pod {id}: {}", said(&status)));
        }
    }
    images.sort();
    images.dedup();
    for reference in images {
        let image = Some(ImageSpec { image: reference.clone(), ..Default::default() });
        if let Err(status) = rpc.remove_image(RemoveImageRequest { image }).await {
            stays.push(format!("image {reference}: {}", said(&status)));
        }
    }
    stays
}

async fn labelled(rpc: &Rpc, mark: &str) -> Result<Vec<String>, Status> {
    let label_selector = [(LABEL.to_owned(), mark.to_owned())].into();
    let filter = PodSandboxFilter { label_selector, ..Default::default() };
    let list = rpc.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?;
    // Looked at again: a runtime that does not filter would lose other people's pods.
    let ours =
        list.items.into_iter().filter(|pod| pod.labels.get(LABEL).is_some_and(|v| v == mark));
    Ok(ours.map(|pod| pod.id).collect())
}

async fn remove_pod(rpc: &Rpc, id: &str) -> Result<(), Status> {
    let pod_sandbox_id = id.to_owned();
    let stopped = rpc.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }).await;
    gone_is_fine(stopped)?;
    let pod_sandbox_id = id.to_owned();
    let removed = rpc.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await;
    gone_is_fine(removed)
}

/// Whether it was there is what the case is about, and not its clean-up.
fn gone_is_fine<T>(done: Result<T, Status>) -> Result<(), Status> {
    match done {
        Err(status) if status.code() != Code::NotFound => Err(status),
        Ok(_) | Err(_) => Ok(()),
    }
}
