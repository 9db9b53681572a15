//! Sandboxes.

use cri_api::v1;
use model::{SandboxMetadata, SandboxState};
use pods::SandboxStatus;
use serde_json::json;

use super::namespaces::namespace_option;
use super::spans;

fn metadata(given: &SandboxMetadata) -> v1::PodSandboxMetadata {
    v1::PodSandboxMetadata {
        name: given.name.clone(),
        uid: given.uid.clone(),
        namespace: given.namespace.clone(),
        attempt: given.attempt,
    }
}

fn state(given: SandboxState) -> i32 {
    match given {
        SandboxState::Ready => v1::PodSandboxState::SandboxReady,
        SandboxState::NotReady => v1::PodSandboxState::SandboxNotready,
    }
    .into()
}

/// A sandbox as its status tells it.
pub(crate) fn sandbox_status(given: &SandboxStatus) -> v1::PodSandboxStatus {
    let mut ips = given.ips.iter().map(ToString::to_string);
    let network = v1::PodSandboxNetworkStatus {
        ip: ips.next().unwrap_or_default(),
        additional_ips: ips.map(|ip| v1::PodIp { ip }).collect(),
    };
    let options = namespace_option(&given.config.namespaces);
    v1::PodSandboxStatus {
        id: given.id.to_string(),
        metadata: Some(metadata(&given.config.metadata)),
        state: state(given.state),
        created_at: given.created_at.0,
        network: Some(network),
        linux: Some(v1::LinuxPodSandboxStatus {
            namespaces: Some(v1::Namespace { options: Some(options) }),
        }),
        labels: given.config.labels.clone(),
        annotations: given.config.annotations.clone(),
        runtime_handler: given.config.handler.as_str().to_owned(),
    }
}

/// A sandbox as a list tells it.
pub(crate) fn sandbox_item(given: &SandboxStatus) -> v1::PodSandbox {
    v1::PodSandbox {
        id: given.id.to_string(),
        metadata: Some(metadata(&given.config.metadata)),
        state: state(given.state),
        created_at: given.created_at.0,
        labels: given.config.labels.clone(),
        annotations: given.config.annotations.clone(),
        runtime_handler: given.config.handler.as_str().to_owned(),
    }
}

/// What a verbose status tells more, as one JSON text.
pub(crate) fn sandbox_info(given: &SandboxStatus) -> String {
    json!({
        "pid": given.monitor_pid.unwrap_or(0),
        "monitorPid": given.monitor_pid,
        "netns": given.netns,
        "cgroup": given.cgroup,
        "runtimeHandler": given.config.handler.as_str(),
        "config": &*given.config,
        "timeline": spans(&given.spans),
    })
    .to_string()
}
