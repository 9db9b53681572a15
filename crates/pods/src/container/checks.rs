//! What of a container's request contradicts itself or its pod. Pure.

use std::path::{Component, Path, PathBuf};

use model::{ContainerConfig, IpcMode, PidMode, SandboxConfig, UserNamespace};

/// A container's network and users are its sandbox's, and so are its IPC objects unless it has its own: callers
/// that are no kubelet leave these fields at their defaults.
pub(super) fn adopt(container: &mut ContainerConfig, sandbox: &SandboxConfig) {
    let namespaces = &mut container.security.namespaces;
    namespaces.network = sandbox.namespaces.network;
    if namespaces.ipc == IpcMode::Pod {
        namespaces.ipc = sandbox.namespaces.ipc;
    }
    if namespaces.user == UserNamespace::Node {
        namespaces.user = sandbox.namespaces.user;
    }
}

/// Why a container cannot be as it was asked for.
pub(super) fn contradiction(
    container: &ContainerConfig,
    sandbox: &SandboxConfig,
) -> Option<String> {
    let security = &container.security;
    if security.privileged && !sandbox.privileged {
        return Some("a privileged container needs a privileged sandbox".to_owned());
    }
    let shares = security.namespaces.pid == PidMode::Pod;
    if shares && sandbox.namespaces.pid != PidMode::Pod {
        return Some("the sandbox has no process ids to share".to_owned());
    }
    if security.namespaces.ipc == IpcMode::Node && sandbox.namespaces.ipc != IpcMode::Node {
        return Some("the sandbox is not in the host's IPC namespace".to_owned());
    }
    if security.namespaces.user != sandbox.namespaces.user {
        return Some("its user namespace is not the sandbox's".to_owned());
    }
    if let Some(path) = &container.log_path
        && !is_below(path)
    {
        return Some(format!("the log path {} leaves the log directory", path.display()));
    }
    None
}

fn is_below(path: &Path) -> bool {
    path.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir))
        && path.file_name().is_some()
}

/// A container's log file; there is none without a directory and a path.
pub(super) fn log_file(container: &ContainerConfig, sandbox: &SandboxConfig) -> Option<PathBuf> {
    Some(sandbox.log_directory.as_ref()?.join(container.log_path.as_ref()?))
}

#[cfg(test)]
mod tests {
    use model::{IdMapping, NetworkMode};

    use super::*;
    use crate::records::tests::{container_config, sandbox_config};

    #[test]
    fn a_container_cannot_be_more_than_its_sandbox_is() {
        let sandbox = sandbox_config("p", 0);
        let plain = container_config("c", 0);
        assert_eq!(contradiction(&plain, &sandbox), None);
        for change in [
            (|c| c.security.privileged = true) as fn(&mut ContainerConfig),
            |c| c.security.namespaces.pid = PidMode::Pod,
            |c| c.security.namespaces.ipc = IpcMode::Node,
            |c| {
                let one = IdMapping { container_id: 0, host_id: 70_000, length: 9 };
                c.security.namespaces.user = UserNamespace::Pod { uids: one, gids: one };
            },
            |c| c.log_path = Some("../x".into()),
            |c| c.log_path = Some("/x".into()),
            |c| c.log_path = Some("".into()),
        ] {
            let mut config = plain.clone();
            change(&mut config);
            assert!(contradiction(&config, &sandbox).is_some(), "{config:?}");
        }
        let mut config = plain;
        config.security.namespaces.network = NetworkMode::Node;
        adopt(&mut config, &sandbox);
        assert_eq!(config.security.namespaces.network, NetworkMode::Pod);
        assert_eq!(contradiction(&config, &sandbox), None, "the network is the sandbox's");
        config.log_path = Some("c/0.log".into());
        assert_eq!(contradiction(&config, &sandbox), None);
        assert_eq!(log_file(&config, &sandbox), None);
        let logs = SandboxConfig { log_directory: Some("/var/log/p".into()), ..sandbox };
        assert_eq!(log_file(&config, &logs), Some("/var/log/p/c/0.log".into()));
    }
}
