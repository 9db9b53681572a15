//! Pods and containers as a kubelet would ask for them.

use cri_api::v1::*;

use crate::context::{Context, Pod, spec};
use crate::scope::LABEL;

/// A program that waits, ends with `code` when it is asked to, and says so before.
pub(crate) fn waits_and_ends_with(code: i32) -> String {
    format!("trap 'exit {code}' TERM; echo ready; while :; do sleep 1000 & wait $!; done")
}

impl Context {
    /// A pod in the host's network, its logs in the suite's directory.
    pub(crate) fn pod_config(&self) -> PodSandboxConfig {
        let number = self.number();
        let name = self.case.replace('/', "-");
        let logs = self.shared.directory.path().join(&self.mark).join(format!("logs-{number}"));
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                uid: format!("{}-{number}", self.mark),
                name,
                namespace: "check".to_owned(),
                attempt: 0,
            }),
            log_directory: logs.to_string_lossy().into_owned(),
            labels: [(LABEL.to_owned(), self.mark.clone())].into(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: self.shared.options.cgroup_parent.clone(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(namespaces(NamespaceMode::Node)),
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The same with a network of its own.
    pub(crate) fn networked_config(&self) -> PodSandboxConfig {
        let mut config = self.pod_config();
        config.hostname = "the-pod".to_owned();
        *options(&mut config) = namespaces(NamespaceMode::Pod);
        config
    }

    /// The pods of this case.
    pub(crate) fn own_pods(&self) -> PodSandboxFilter {
        let label_selector = [(LABEL.to_owned(), self.mark.clone())].into();
        PodSandboxFilter { label_selector, ..Default::default() }
    }

    /// A container of the suite's image that runs this command; its namespaces are to be set to its
    /// pod's with [`Pod::fit`] where that is not in the host's network.
    pub(crate) fn container(&self, command: &[&str]) -> ContainerConfig {
        let name = format!("c{}", self.number());
        ContainerConfig {
            log_path: format!("{name}.log"),
            metadata: Some(ContainerMetadata { name, attempt: 0 }),
            image: Some(spec(self.image())),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            linux: Some(LinuxContainerConfig {
                resources: Some(LinuxContainerResources::default()),
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(namespaces(NamespaceMode::Node)),
                    seccomp: Some(SecurityProfile::default()),
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    /// A container that runs a shell script.
    pub(crate) fn script(&self, script: &str) -> ContainerConfig {
        self.container(&["sh", "-c", script])
    }

    /// A container that waits, and ends well as soon as it is asked to.
    pub(crate) fn waiter(&self) -> ContainerConfig {
        self.script(&waits_and_ends_with(0))
    }
}

impl Pod {
    /// A container with this pod's namespaces.
    pub(crate) fn fit(&self, mut container: ContainerConfig) -> ContainerConfig {
        let linux = self.config.linux.as_ref();
        let context = linux.and_then(|linux| linux.security_context.as_ref());
        let options = context.and_then(|context| context.namespace_options.clone());
        security(&mut container).namespace_options = options;
        container
    }
}

/// The namespace options of a pod.
pub(crate) fn options(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    let linux = config.linux.get_or_insert_default();
    linux.security_context.get_or_insert_default().namespace_options.get_or_insert_default()
}

/// The security context of a container.
pub(crate) fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The resources of a container.
pub(crate) fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

/// A variable of the environment.
pub(crate) fn variable(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.to_owned().into() }
}

fn namespaces(network: NamespaceMode) -> NamespaceOption {
    NamespaceOption {
        network: network.into(),
        pid: NamespaceMode::Container.into(),
        ipc: NamespaceMode::Pod.into(),
        ..Default::default()
    }
}
