//! Namespaces that a container has to itself. What the pod shares, the container inherits from its monitor.

use std::collections::BTreeMap;

use model::{IpcMode, PidMode};
use runtime_spec::{Namespace, NamespaceKind};

use crate::inputs::Inputs;

/// Kernel parameters that belong to an IPC namespace (ipc_namespaces(7)).
const OF_IPC: [&str; 10] = [
    "kernel.auto_msgmni",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
    "kernel.sem_next_id",
];

pub(crate) fn namespaces(inputs: &Inputs<'_>) -> Vec<Namespace> {
    let security = &inputs.container.security;
    let mut kinds = vec![NamespaceKind::Mount];
    match security.namespaces.pid {
        PidMode::Container => kinds.push(NamespaceKind::Pid),
        PidMode::Pod | PidMode::Node | PidMode::Target(_) => {}
    }
    if has_own_ipc(inputs) {
        kinds.push(NamespaceKind::Ipc);
    }
    // A privileged container is to see the host's cgroups.
    if !security.privileged {
        kinds.push(NamespaceKind::Cgroup);
    }
    kinds.into_iter().map(|kind| Namespace { kind, path: None }).collect()
}

pub(crate) fn has_own_ipc(inputs: &Inputs<'_>) -> bool {
    match inputs.container.security.namespaces.ipc {
        IpcMode::Container => true,
        IpcMode::Pod | IpcMode::Node => false,
    }
}

/// The monitor sets the pod's kernel parameters in the pod's namespaces; those of a namespace that the
/// container has to itself are set again there.
pub(crate) fn sysctls(inputs: &Inputs<'_>) -> BTreeMap<String, String> {
    let belongs = |name: &str| OF_IPC.contains(&name) || name.starts_with("fs.mqueue.");
    let all = inputs.sandbox.sysctls.iter().filter(|_| has_own_ipc(inputs));
    all.filter(|(name, _)| belongs(&name.replace('/', ".")))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::Sample;
    use NamespaceKind::{Cgroup, Ipc, Mount, Pid};

    #[test]
    fn only_what_is_the_containers_own_is_made() {
        for (pid, ipc, privileged, expected) in [
            (PidMode::Container, IpcMode::Pod, false, &[Mount, Pid, Cgroup][..]),
            (PidMode::Pod, IpcMode::Pod, false, &[Mount, Cgroup]),
            (PidMode::Node, IpcMode::Node, true, &[Mount]),
            (PidMode::Container, IpcMode::Container, true, &[Mount, Pid, Ipc]),
        ] {
            let mut sample = Sample::new();
            sample.container.security.namespaces.pid = pid;
            sample.container.security.namespaces.ipc = ipc;
            sample.container.security.privileged = privileged;
            let made = namespaces(&sample.inputs());
            assert_eq!(made.iter().map(|n| n.kind).collect::<Vec<_>>(), expected);
            assert!(made.iter().all(|n| n.path.is_none()));
        }
    }

    #[test]
    fn an_ipc_namespace_of_its_own_gets_the_pods_parameters_of_that_kind() {
        let mut sample = Sample::new();
        for name in ["kernel.shmmax", "fs.mqueue.msg_max", "net.ipv4.ip_forward"] {
            sample.sandbox.sysctls.insert(name.to_owned(), "1".to_owned());
        }
        assert!(sysctls(&sample.inputs()).is_empty());
        sample.container.security.namespaces.ipc = IpcMode::Container;
        let set = sysctls(&sample.inputs());
        assert_eq!(set.keys().collect::<Vec<_>>(), ["fs.mqueue.msg_max", "kernel.shmmax"]);
    }
}
