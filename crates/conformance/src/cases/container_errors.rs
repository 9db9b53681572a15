//! Containers that cannot be, and calls that name none.

use cri_api::v1::*;
use tonic::{Code, Status};

use super::sandbox::NOBODY;
use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, refused};
use crate::shape::{resources, security, variable};

cases! { "container-errors":
    "status-unknown" Api Codes ["ContainerStatus", "ContainerStatusRequest.container_id"]
        "The status of an unknown container is NotFound." => unknown(Call::Status);
    "start-unknown" Api Codes ["StartContainer", "StartContainerRequest.container_id"]
        "Starting an unknown container is NotFound." => unknown(Call::Start);
    "exec-sync-unknown" Api Codes ["ExecSync", "ExecSyncRequest.container_id"]
        "ExecSync in an unknown container is NotFound." => unknown(Call::ExecSync);
    "exec-unknown" Api Codes ["Exec", "ExecRequest.container_id"]
        "Exec in an unknown container is NotFound." => unknown(Call::Exec);
    "attach-unknown" Api Codes ["Attach", "AttachRequest.container_id"]
        "Attach to an unknown container is NotFound." => unknown(Call::Attach);
    "update-unknown" Api Codes ["UpdateContainerResources",
            "UpdateContainerResourcesRequest.container_id"]
        "New limits of an unknown container are NotFound." => unknown(Call::Update);
    "reopen-unknown" Api Codes ["ReopenContainerLog", "ReopenContainerLogRequest.container_id"]
        "Reopening the log of an unknown container is NotFound." => unknown(Call::Reopen);
    "stats-unknown" Api Codes ["ContainerStats", "ContainerStatsRequest.container_id"]
        "Figures of an unknown container are NotFound." => unknown(Call::Stats);
    "exec-sync-created" Api Codes ["ExecSync"]
        "ExecSync in a container that does not run yet is an error." => not_running(Call::ExecSync);
    "exec-sync-ended" Api Codes ["ExecSync"]
        "ExecSync in a container that has ended is an error." => ended(Call::ExecSync);
    "exec-ended" Api Codes ["Exec"]
        "Exec in a container that has ended is an error." => ended(Call::Exec);
    "attach-ended" Api Codes ["Attach"]
        "Attach to a container that has ended is an error." => ended(Call::Attach);
    "reopen-ended" Api Codes ["ReopenContainerLog"]
        "Reopening the log of a container that has ended is an error." => ended(Call::Reopen);
    "no-config" Api Codes ["CreateContainer", "CreateContainerRequest.config"]
        "A request without a configuration is InvalidArgument." => bad(Bad::NoConfig);
    "no-metadata" Api Codes ["CreateContainer", "ContainerConfig.metadata"]
        "A container without metadata is InvalidArgument." => bad(Bad::NoMetadata);
    "no-name" Api Codes ["CreateContainer", "ContainerMetadata.name"]
        "A container without a name is InvalidArgument." => bad(Bad::NoName);
    "no-image" Api Codes ["CreateContainer", "ContainerConfig.image"]
        "A container without an image is InvalidArgument." => bad(Bad::NoImage);
    "group-without-user" Api Api ["CreateContainer", "LinuxContainerSecurityContext.run_as_group"]
        "A group without a user is InvalidArgument." => bad(Bad::GroupAlone);
    "negative-user" Api Codes ["CreateContainer", "LinuxContainerSecurityContext.run_as_user"]
        "A negative user is InvalidArgument." => bad(Bad::NegativeUser);
    "variable-without-name" Api Codes ["CreateContainer", "KeyValue.key"]
        "A variable without a name is InvalidArgument." => bad(Bad::Variable);
    "relative-mount" Api Codes ["CreateContainer", "Mount.container_path"]
        "A mount at a relative path is InvalidArgument." => bad(Bad::RelativeMount);
    "recursive-but-writable" Api Api ["CreateContainer", "Mount.recursive_read_only"]
        "A recursive read-only mount that is not read-only is InvalidArgument." =>
        bad(Bad::RecursiveWritable);
    "privileged-in-plain-pod" Api Api ["CreateContainer", "LinuxContainerSecurityContext.privileged"]
        "A privileged container in a pod that is not is an error." => fails(Bad::Privileged);
    "unknown-capability" Api Codes ["CreateContainer", "Capability.add_capabilities"]
        "A capability that does not exist is an error at the latest when it is started." =>
        fails(Bad::Capability);
    "unknown-target" Api Codes ["CreateContainer", "NamespaceOption.target_id"]
        "The PID namespace of an unknown container cannot be joined." => fails(Bad::Target);
    "strange-stop-signal" Api Codes ["CreateContainer", "ContainerConfig.stop_signal"]
        "A stop signal that does not exist is an error, or none." => strange_signal();
    "escaping-log-path" Linux Api ["CreateContainer", "ContainerConfig.log_path"]
        "A log path that leaves the pod's directory writes nothing outside of it." => escaping_log();
    "missing-image" Api Codes ["CreateContainer", "ContainerConfig.image"]
        "A container of an image that is not on the node is NotFound." => missing_image();
    "missing-program" Program Kubelet ["StartContainer", "ContainerStatus.reason",
            "ContainerStatus.exit_code"]
        "A program that is not there makes the start fail, and its name is in the error." =>
        missing_program();
    "missing-program-ends" Program Kubelet ["StartContainer", "ContainerStatus.state",
            "ContainerStatus.exit_code"]
        "A container that could not be started is EXITED, with StartError and 128." => start_error();
    "create-fails-whole" Api Api ["CreateContainer", "ListContainers"]
        "A container that was refused is not listed." => refused_is_not_listed();
    "errors-keep-secrets" Program Kubelet ["StartContainer", "KeyValue.value"]
        "An error does not show the environment's values." => secrets();
}

#[derive(Clone, Copy)]
enum Call {
    Status,
    Start,
    ExecSync,
    Exec,
    Attach,
    Update,
    Reopen,
    Stats,
}

async fn make(c: &Context, call: Call, id: &str) -> Result<(), Status> {
    let container_id = id.to_owned();
    let cmd = vec!["true".to_owned()];
    match call {
        Call::Status => c.status(id).await.map(drop),
        Call::Start => c.start(id).await,
        Call::ExecSync => c.exec_for(id, &["true"], 10).await.map(drop),
        Call::Exec => {
            let request = ExecRequest { container_id, cmd, stdout: true, ..Default::default() };
            c.rpc.exec(request).await.map(drop)
        }
        Call::Attach => {
            let request = AttachRequest { container_id, stdout: true, ..Default::default() };
            c.rpc.attach(request).await.map(drop)
        }
        Call::Update => {
            let linux = Some(LinuxContainerResources { cpu_shares: 512, ..Default::default() });
            let request =
                UpdateContainerResourcesRequest { container_id, linux, ..Default::default() };
            c.rpc.update_container_resources(request).await.map(drop)
        }
        Call::Reopen => {
            let request = ReopenContainerLogRequest { container_id };
            c.rpc.reopen_container_log(request).await.map(drop)
        }
        Call::Stats => {
            c.rpc.container_stats(ContainerStatsRequest { container_id }).await.map(drop)
        }
    }
}

async fn unknown(c: &Context, call: Call) -> Verdict {
    refused(make(c, call, NOBODY).await, &[Code::NotFound]).map(|_| ())
}

async fn not_running(c: &Context, call: Call) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.waiter()).await?;
    ensure!(make(c, call, &id).await.is_err(), "it succeeds");
    Ok(())
}

async fn ended(c: &Context, call: Call) -> Verdict {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.stop(&id, 0).await?;
    ensure!(make(c, call, &id).await.is_err(), "it succeeds");
    Ok(())
}

#[derive(Clone, Copy)]
enum Bad {
    NoConfig,
    NoMetadata,
    NoName,
    NoImage,
    GroupAlone,
    NegativeUser,
    Variable,
    RelativeMount,
    RecursiveWritable,
    Privileged,
    Capability,
    Target,
}

fn spoil(config: &mut ContainerConfig, bad: Bad) {
    match bad {
        Bad::NoConfig => {}
        Bad::NoMetadata => config.metadata = None,
        Bad::NoName => config.metadata.get_or_insert_default().name.clear(),
        Bad::NoImage => config.image = None,
        Bad::GroupAlone => security(config).run_as_group = Some(Int64Value { value: 1000 }),
        Bad::NegativeUser => security(config).run_as_user = Some(Int64Value { value: -5 }),
        Bad::Variable => config.envs = vec![variable("", "value")],
        Bad::RelativeMount => config.mounts = vec![mount("tmp/x")],
        Bad::RecursiveWritable => {
            config.mounts = vec![Mount { recursive_read_only: true, ..mount("/data") }];
        }
        Bad::Privileged => security(config).privileged = true,
        Bad::Capability => {
            let add_capabilities = vec!["NO_SUCH_THING".to_owned()];
            let capabilities = Capability { add_capabilities, ..Default::default() };
            security(config).capabilities = Some(capabilities);
        }
        Bad::Target => {
            let options = security(config).namespace_options.get_or_insert_default();
            (options.pid, options.target_id) = (NamespaceMode::Target.into(), NOBODY.to_owned());
        }
    }
}

fn mount(container_path: &str) -> Mount {
    let (host_path, container_path) = ("/tmp".to_owned(), container_path.to_owned());
    Mount { host_path, container_path, ..Default::default() }
}

async fn create_bad(c: &Context, bad: Bad) -> Result<Result<String, Status>, Stop> {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    spoil(&mut config, bad);
    let config = if matches!(bad, Bad::NoConfig) { None } else { Some(config) };
    let pod_sandbox_id = pod.id;
    let request =
        CreateContainerRequest { pod_sandbox_id, config, sandbox_config: Some(pod.config) };
    Ok(c.rpc.create_container(request).await.map(|answer| answer.container_id))
}

async fn bad(c: &Context, bad: Bad) -> Verdict {
    refused(create_bad(c, bad).await?, &[Code::InvalidArgument]).map(|_| ())
}

/// Refused when it is created, or when it is started.
async fn fails(c: &Context, bad: Bad) -> Verdict {
    if let Ok(id) = create_bad(c, bad).await? {
        ensure!(c.start(&id).await.is_err(), "it runs");
    }
    Ok(())
}

async fn strange_signal(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.stop_signal = 9999;
    if let Ok(id) = c.create(&pod, &config).await {
        c.start(&id).await?;
        c.stop(&id, 10).await?;
        same!("the state", c.status(&id).await?.state(), ContainerState::ContainerExited);
    }
    Ok(())
}

async fn escaping_log(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.script("echo words");
    config.log_path = "../outside.log".to_owned();
    let outside = c.directory()?.join("outside.log");
    if let Ok(id) = c.create(&pod, &config).await
        && c.start(&id).await.is_ok()
    {
        c.ended(&id).await?;
    }
    ensure!(!outside.exists(), "{} was written", outside.display());
    Ok(())
}

async fn missing_image(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.image.get_or_insert_default().image = "check.invalid/no/such:image".to_owned();
    refused(c.create(&pod, &config).await, &[Code::NotFound]).map(|_| ())
}

async fn missing_program(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.container(&["/no/such/program"])).await?;
    let Err(status) = c.start(&id).await else { return Err(Stop::failed("it is started")) };
    ensure!(status.message().contains("/no/such/program"), "it says: {}", status.message());
    Ok(())
}

async fn start_error(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let id = c.create(&pod, &c.container(&["/no/such/program"])).await?;
    ensure!(c.start(&id).await.is_err(), "it is started");
    let status = c.status(&id).await?;
    same!("the state", status.state(), ContainerState::ContainerExited);
    same!("code and reason", (status.exit_code, &*status.reason), (128, "StartError"));
    ensure!(!status.message.is_empty(), "there is no message");
    Ok(())
}

async fn refused_is_not_listed(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let mut config = c.waiter();
    config.image.get_or_insert_default().image = "check.invalid/no/such:image".to_owned();
    ensure!(c.create(&pod, &config).await.is_err(), "it is taken");
    let filter = ContainerFilter { pod_sandbox_id: pod.id, ..Default::default() };
    let left = c.containers(filter).await?;
    ensure!(left.is_empty(), "there is {left:?}");
    Ok(())
}

async fn secrets(c: &Context) -> Verdict {
    const SECRET: &str = "value-that-nobody-may-see";
    let pod = c.pod().await?;
    let mut config = c.container(&["/no/such/program"]);
    config.envs = vec![variable("TOKEN", SECRET)];
    resources(&mut config).cpu_shares = 512;
    let id = c.create(&pod, &config).await?;
    let Err(refusal) = c.start(&id).await else { return Err(Stop::failed("it is started")) };
    let status = c.status(&id).await?;
    ensure!(!refusal.message().contains(SECRET), "the error shows it");
    ensure!(!format!("{status:?}").contains(SECRET), "the status shows it");
    Ok(())
}
