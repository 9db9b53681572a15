//! What a monitor is told about its pod, and what of a request contradicts itself. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{IpcMode, NetworkMode, PidMode, SandboxConfig, SandboxId, UserNamespace};
use monitor_client::api::{Setup, Users};

use crate::annotations::{self, Whose};
use crate::config::{Handler, PodsConfig};

/// Kernel parameters of an IPC namespace (ipc_namespaces(7)), beside those of fs.mqueue.
const OF_IPC: [&str; 4] = ["kernel.msg", "kernel.sem", "kernel.shm", "fs.mqueue."];

/// Why a sandbox cannot be as it was asked for.
pub(super) fn contradiction(config: &SandboxConfig, handler: Option<&Handler>) -> Option<String> {
    let Some(handler) = handler else {
        return Some(format!("there is no runtime handler {}", config.handler));
    };
    let has_users = match config.namespaces.user {
        UserNamespace::Pod { .. } => true,
        UserNamespace::Node => false,
    };
    if has_users && !handler.user_namespaces {
        return Some(format!("the runtime handler {} has no user namespaces", config.handler));
    }
    if let PidMode::Target(_) = config.namespaces.pid {
        return Some("a sandbox cannot have the process ids of a container".to_owned());
    }
    if config.hostname.len() > 64 {
        return Some("the host name has more than 64 bytes".to_owned());
    }
    if let Some(problem) =
        annotations::unknown(&config.annotations, Whose::Pod, &handler.annotations)
    {
        return Some(problem);
    }
    let foreign = config.sysctls.keys().find(|name| !is_namespaced(config, name))?;
    let why = if foreign.starts_with("net.") || foreign.starts_with("net/") {
        "parameters of the network are the host's in a pod on the host's network"
    } else if is_ipc(foreign) {
        "parameters of IPC are the host's in a pod with the host's IPC"
    } else if is_uts(foreign) {
        "names are the host's in a pod on the host's network"
    } else {
        "it belongs to no namespace that a pod has, so it would be the host's"
    };
    Some(format!("linux.sysctls: the kernel parameter {foreign} cannot be set: {why}"))
}

fn is_uts(name: &str) -> bool {
    matches!(name.replace('/', ".").as_str(), "kernel.domainname" | "kernel.hostname")
}

fn is_ipc(name: &str) -> bool {
    let dotted = name.replace('/', ".");
    OF_IPC.iter().any(|prefix| dotted.starts_with(prefix))
}

/// Whether setting `name` touches this pod alone.
fn is_namespaced(config: &SandboxConfig, name: &str) -> bool {
    let dotted = name.replace('/', ".");
    if dotted.starts_with("net.") {
        return config.namespaces.network == NetworkMode::Pod;
    }
    if is_ipc(name) {
        return config.namespaces.ipc != IpcMode::Node;
    }
    is_uts(name) && config.namespaces.network == NetworkMode::Pod
}

/// The pod's host name; the host's own where the request has none.
pub(super) fn hostname<'a>(config: &'a SandboxConfig, hosts: &'a str) -> &'a str {
    let has_own = config.namespaces.network == NetworkMode::Pod && !config.hostname.is_empty();
    if has_own { &config.hostname } else { hosts }
}

/// What the monitor is told.
pub(super) fn setup(
    id: &SandboxId,
    config: &SandboxConfig,
    node: &PodsConfig,
    directory: PathBuf,
    hosts_name: &str,
) -> Setup {
    let own_network = config.namespaces.network == NetworkMode::Pod;
    let own_ipc = config.namespaces.ipc == IpcMode::Pod;
    Setup {
        sandbox: id.clone(),
        own_network,
        // On the host's network the host's name is the truth.
        hostname: own_network.then(|| hostname(config, hosts_name).to_owned()),
        own_ipc,
        shared_pid: config.namespaces.pid == PidMode::Pod,
        sysctls: sysctls(config, &node.sysctls, own_ipc),
        directory,
        shm_size: node.shm_size,
        users: match config.namespaces.user {
            UserNamespace::Node => None,
            UserNamespace::Pod { uids, gids } => Some(Users { uids: vec![uids], gids: vec![gids] }),
        },
    }
}

/// The node's as far as they are this pod's own, under the request's. Those of IPC namespaces that the
/// containers have to themselves are set there.
fn sysctls(
    config: &SandboxConfig,
    of_node: &BTreeMap<String, String>,
    own_ipc: bool,
) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = of_node
        .iter()
        .filter(|(name, _)| is_namespaced(config, name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    all.extend(config.sysctls.clone());
    all.retain(|name, _| own_ipc || !is_ipc(name));
    all
}

#[cfg(test)]
mod tests {
    use model::{HandlerName, IdMapping};

    use super::*;
    use crate::records::tests::sandbox_config;

    fn made(config: &SandboxConfig) -> Setup {
        let id = SandboxId::from_random([1; 32]);
        let mut node = PodsConfig::new("/run/x".into(), cgroups::Driver::Cgroupfs);
        node.sysctls.insert("net.ipv4.ip_unprivileged_port_start".into(), "0".into());
        setup(&id, config, &node, "/run/x/p".into(), "node")
    }

    #[test]
    fn a_pod_on_the_hosts_network_has_the_hosts_name_and_none_of_the_networks_parameters() {
        let mut config = sandbox_config("web", 0);
        let pod = made(&config);
        assert_eq!((pod.hostname.as_deref(), pod.own_network), (Some("web"), true));
        assert_eq!(pod.sysctls.len(), 1);
        config.hostname.clear();
        assert_eq!(made(&config).hostname.as_deref(), Some("node"));
        config.namespaces.network = NetworkMode::Node;
        let pod = made(&config);
        assert_eq!((pod.hostname, pod.own_network), (None, false));
        assert!(pod.sysctls.is_empty());
    }

    #[test]
    fn the_requests_kernel_parameters_win_and_those_of_containers_own_ipc_are_left_to_them() {
        let mut config = sandbox_config("web", 0);
        config.sysctls = [
            ("net.ipv4.ip_unprivileged_port_start".to_owned(), "80".to_owned()),
            ("kernel.shmmax".to_owned(), "5".to_owned()),
        ]
        .into();
        let pod = made(&config);
        assert_eq!(pod.sysctls["net.ipv4.ip_unprivileged_port_start"], "80");
        assert_eq!(pod.sysctls["kernel.shmmax"], "5");
        config.namespaces.ipc = IpcMode::Container;
        assert!(!made(&config).sysctls.contains_key("kernel.shmmax"));
    }

    #[test]
    fn what_would_change_the_host_or_cannot_be_had_is_refused() {
        let handler = Handler::default();
        let plain = sandbox_config("web", 0);
        assert_eq!(contradiction(&plain, Some(&handler)), None);
        assert!(contradiction(&plain, None).unwrap().contains("default"));
        let change = |f: &dyn Fn(&mut SandboxConfig)| {
            let mut config = plain.clone();
            f(&mut config);
            contradiction(&config, Some(&handler)).is_some()
        };
        let sysctl = |c: &mut SandboxConfig, name: &str| {
            c.sysctls.insert(name.to_owned(), "1".to_owned());
        };
        assert!(change(&|c| sysctl(c, "vm.swappiness")));
        assert!(!change(&|c| sysctl(c, "net/ipv4/ip_forward")));
        assert!(change(&|c| {
            sysctl(c, "net.ipv4.ip_forward");
            c.namespaces.network = NetworkMode::Node;
        }));
        assert!(change(&|c| {
            sysctl(c, "kernel.shm_rmid_forced");
            c.namespaces.ipc = IpcMode::Node;
        }));
        assert!(change(&|c| c.hostname = "x".repeat(65)));
        let told = |name: &str| {
            let mut config = plain.clone();
            config.namespaces.network = NetworkMode::Node;
            sysctl(&mut config, name);
            contradiction(&config, Some(&handler)).unwrap()
        };
        assert!(told("net.foo.bar").ends_with("in a pod on the host's network"));
        assert!(told("vm.swappiness").contains("belongs to no namespace"));
        assert!(change(&|c| drop(c.annotations.insert("isopod.dev/foo".into(), "1".into()))));
        let mapping = IdMapping { container_id: 0, host_id: 100_000, length: 65_536 };
        let mut config = plain.clone();
        config.namespaces.user = UserNamespace::Pod { uids: mapping, gids: mapping };
        config.handler = HandlerName::parse("runc").unwrap();
        let without = Handler { user_namespaces: false, ..Handler::default() };
        assert!(contradiction(&config, Some(&without)).unwrap().contains("runc"));
    }
}
