//! What is not allowed in a request.

use std::net::IpAddr;

use cri_api::v1::*;
use tonic::Status;

use crate::fault::{Fault, Faults};

fn wrong(why: &str) -> Status {
    Status::invalid_argument(why)
}

pub(crate) fn pod(config: &PodSandboxConfig, faults: &Faults) -> Result<(), Status> {
    let metadata = config.metadata.as_ref().ok_or_else(|| wrong("metadata is missing"))?;
    if metadata.name.is_empty() {
        return Err(wrong("metadata lacks a name"));
    }
    if !config.log_directory.is_empty() && !config.log_directory.starts_with('/') {
        return Err(wrong("log_directory is not absolute"));
    }
    for port in &config.port_mappings {
        let ports = [port.host_port, port.container_port];
        let is_good = ports.iter().all(|port| (0..=65535).contains(port))
            && (port.host_ip.is_empty() || port.host_ip.parse::<IpAddr>().is_ok());
        if !is_good && !faults.has(Fault::PortUnchecked) {
            return Err(wrong("a port mapping is none"));
        }
    }
    let linux = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    linux.and_then(|context| context.namespace_options.as_ref()).map_or(Ok(()), namespaces)
}

fn namespaces(options: &NamespaceOption) -> Result<(), Status> {
    let mode = |number: i32| NamespaceMode::try_from(number).map_err(|_| wrong("a mode is none"));
    if !matches!(mode(options.network)?, NamespaceMode::Pod | NamespaceMode::Node) {
        return Err(wrong("a pod's network is its own or the node's"));
    }
    mode(options.ipc)?;
    if mode(options.pid)? == NamespaceMode::Target {
        return Err(wrong("a pod has no target"));
    }
    let Some(user) = &options.userns_options else { return Ok(()) };
    let lengths = |ranges: &[IdMapping]| ranges.iter().map(|r| r.length).collect::<Vec<_>>();
    let (uids, gids) = (lengths(&user.uids), lengths(&user.gids));
    match mode(user.mode)? {
        NamespaceMode::Node => Ok(()),
        NamespaceMode::Pod if uids.len() == 1 && uids == gids => Ok(()),
        NamespaceMode::Pod | NamespaceMode::Container | NamespaceMode::Target => {
            Err(wrong("a user namespace has one range of users, and one of groups as long"))
        }
    }
}

pub(crate) fn container(config: &ContainerConfig, pod: &PodSandboxConfig) -> Result<(), Status> {
    let metadata = config.metadata.as_ref().ok_or_else(|| wrong("metadata is missing"))?;
    if metadata.name.is_empty() {
        return Err(wrong("metadata lacks a name"));
    }
    if config.image.as_ref().is_none_or(|image| image.image.is_empty()) {
        return Err(wrong("image is missing"));
    }
    if config.envs.iter().any(|variable| variable.key.is_empty()) {
        return Err(wrong("a variable has no name"));
    }
    for mount in &config.mounts {
        if !mount.container_path.starts_with('/') {
            return Err(wrong("a mount's path is not absolute"));
        }
        if mount.recursive_read_only && !mount.readonly {
            return Err(wrong("a recursive read-only mount is not read-only"));
        }
    }
    let linux = config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    linux.map_or(Ok(()), |context| security(context, pod))
}

fn security(context: &LinuxContainerSecurityContext, pod: &PodSandboxConfig) -> Result<(), Status> {
    let has_user = context.run_as_user.is_some() || !context.run_as_username.is_empty();
    if context.run_as_group.is_some() && !has_user {
        return Err(wrong("run_as_group without a user"));
    }
    if context.run_as_user.is_some_and(|user| user.value < 0) {
        return Err(wrong("run_as_user is negative"));
    }
    let of_pod = pod.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    if context.privileged && !of_pod.is_some_and(|of_pod| of_pod.privileged) {
        return Err(wrong("a privileged container in a pod that is not"));
    }
    let mut added = context.capabilities.iter().flat_map(|all| &all.add_capabilities);
    if added.any(|name| name.starts_with("NO_SUCH")) {
        return Err(wrong("a capability does not exist"));
    }
    Ok(())
}

pub(crate) fn streams(tty: bool, stdin: bool, stdout: bool, stderr: bool) -> Result<(), Status> {
    if tty && stderr {
        return Err(wrong("a terminal has one output: tty and stderr exclude each other"));
    }
    if !(stdin || stdout || stderr) {
        return Err(wrong("one of stdin, stdout and stderr must be asked for"));
    }
    Ok(())
}
