//! `NamespaceOption`.

use cri_api::v1;
use cri_api::v1::NamespaceMode as Mode;
use model::{IdMapping, IpcMode, Namespaces, NetworkMode, PidMode, UserNamespace};

pub(super) fn namespace_option(namespaces: &Namespaces) -> v1::NamespaceOption {
    let network = match namespaces.network {
        NetworkMode::Pod => Mode::Pod,
        NetworkMode::Node => Mode::Node,
    };
    let (pid, target_id) = match &namespaces.pid {
        PidMode::Pod => (Mode::Pod, String::new()),
        PidMode::Container => (Mode::Container, String::new()),
        PidMode::Node => (Mode::Node, String::new()),
        PidMode::Target(id) => (Mode::Target, id.to_string()),
    };
    let ipc = match namespaces.ipc {
        IpcMode::Pod => Mode::Pod,
        IpcMode::Container => Mode::Container,
        IpcMode::Node => Mode::Node,
    };
    let userns_options = match &namespaces.user {
        UserNamespace::Node => None,
        UserNamespace::Pod { uids, gids } => Some(v1::UserNamespace {
            mode: Mode::Pod.into(),
            uids: vec![id_mapping(uids)],
            gids: vec![id_mapping(gids)],
        }),
    };
    v1::NamespaceOption {
        network: network.into(),
        pid: pid.into(),
        ipc: ipc.into(),
        target_id,
        userns_options,
    }
}

pub(super) fn id_mapping(mapping: &IdMapping) -> v1::IdMapping {
    v1::IdMapping {
        host_id: mapping.host_id,
        container_id: mapping.container_id,
        length: mapping.length,
    }
}
