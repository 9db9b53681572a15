//! What of a container's request contradicts itself or its pod. Pure.

use std::path::{Component, Path, PathBuf};

use model::{ContainerConfig, PidMode, SandboxConfig};

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
    // Its network is the sandbox's whatever it says: there is one for all, and callers that are no kubelet
    // leave the field at its default.
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
    use model::NetworkMode;

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
        assert_eq!(contradiction(&config, &sandbox), None, "the network is the sandbox's");
        config.log_path = Some("c/0.log".into());
        assert_eq!(contradiction(&config, &sandbox), None);
        assert_eq!(log_file(&config, &sandbox), None);
        let logs = SandboxConfig { log_directory: Some("/var/log/p".into()), ..sandbox };
        assert_eq!(log_file(&config, &logs), Some("/var/log/p/c/0.log".into()));
    }
}
