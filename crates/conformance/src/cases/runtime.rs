//! The runtime as such: version, status, configuration.

use std::collections::BTreeSet;

use cri_api::v1::*;

use crate::case::{Verdict, cases, ensure, same};
use crate::context::Context;

cases! { "runtime":
    "api-version" Api Api ["Version", "VersionResponse.runtime_api_version"]
        "The API version is v1." => api_version();
    "name" Api Api ["Version", "VersionResponse.runtime_name", "VersionResponse.runtime_version"]
        "Name and version of the runtime are not empty." => name();
    "version-is-informative" Api Api ["Version", "VersionRequest.version"]
        "The version that a caller asks for does not change the answer." => any_version();
    "kubelet-api-version" Api Kubelet ["Version", "VersionResponse.version"]
        "The version of the kubelet's runtime API is given." => kubelet_version();
    "is-ready" Api Api ["Status", "RuntimeStatus.conditions", "RuntimeCondition.status"]
        "RuntimeReady is among the conditions, and true where pods can be run." => runtime_ready();
    "network-condition" Api Api ["Status", "RuntimeCondition.type"]
        "NetworkReady is among the conditions." => network_condition();
    "conditions-once" Api Api ["Status", "RuntimeStatus.conditions"]
        "No condition is given twice." => conditions_once();
    "false-has-a-reason" Api Api ["Status", "RuntimeCondition.reason", "RuntimeCondition.message"]
        "A condition that is false has a reason and a message." => false_has_a_reason();
    "status-is-brief" Api Api ["Status", "StatusRequest.verbose", "StatusResponse.info"]
        "Without verbose there is no info." => brief();
    "status-verbose" Api Api ["Status", "StatusRequest.verbose", "StatusResponse.info"]
        "With verbose there is info." => verbose();
    "config-names-a-driver" Api Kubelet ["RuntimeConfig", "RuntimeConfigResponse.linux",
            "LinuxRuntimeConfiguration.cgroup_driver"]
        "The cgroup driver is one that the kubelet knows." => driver();
    "config-stays" Api Kubelet ["RuntimeConfig"]
        "The configuration is the same whenever it is asked for." => driver_stays();
    "takes-a-pod-cidr" Api Api ["UpdateRuntimeConfig", "UpdateRuntimeConfigRequest.runtime_config",
            "RuntimeConfig.network_config", "NetworkConfig.pod_cidr"]
        "The range of pod addresses is taken." => takes("10.88.0.0/16");
    "takes-two-pod-cidrs" Api Api ["UpdateRuntimeConfig", "NetworkConfig.pod_cidr"]
        "Two ranges of pod addresses, one of each family, are taken." =>
        takes("10.88.0.0/16,fd00:88::/64");
    "takes-an-empty-config" Api Api ["UpdateRuntimeConfig"]
        "A configuration that says nothing changes nothing, and is no error." => takes("");
    "answers-side-by-side" Api Kubelet ["Version", "Status"]
        "Many calls at once are all answered." => many();
}

async fn version(c: &Context, version: &str) -> Result<VersionResponse, crate::case::Stop> {
    Ok(c.rpc.version(VersionRequest { version: version.to_owned() }).await?)
}

async fn api_version(c: &Context) -> Verdict {
    same!("the version", version(c, "v1").await?.runtime_api_version, "v1");
    Ok(())
}

async fn name(c: &Context) -> Verdict {
    let answer = version(c, "v1").await?;
    ensure!(!answer.runtime_name.is_empty(), "the name is empty");
    ensure!(!answer.runtime_version.is_empty(), "the version is empty");
    Ok(())
}

async fn any_version(c: &Context) -> Verdict {
    let wanted = version(c, "v1").await?;
    for other in ["", "0.1.0", "v9"] {
        same!(format!("the answer to {other:?}"), version(c, other).await?, wanted);
    }
    Ok(())
}

async fn kubelet_version(c: &Context) -> Verdict {
    ensure!(!version(c, "v1").await?.version.is_empty(), "it is empty");
    Ok(())
}

async fn status(c: &Context, verbose: bool) -> Result<StatusResponse, crate::case::Stop> {
    Ok(c.rpc.status(StatusRequest { verbose }).await?)
}

async fn conditions(c: &Context) -> Result<Vec<RuntimeCondition>, crate::case::Stop> {
    Ok(status(c, false).await?.status.unwrap_or_default().conditions)
}

async fn runtime_ready(c: &Context) -> Verdict {
    let all = conditions(c).await?;
    let ready = all.iter().find(|condition| condition.r#type == "RuntimeReady");
    ensure!(ready.is_some_and(|ready| ready.status), "the conditions are {all:?}");
    // And so it is.
    let pod = c.pod().await?;
    same!("the state", c.pod_status(&pod.id).await?.state(), PodSandboxState::SandboxReady);
    Ok(())
}

async fn network_condition(c: &Context) -> Verdict {
    let all = conditions(c).await?;
    ensure!(all.iter().any(|one| one.r#type == "NetworkReady"), "the conditions are {all:?}");
    Ok(())
}

async fn conditions_once(c: &Context) -> Verdict {
    let all = conditions(c).await?;
    let names: BTreeSet<&str> = all.iter().map(|one| one.r#type.as_str()).collect();
    same!("the number of names", names.len(), all.len());
    Ok(())
}

async fn false_has_a_reason(c: &Context) -> Verdict {
    for one in conditions(c).await? {
        let says = !one.reason.is_empty() && !one.message.is_empty();
        ensure!(one.status || says, "{one:?}");
    }
    Ok(())
}

async fn brief(c: &Context) -> Verdict {
    let info = status(c, false).await?.info;
    ensure!(info.is_empty(), "there is {:?}", info.keys().collect::<Vec<_>>());
    Ok(())
}

async fn verbose(c: &Context) -> Verdict {
    ensure!(!status(c, true).await?.info.is_empty(), "there is none");
    Ok(())
}

async fn driver(c: &Context) -> Verdict {
    let linux = c.rpc.runtime_config(RuntimeConfigRequest {}).await?.linux;
    let Some(linux) = linux else {
        return Err(crate::case::Stop::failed("it says nothing of Linux"));
    };
    ensure!(CgroupDriver::try_from(linux.cgroup_driver).is_ok(), "it is {}", linux.cgroup_driver);
    Ok(())
}

async fn driver_stays(c: &Context) -> Verdict {
    let first = c.rpc.runtime_config(RuntimeConfigRequest {}).await?;
    same!("the second answer", c.rpc.runtime_config(RuntimeConfigRequest {}).await?, first);
    Ok(())
}

async fn takes(c: &Context, cidr: &str) -> Verdict {
    let network_config = Some(NetworkConfig { pod_cidr: cidr.to_owned() });
    let runtime_config = Some(RuntimeConfig { network_config });
    c.rpc.update_runtime_config(UpdateRuntimeConfigRequest { runtime_config }).await?;
    Ok(())
}

async fn many(c: &Context) -> Verdict {
    let calls = (0..100).map(|_| async {
        version(c, "v1").await?;
        status(c, false).await
    });
    for answer in futures_util::future::join_all(calls).await {
        answer?;
    }
    Ok(())
}
