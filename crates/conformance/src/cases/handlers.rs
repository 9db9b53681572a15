//! Runtime handlers and features.

use std::collections::BTreeSet;

use cri_api::v1::*;
use tonic::Code;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, refused};

cases! { "handlers":
    "default-is-listed" Api Api ["Status", "StatusResponse.runtime_handlers", "RuntimeHandler.name"]
        "Where handlers are listed, the default one is among them, by the empty name." => default_listed();
    "listed-once" Api Api ["Status", "RuntimeHandler.name"]
        "No handler is listed twice." => listed_once();
    "have-features" Api Kubelet ["Status", "RuntimeHandler.features",
            "RuntimeHandlerFeatures.user_namespaces",
            "RuntimeHandlerFeatures.recursive_read_only_mounts"]
        "Every handler that is listed says what it can do." => have_features();
    "features-stay" Api Kubelet ["Status", "StatusResponse.features",
            "RuntimeFeatures.supplemental_groups_policy", "RuntimeFeatures.mount_options",
            "RuntimeFeatures.user_namespaces_host_network"]
        "The features of the runtime are the same whenever they are asked for." => features_stay();
    "comes-back" Api Api ["RunPodSandbox", "RunPodSandboxRequest.runtime_handler",
            "PodSandboxStatus.runtime_handler", "PodSandbox.runtime_handler"]
        "The handler that a pod was asked for comes back in its status and in lists." => comes_back();
    "unknown-is-refused" Api Codes ["RunPodSandbox", "RunPodSandboxRequest.runtime_handler"]
        "An unknown handler is InvalidArgument or NotFound." => unknown();
    "unknown-is-named" Api Kubelet ["RunPodSandbox", "RunPodSandboxRequest.runtime_handler"]
        "The error of an unknown handler names it." => unknown_named();
    "unknown-leaves-nothing" Api Api ["RunPodSandbox", "ListPodSandbox"]
        "A pod whose handler is unknown does not exist afterwards." => unknown_leaves_nothing();
}

const UNKNOWN: &str = "no-such-handler";

async fn handlers(c: &Context) -> Result<Vec<RuntimeHandler>, Stop> {
    let all = c.rpc.status(StatusRequest { verbose: false }).await?.runtime_handlers;
    if all.is_empty() {
        return Err(Stop::Skipped("the runtime lists no handlers".to_owned()));
    }
    Ok(all)
}

async fn default_listed(c: &Context) -> Verdict {
    let all = handlers(c).await?;
    ensure!(all.iter().any(|handler| handler.name.is_empty()), "there are only {all:?}");
    Ok(())
}

async fn listed_once(c: &Context) -> Verdict {
    let all = handlers(c).await?;
    let names: BTreeSet<&str> = all.iter().map(|handler| handler.name.as_str()).collect();
    same!("the number of names", names.len(), all.len());
    Ok(())
}

async fn have_features(c: &Context) -> Verdict {
    for handler in handlers(c).await? {
        ensure!(handler.features.is_some(), "{:?} says nothing", handler.name);
    }
    Ok(())
}

async fn features_stay(c: &Context) -> Verdict {
    let first = c.rpc.status(StatusRequest { verbose: false }).await?.features;
    let second = c.rpc.status(StatusRequest { verbose: true }).await?.features;
    same!("the second answer", second, first);
    Ok(())
}

async fn comes_back(c: &Context) -> Verdict {
    let pod = c.pod().await?;
    let wanted = &c.shared.options.handler;
    same!("the status' handler", &c.pod_status(&pod.id).await?.runtime_handler, wanted);
    let filter = PodSandboxFilter { id: pod.id, ..Default::default() };
    for listed in c.pods(filter).await? {
        same!("the list's handler", &listed.runtime_handler, wanted);
    }
    Ok(())
}

async fn run_unknown(c: &Context) -> Result<(), tonic::Status> {
    let request =
        RunPodSandboxRequest { config: Some(c.pod_config()), runtime_handler: UNKNOWN.to_owned() };
    c.rpc.run_pod_sandbox(request).await.map(|_| ())
}

async fn unknown(c: &Context) -> Verdict {
    refused(run_unknown(c).await, &[Code::InvalidArgument, Code::NotFound]).map(|_| ())
}

async fn unknown_named(c: &Context) -> Verdict {
    let Err(status) = run_unknown(c).await else { return Err(Stop::failed("it is taken")) };
    ensure!(status.message().contains(UNKNOWN), "it says: {}", status.message());
    Ok(())
}

async fn unknown_leaves_nothing(c: &Context) -> Verdict {
    ensure!(run_unknown(c).await.is_err(), "it is taken");
    let left = c.pods(c.own_pods()).await?;
    ensure!(left.is_empty(), "there is {left:?}");
    Ok(())
}
