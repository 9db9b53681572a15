//! Checkpoints: what can be asked of every runtime, with or without a program that makes them.

use cri_api::v1::*;
use tonic::Code;

use super::sandbox::NOBODY;
use crate::case::{Verdict, cases, ensure};
use crate::context::{Context, refused};

cases! { "checkpoint":
    "unknown-container" Api Codes ["CheckpointContainer", "CheckpointContainerRequest.container_id",
            "CheckpointContainerRequest.location"]
        "A checkpoint of an unknown container is NotFound." => unknown_container();
    "unknown-pod" Api Codes ["CheckpointPod", "CheckpointPodRequest.pod_sandbox_id",
            "CheckpointPodRequest.output_path"]
        "A checkpoint of an unknown sandbox is NotFound." => unknown_pod();
    "missing-checkpoint" Api Codes ["RestorePod", "RestorePodRequest.checkpoint_path"]
        "A checkpoint that is not there cannot be restored." => missing();
    "container-goes-on" Linux Api ["CheckpointContainer"]
        "A checkpoint, made or refused, leaves the container running." => goes_on();
}

async fn unknown_container(c: &Context) -> Verdict {
    let location = c.directory()?.join("checkpoint.tar").to_string_lossy().into_owned();
    let request =
        CheckpointContainerRequest { container_id: NOBODY.to_owned(), location, timeout: 10 };
    refused(c.rpc.checkpoint_container(request).await, &[Code::NotFound]).map(|_| ())
}

async fn unknown_pod(c: &Context) -> Verdict {
    let output_path = c.directory()?.join("checkpoint").to_string_lossy().into_owned();
    let request = CheckpointPodRequest {
        pod_sandbox_id: NOBODY.to_owned(),
        output_path,
        ..Default::default()
    };
    refused(c.rpc.checkpoint_pod(request).await, &[Code::NotFound]).map(|_| ())
}

async fn missing(c: &Context) -> Verdict {
    let checkpoint_path = "/no/such/checkpoint".to_owned();
    let config = Some(c.pod_config());
    let request = RestorePodRequest { checkpoint_path, config, ..Default::default() };
    let codes = [Code::NotFound, Code::InvalidArgument, Code::FailedPrecondition];
    refused(c.rpc.restore_pod(request).await, &codes).map(|_| ())
}

async fn goes_on(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    let location = c.directory()?.join("checkpoint.tar").to_string_lossy().into_owned();
    let request = CheckpointContainerRequest { container_id: id.clone(), location, timeout: 20 };
    match c.rpc.checkpoint_container(request).await {
        Err(status) if status.code() == Code::Unimplemented => return Err(status.into()),
        Ok(_) | Err(_) => {}
    }
    let state = c.status(&id).await?.state();
    ensure!(state == ContainerState::ContainerRunning, "its state is {state:?}");
    Ok(())
}
