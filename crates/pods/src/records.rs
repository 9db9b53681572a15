//! What is remembered of sandboxes and containers, over an end of the daemon.
//!
//! Always: an intention stands in a record before the kernel is touched, the result after. Environment
//! values are in a container's record and in no `Debug` of it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{
    ContainerConfig, ContainerId, Digest, Resources, SandboxConfig, SandboxId, SandboxState,
    Signal, Span, State, Timestamp, User,
};
use monitor_client::Identity;
use serde::{Deserialize, Serialize};

use crate::cgroup::PodCgroup;
use crate::status::{ContainerStatus, Kept, MountStatus, SandboxStatus};

/// How far a sandbox has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SandboxStage {
    /// It is being made; whatever is there of it is to be undone.
    Making,
    /// It is ready.
    Ready,
    /// It was stopped, or has lost its monitor.
    Stopped,
    /// It is being removed.
    Removing,
}

/// What a sandbox has of the networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PodNetwork {
    /// The host's, and nothing of its own.
    Host,
    /// A namespace that is about to be made, or is there, at this path; and perhaps more.
    Intended {
        /// The namespace.
        netns: PathBuf,
    },
    /// All that it should have.
    Attached {
        /// The namespace.
        netns: PathBuf,
        /// Addresses, the primary one first.
        ips: Vec<IpAddr>,
        /// What the networks said, for giving it back.
        result: serde_json::Value,
    },
    /// It had one, and has given it back.
    Released,
}

impl PodNetwork {
    pub(crate) fn netns(&self) -> Option<&Path> {
        match self {
            Self::Intended { netns } | Self::Attached { netns, .. } => Some(netns),
            Self::Host | Self::Released => None,
        }
    }

    pub(crate) fn result(&self) -> Option<&serde_json::Value> {
        match self {
            Self::Attached { result, .. } => Some(result),
            Self::Host | Self::Intended { .. } | Self::Released => None,
        }
    }
}

/// A sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: SandboxId,
    #[serde(with = "shared")]
    pub(crate) config: Arc<SandboxConfig>,
    pub(crate) created_at: Timestamp,
    /// Who asked for it, for people, in at most 64 bytes; earlier versions did not write it.
    #[serde(default)]
    pub(crate) asked_by: String,
    pub(crate) stage: SandboxStage,
    pub(crate) network: PodNetwork,
    pub(crate) cgroup: PodCgroup,
    /// Limits of the pod, updates included.
    pub(crate) resources: Resources,
    /// Its monitor; `None` before it has one, and after it is known to be gone.
    pub(crate) monitor: Option<Identity>,
    #[serde(default)]
    pub(crate) spans: Vec<Span>,
}

impl store::Record for SandboxRecord {
    const KIND: &'static str = "sandbox";
    const VERSION: u32 = 1;
}

impl SandboxRecord {
    pub(crate) fn state(&self) -> SandboxState {
        match self.stage {
            SandboxStage::Ready => SandboxState::Ready,
            SandboxStage::Making | SandboxStage::Stopped | SandboxStage::Removing => {
                SandboxState::NotReady
            }
        }
    }

    pub(crate) fn status(&self) -> SandboxStatus {
        let ips = match &self.network {
            PodNetwork::Attached { ips, .. } => ips.clone(),
            PodNetwork::Host | PodNetwork::Intended { .. } | PodNetwork::Released => Vec::new(),
        };
        SandboxStatus {
            id: self.id.clone(),
            config: Arc::clone(&self.config),
            state: self.state(),
            created_at: self.created_at,
            asked_by: self.asked_by.clone(),
            ips,
            monitor_pid: self.monitor.map(|m| m.pid),
            netns: self.network.netns().map(Path::to_owned),
            cgroup: Some(self.cgroup.path.as_str().to_owned()),
            spans: self.spans.clone(),
            listed: Kept::default(),
        }
    }
}

/// How far a container has come, beside its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ContainerStage {
    /// It is being made; whatever is there of it is to be undone.
    Making,
    /// It is there, in whatever state.
    Made,
    /// It is being removed.
    Removing,
}

/// A container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerRecord {
    pub(crate) id: ContainerId,
    pub(crate) sandbox: SandboxId,
    #[serde(with = "shared")]
    pub(crate) config: Arc<ContainerConfig>,
    pub(crate) created_at: Timestamp,
    /// Who asked for it, for people, in at most 64 bytes; earlier versions did not write it.
    #[serde(default)]
    pub(crate) asked_by: String,
    pub(crate) stage: ContainerStage,
    pub(crate) state: State,
    pub(crate) image_id: Digest,
    pub(crate) image_ref: String,
    pub(crate) user: User,
    pub(crate) mounts: Vec<MountStatus>,
    pub(crate) log_path: Option<PathBuf>,
    pub(crate) pid: Option<i32>,
    /// Limits, updates included.
    pub(crate) resources: Resources,
    pub(crate) stop_signal: Signal,
    pub(crate) cgroup: cgroups::CgroupPath,
    #[serde(default)]
    pub(crate) spans: Vec<Span>,
    #[serde(default)]
    pub(crate) warnings: Vec<String>,
}

impl store::Record for ContainerRecord {
    const KIND: &'static str = "container";
    const VERSION: u32 = 1;
}

impl ContainerRecord {
    pub(crate) fn is_over(&self) -> bool {
        match self.state {
            State::Exited { .. } => true,
            State::Created | State::Running { .. } => false,
        }
    }

    pub(crate) fn status(&self) -> ContainerStatus {
        ContainerStatus {
            id: self.id.clone(),
            sandbox: self.sandbox.clone(),
            config: Arc::clone(&self.config),
            image_id: self.image_id.clone(),
            image_ref: self.image_ref.clone(),
            state: self.state.clone(),
            created_at: self.created_at,
            asked_by: self.asked_by.clone(),
            user: self.user.clone(),
            mounts: self.mounts.clone(),
            log_path: self.log_path.clone(),
            pid: if self.is_over() { None } else { self.pid },
            resources: self.resources.clone(),
            stop_signal: self.stop_signal,
            cgroup: self.cgroup.as_str().to_owned(),
            spans: self.spans.clone(),
            warnings: self.warnings.clone(),
            listed: Kept::default(),
        }
    }
}

/// A value that is shared in memory and written as itself.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use model::{
        ContainerMetadata, ContainerSecurity, EnvVar, GroupsPolicy, HandlerName, ImageSpec,
        Namespaces, Profile, RunAs, SandboxMetadata, Secret, Stdio,
    };
    use store::{Durability, Key, Store};

    use super::*;

    pub(crate) fn sandbox_config(name: &str, attempt: u32) -> SandboxConfig {
        SandboxConfig {
            metadata: SandboxMetadata {
                name: name.to_owned(),
                uid: format!("uid-{name}"),
                namespace: "default".to_owned(),
                attempt,
            },
            handler: HandlerName::default(),
            hostname: name.to_owned(),
            log_directory: None,
            dns: None,
            port_mappings: Vec::new(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            annotations: Default::default(),
            cgroup_parent: None,
            namespaces: Namespaces::default(),
            privileged: false,
            selinux: None,
            run_as: RunAs::default(),
            readonly_rootfs: false,
            supplemental_groups: Vec::new(),
            groups_policy: GroupsPolicy::default(),
            seccomp: Profile::default(),
            apparmor: Profile::default(),
            sysctls: Default::default(),
            overhead: Resources::default(),
            resources: Resources::default(),
        }
    }

    pub(crate) fn container_config(name: &str, attempt: u32) -> ContainerConfig {
        ContainerConfig {
            metadata: ContainerMetadata { name: name.to_owned(), attempt },
            image: ImageSpec { image: "busybox".to_owned(), ..ImageSpec::default() },
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            envs: vec![EnvVar {
                name: "PASSWORD".to_owned(),
                value: Secret::new("hunter2".to_owned()),
            }],
            mounts: Vec::new(),
            devices: Vec::new(),
            cdi_devices: Vec::new(),
            labels: [("name".to_owned(), name.to_owned())].into(),
            annotations: Default::default(),
            log_path: None,
            stdio: Stdio::default(),
            stop_signal: None,
            resources: Resources::default(),
            security: ContainerSecurity::default(),
        }
    }

    pub(crate) fn sandbox_record(n: u8, stage: SandboxStage) -> SandboxRecord {
        let id = SandboxId::from_random([n; 32]);
        SandboxRecord {
            config: Arc::new(sandbox_config(&format!("pod{n}"), 0)),
            created_at: Timestamp(i64::from(n)),
            asked_by: "kubelet (pid 812, uid 0)".to_owned(),
            stage,
            network: PodNetwork::Host,
            cgroup: crate::cgroup::plan(cgroups::Driver::Cgroupfs, None, "/isopod", &id).unwrap(),
            resources: Resources::default(),
            monitor: None,
            spans: Vec::new(),
            id,
        }
    }

    pub(crate) fn container_record(n: u8, sandbox: &SandboxId, state: State) -> ContainerRecord {
        ContainerRecord {
            id: ContainerId::from_random([n; 32]),
            sandbox: sandbox.clone(),
            config: Arc::new(container_config(&format!("c{n}"), 0)),
            created_at: Timestamp(i64::from(n)),
            asked_by: "kubelet (pid 812, uid 0)".to_owned(),
            stage: ContainerStage::Made,
            state,
            image_id: Digest::from_bytes(model::Algorithm::Sha256, &[1; 32]),
            image_ref: "busybox@sha256:1".to_owned(),
            user: User::default(),
            mounts: Vec::new(),
            log_path: None,
            pid: Some(7),
            resources: Resources::default(),
            stop_signal: Signal::TERM,
            cgroup: cgroups::CgroupPath::parse("/isopod/x/c").unwrap(),
            spans: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_is_remembered_is_read_again_with_its_secrets_and_no_debug_shows_them() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("r"), Durability::Boot).unwrap();
        let sandbox = sandbox_record(1, SandboxStage::Ready);
        let exit = model::Exit {
            code: 3,
            finished_at: Timestamp(9),
            reason: model::ExitReason::Error,
            message: String::new(),
        };
        for state in [
            State::Created,
            State::Running { started_at: Timestamp(5) },
            State::Exited { started_at: Timestamp(5), exit },
        ] {
            let container = container_record(2, &sandbox.id, state);
            let key = Key::parse(container.id.as_str()).unwrap();
            store.put(&key, &container).unwrap();
            let read: ContainerRecord = store.get(&key).unwrap().unwrap();
            assert_eq!(read.state, container.state);
            assert_eq!(read.config, container.config);
            assert!(!format!("{container:?}").contains("hunter2"));
            assert!(!format!("{:?}", container.status()).contains("hunter2"));
        }
    }

    #[test]
    fn who_asked_is_remembered_and_a_record_without_it_is_read() {
        let sandbox = sandbox_record(1, SandboxStage::Ready);
        let container = container_record(2, &sandbox.id, State::Created);
        let mut records =
            [serde_json::to_value(&sandbox).unwrap(), serde_json::to_value(&container).unwrap()];
        for record in &mut records {
            let removed = record.as_object_mut().unwrap().remove("asked_by");
            assert_eq!(removed.unwrap(), "kubelet (pid 812, uid 0)");
        }
        let [sandbox, container] = records;
        let sandbox: SandboxRecord = serde_json::from_value(sandbox).unwrap();
        let container: ContainerRecord = serde_json::from_value(container).unwrap();
        assert_eq!((sandbox.status().asked_by, container.status().asked_by), Default::default());
    }

    #[test]
    fn a_sandbox_is_ready_only_when_all_of_it_is_there() {
        for (stage, state) in [
            (SandboxStage::Making, SandboxState::NotReady),
            (SandboxStage::Ready, SandboxState::Ready),
            (SandboxStage::Stopped, SandboxState::NotReady),
            (SandboxStage::Removing, SandboxState::NotReady),
        ] {
            assert_eq!(sandbox_record(1, stage).status().state, state);
        }
    }
}
