//! Sandboxes that cannot be, and calls that name none.

use cri_api::v1::*;
use tonic::{Code, Status};

use super::sandbox::NOBODY;
use crate::case::{Verdict, cases, ensure};
use crate::context::{Context, refused};
use crate::shape::options;

cases! { "sandbox-errors":
    "no-config" Api Codes ["RunPodSandbox", "RunPodSandboxRequest.config"]
        "A request without a configuration is InvalidArgument." => no_config();
    "no-metadata" Api Codes ["RunPodSandbox", "PodSandboxConfig.metadata"]
        "A pod without metadata is InvalidArgument." => bad(Bad::NoMetadata);
    "no-name" Api Codes ["RunPodSandbox", "PodSandboxMetadata.name"]
        "A pod without a name is InvalidArgument." => bad(Bad::NoName);
    "network-mode" Api Codes ["RunPodSandbox", "NamespaceOption.network"]
        "A network mode that does not exist is InvalidArgument." => bad(Bad::NetworkMode);
    "network-of-a-container" Api Codes ["RunPodSandbox", "NamespaceOption.network"]
        "The network cannot be a container's own." => bad(Bad::NetworkOfContainer);
    "pid-mode" Api Codes ["RunPodSandbox", "NamespaceOption.pid"]
        "A PID mode that does not exist is InvalidArgument." => bad(Bad::PidMode);
    "target-for-a-pod" Api Codes ["RunPodSandbox", "NamespaceOption.target_id"]
        "A pod cannot join a container's PID namespace." => bad(Bad::PidTarget);
    "host-port" Api Codes ["RunPodSandbox", "PortMapping.host_port"]
        "A host port above 65535 is InvalidArgument." => bad(Bad::HostPort);
    "container-port" Api Codes ["RunPodSandbox", "PortMapping.container_port"]
        "A port of the pod above 65535 is InvalidArgument." => bad(Bad::ContainerPort);
    "host-address" Api Codes ["RunPodSandbox", "PortMapping.host_ip"]
        "A host address that is none is InvalidArgument." => bad(Bad::HostAddress);
    "userns-two-ranges" Api Codes ["RunPodSandbox", "UserNamespace.uids", "IDMapping.length"]
        "A user namespace with two ranges is InvalidArgument." => bad(Bad::TwoRanges);
    "userns-unequal" Api Codes ["RunPodSandbox", "UserNamespace.gids", "IDMapping.length"]
        "Ranges of users and groups of different lengths are InvalidArgument." => bad(Bad::Unequal);
    "userns-mode" Api Codes ["RunPodSandbox", "UserNamespace.mode"]
        "A user namespace in mode CONTAINER is InvalidArgument." => bad(Bad::UserMode);
    "relative-log-directory" Api Codes ["RunPodSandbox", "PodSandboxConfig.log_directory"]
        "A relative log directory is InvalidArgument." => bad(Bad::RelativeLogs);
    "long-hostname" Linux Codes ["RunPodSandbox", "PodSandboxConfig.hostname"]
        "A host name of more bytes than the kernel takes is an error." => long_hostname();
    "unknown-sysctl" Linux Codes ["RunPodSandbox", "LinuxPodSandboxConfig.sysctls"]
        needs [PodNetwork]
        "A sysctl that the kernel does not have is an error." => unknown_sysctl();
    "node-sysctl" Linux Api ["RunPodSandbox", "LinuxPodSandboxConfig.sysctls"] needs [PodNetwork]
        "A sysctl that belongs to no namespace is an error, and stays as it is." => node_sysctl();
    "status-unknown" Api Codes ["PodSandboxStatus", "PodSandboxStatusRequest.pod_sandbox_id"]
        "The status of an unknown sandbox is NotFound." => status_unknown(NOBODY);
    "status-strange" Api Codes ["PodSandboxStatus", "PodSandboxStatusRequest.pod_sandbox_id"]
        "An id that cannot be one is NotFound or InvalidArgument." => status_unknown("../../etc");
    "status-empty" Api Codes ["PodSandboxStatus", "PodSandboxStatusRequest.pod_sandbox_id"]
        "An empty id is NotFound or InvalidArgument." => status_unknown("");
    "create-in-unknown" Api Codes ["CreateContainer", "CreateContainerRequest.pod_sandbox_id"]
        "A container in an unknown sandbox is NotFound." => create_in_unknown();
    "create-in-stopped" Api Codes ["CreateContainer", "StopPodSandbox"]
        "A container in a stopped sandbox is FailedPrecondition." => create_in_stopped();
    "start-in-stopped" Api Codes ["StartContainer", "StopPodSandbox"]
        "A container whose sandbox was stopped cannot be started." => start_in_stopped();
    "forward-to-unknown" Api Codes ["PortForward", "PortForwardRequest.pod_sandbox_id"]
        "Ports of an unknown sandbox are NotFound." => forward_to(NOBODY, Code::NotFound);
    "forward-to-stopped" Api Codes ["PortForward", "StopPodSandbox"]
        "Ports of a stopped sandbox are FailedPrecondition." => forward_to_stopped();
    "stats-of-unknown" Api Codes ["PodSandboxStats", "PodSandboxStatsRequest.pod_sandbox_id"]
        "Figures of an unknown sandbox are NotFound." => stats_of_unknown();
    "update-unknown" Api Codes ["UpdatePodSandboxResources",
            "UpdatePodSandboxResourcesRequest.pod_sandbox_id"]
        "New limits of an unknown sandbox are NotFound." => update_unknown();
}

#[derive(Clone, Copy)]
enum Bad {
    NoMetadata,
    NoName,
    NetworkMode,
    NetworkOfContainer,
    PidMode,
    PidTarget,
    HostPort,
    ContainerPort,
    HostAddress,
    TwoRanges,
    Unequal,
    UserMode,
    RelativeLogs,
}

fn port(host_port: i32, container_port: i32, host_ip: &str) -> Vec<PortMapping> {
    let host_ip = host_ip.to_owned();
    vec![PortMapping { host_port, container_port, host_ip, ..Default::default() }]
}

fn user_namespace(mode: NamespaceMode, uids: &[u32], gids: &[u32]) -> UserNamespace {
    let ranges = |lengths: &[u32]| {
        let range = |(at, length): (usize, &u32)| IdMapping {
            host_id: 1_000_000 * (at as u32 + 1),
            container_id: 100_000 * at as u32,
            length: *length,
        };
        lengths.iter().enumerate().map(range).collect()
    };
    UserNamespace { mode: mode.into(), uids: ranges(uids), gids: ranges(gids) }
}

fn spoil(config: &mut PodSandboxConfig, bad: Bad) {
    let metadata = config.metadata.get_or_insert_default();
    match bad {
        Bad::NoMetadata => config.metadata = None,
        Bad::NoName => metadata.name.clear(),
        Bad::NetworkMode => options(config).network = 77,
        Bad::NetworkOfContainer => options(config).network = NamespaceMode::Container.into(),
        Bad::PidMode => options(config).pid = 77,
        Bad::PidTarget => {
            let options = options(config);
            (options.pid, options.target_id) = (NamespaceMode::Target.into(), NOBODY.to_owned());
        }
        Bad::HostPort => config.port_mappings = port(99_999, 80, ""),
        Bad::ContainerPort => config.port_mappings = port(8080, 99_999, ""),
        Bad::HostAddress => config.port_mappings = port(8080, 80, "not-an-address"),
        Bad::TwoRanges => {
            let ranges = user_namespace(NamespaceMode::Pod, &[1000, 1000], &[1000, 1000]);
            options(config).userns_options = Some(ranges);
        }
        Bad::Unequal => {
            let ranges = user_namespace(NamespaceMode::Pod, &[1000], &[2000]);
            options(config).userns_options = Some(ranges);
        }
        Bad::UserMode => {
            let ranges = user_namespace(NamespaceMode::Container, &[1000], &[1000]);
            options(config).userns_options = Some(ranges);
        }
        Bad::RelativeLogs => config.log_directory = "logs/here".to_owned(),
    }
}

async fn nothing_is_left(c: &Context) -> Verdict {
    let left = c.pods(c.own_pods()).await?;
    ensure!(left.is_empty(), "it was refused, and there is {left:?}");
    Ok(())
}

async fn bad(c: &Context, bad: Bad) -> Verdict {
    // Host ports mean something where the pod has a network of its own.
    let is_port = matches!(bad, Bad::HostPort | Bad::ContainerPort | Bad::HostAddress);
    let mut config = if is_port { c.networked_config() } else { c.pod_config() };
    spoil(&mut config, bad);
    refused(c.run_pod(&config).await, &[Code::InvalidArgument])?;
    nothing_is_left(c).await
}

async fn no_config(c: &Context) -> Verdict {
    let request = RunPodSandboxRequest { config: None, runtime_handler: String::new() };
    refused(c.rpc.run_pod_sandbox(request).await, &[Code::InvalidArgument]).map(|_| ())
}

async fn fails(c: &Context, config: &PodSandboxConfig) -> Result<Status, crate::case::Stop> {
    let Err(status) = c.run_pod(config).await else {
        return Err(crate::case::Stop::failed("it is taken"));
    };
    nothing_is_left(c).await?;
    Ok(status)
}

async fn long_hostname(c: &Context) -> Verdict {
    let mut config = c.networked_config();
    config.hostname = "x".repeat(300);
    fails(c, &config).await.map(|_| ())
}

async fn unknown_sysctl(c: &Context) -> Verdict {
    let mut config = c.networked_config();
    let linux = config.linux.get_or_insert_default();
    linux.sysctls.insert("net.no.such.key".to_owned(), "1".to_owned());
    fails(c, &config).await.map(|_| ())
}

async fn node_sysctl(c: &Context) -> Verdict {
    const PATH: &str = "/proc/sys/kernel/panic";
    let before = std::fs::read_to_string(PATH)?;
    let mut config = c.networked_config();
    let linux = config.linux.get_or_insert_default();
    linux.sysctls.insert("kernel.panic".to_owned(), "77".to_owned());
    let answer = fails(c, &config).await;
    let after = std::fs::read_to_string(PATH)?;
    if after != before {
        std::fs::write(PATH, &before)?;
    }
    ensure!(after == before, "the node's own value was changed to {after:?}");
    answer.map(|_| ())
}

async fn status_unknown(c: &Context, id: &str) -> Verdict {
    let codes = [Code::NotFound, Code::InvalidArgument];
    let codes = if id == NOBODY { &codes[..1] } else { &codes[..] };
    refused(c.pod_status(id).await, codes).map(|_| ())
}

async fn create_in_unknown(c: &Context) -> Verdict {
    let pod = crate::context::Pod { id: NOBODY.to_owned(), config: c.pod_config() };
    refused(c.create(&pod, &c.waiter()).await, &[Code::NotFound]).map(|_| ())
}

async fn create_in_stopped(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    refused(c.create(&pod, &c.waiter()).await, &[Code::FailedPrecondition]).map(|_| ())
}

async fn start_in_stopped(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    c.stop_pod(&pod.id).await?;
    ensure!(c.start(&id).await.is_err(), "it is started");
    let state = c.status(&id).await?.state();
    ensure!(state != ContainerState::ContainerRunning, "it runs");
    Ok(())
}

async fn forward_to(c: &Context, id: &str, code: Code) -> Verdict {
    let request = PortForwardRequest { pod_sandbox_id: id.to_owned(), port: vec![80] };
    refused(c.rpc.port_forward(request).await, &[code]).map(|_| ())
}

async fn forward_to_stopped(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    forward_to(c, &pod.id, Code::FailedPrecondition).await
}

async fn stats_of_unknown(c: &Context) -> Verdict {
    let request = PodSandboxStatsRequest { pod_sandbox_id: NOBODY.to_owned() };
    refused(c.rpc.pod_sandbox_stats(request).await, &[Code::NotFound]).map(|_| ())
}

async fn update_unknown(c: &Context) -> Verdict {
    let request = UpdatePodSandboxResourcesRequest {
        pod_sandbox_id: NOBODY.to_owned(),
        resources: Some(LinuxContainerResources { cpu_shares: 512, ..Default::default() }),
        overhead: None,
    };
    refused(c.rpc.update_pod_sandbox_resources(request).await, &[Code::NotFound]).map(|_| ())
}
