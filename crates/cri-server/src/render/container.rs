//! Containers.

use cri_api::v1;
use model::{Access, ContainerMetadata, MountSource, Propagation, Signal, State, User};
use pods::{ContainerStatus, LogLines, MountStatus, SandboxStatus};
use serde_json::json;

use super::image::image_spec;
use super::namespaces::id_mapping;
use super::resources::resources;
use super::spans;

fn metadata(given: &ContainerMetadata) -> v1::ContainerMetadata {
    v1::ContainerMetadata { name: given.name.clone(), attempt: given.attempt }
}

fn state(given: &State) -> i32 {
    match given {
        State::Created => v1::ContainerState::ContainerCreated,
        State::Running { .. } => v1::ContainerState::ContainerRunning,
        State::Exited { .. } => v1::ContainerState::ContainerExited,
    }
    .into()
}

/// A container as its status tells it.
pub(crate) fn container_status(given: &ContainerStatus) -> v1::ContainerStatus {
    let (started_at, exit) = match &given.state {
        State::Created => (0, None),
        State::Running { started_at } => (started_at.0, None),
        State::Exited { started_at, exit } => (started_at.0, Some(exit)),
    };
    v1::ContainerStatus {
        id: given.id.to_string(),
        metadata: Some(metadata(&given.config.metadata)),
        state: state(&given.state),
        created_at: given.created_at.0,
        started_at,
        finished_at: exit.map_or(0, |exit| exit.finished_at.0),
        exit_code: exit.map_or(0, |exit| exit.code),
        image: Some(image_spec(&given.config.image)),
        image_ref: given.image_ref.clone(),
        reason: exit.map(|exit| exit.reason.as_str().to_owned()).unwrap_or_default(),
        message: exit.map(|exit| exit.message.clone()).unwrap_or_default(),
        labels: given.config.labels.clone(),
        annotations: given.config.annotations.clone(),
        mounts: given.mounts.iter().map(mount).collect(),
        log_path: given.log_path.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
        resources: Some(v1::ContainerResources {
            linux: Some(resources(&given.resources)),
            windows: None,
        }),
        image_id: given.image_id.to_string(),
        user: Some(v1::ContainerUser { linux: Some(user(&given.user)) }),
        stop_signal: stop_signal(given.stop_signal),
    }
}

/// A container as a list tells it.
pub(crate) fn container_item(given: &ContainerStatus) -> v1::Container {
    v1::Container {
        id: given.id.to_string(),
        pod_sandbox_id: given.sandbox.to_string(),
        metadata: Some(metadata(&given.config.metadata)),
        image: Some(image_spec(&given.config.image)),
        image_ref: given.image_ref.clone(),
        state: state(&given.state),
        created_at: given.created_at.0,
        labels: given.config.labels.clone(),
        annotations: given.config.annotations.clone(),
        image_id: given.image_id.to_string(),
    }
}

/// What a verbose status tells more, as one JSON text. `spec` has no values of the environment: those are
/// secrets.
pub(crate) fn container_info(
    given: &ContainerStatus,
    sandbox: Option<&SandboxStatus>,
    spec: serde_json::Value,
    lines: Option<LogLines>,
) -> String {
    json!({
        "sandboxID": given.sandbox,
        "pid": given.pid.unwrap_or(0),
        "monitorPid": sandbox.and_then(|sandbox| sandbox.monitor_pid),
        "netns": sandbox.and_then(|sandbox| sandbox.netns.as_ref()),
        "cgroup": given.cgroup,
        "warnings": given.warnings,
        "logLines": lines,
        "timeline": spans(&given.spans),
        "runtimeSpec": spec,
    })
    .to_string()
}

fn user(given: &User) -> v1::LinuxContainerUser {
    v1::LinuxContainerUser {
        uid: i64::from(given.uid),
        gid: i64::from(given.gid),
        supplemental_groups: given.groups.iter().copied().map(i64::from).collect(),
    }
}

fn mount(given: &MountStatus) -> v1::Mount {
    let asked = &given.mount;
    let (host_path, image, image_sub_path) = match &asked.source {
        MountSource::HostPath(path) => (path.display().to_string(), None, String::new()),
        MountSource::Image { image, sub_path } => {
            let mut spec = image_spec(image);
            if let Some(id) = &given.image_id {
                spec.image_ref = id.to_string();
            }
            (String::new(), Some(spec), sub_path.display().to_string())
        }
    };
    let propagation = match asked.propagation {
        Propagation::Private => v1::MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => v1::MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => v1::MountPropagation::PropagationBidirectional,
    };
    v1::Mount {
        container_path: asked.container_path.display().to_string(),
        host_path,
        readonly: asked.access != Access::ReadWrite,
        selinux_relabel: asked.selinux_relabel,
        propagation: propagation.into(),
        uid_mappings: asked.uid_mappings.iter().map(id_mapping).collect(),
        gid_mappings: asked.gid_mappings.iter().map(id_mapping).collect(),
        recursive_read_only: asked.access == Access::RecursiveReadOnly,
        image,
        image_sub_path,
        mount_options: asked.options.clone(),
    }
}

/// The wire counts real-time signals up to the middle, then down from the end, as glibc prints them.
fn stop_signal(given: Signal) -> i32 {
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let name = match given.number() {
        RTMIN => "SIGNAL_SIGRTMIN".to_owned(),
        RTMAX => "SIGNAL_SIGRTMAX".to_owned(),
        low @ 35..=49 => format!("SIGNAL_SIGRTMINPLUS{}", low - RTMIN),
        high @ 50..=63 => format!("SIGNAL_SIGRTMAXMINUS{}", RTMAX - high),
        _ => format!("SIGNAL_{given}"),
    };
    v1::Signal::from_str_name(&name).unwrap_or(v1::Signal::RuntimeDefault).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_linux_has_one_on_the_wire() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(number).unwrap();
            assert_ne!(stop_signal(signal), 0, "{signal}");
        }
        let of = |number| stop_signal(Signal::from_number(number).unwrap());
        assert_eq!(of(15), i32::from(v1::Signal::Sigterm));
        assert_eq!(of(37), i32::from(v1::Signal::Sigrtminplus3));
        assert_eq!(of(63), i32::from(v1::Signal::Sigrtmaxminus1));
    }
}
