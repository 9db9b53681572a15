//! `isopod stopp` and `isopod rmp`.

use cri_api::v1::{PodSandbox, PodSandboxState, RemovePodSandboxRequest, StopPodSandboxRequest};

use super::container::each;
use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::print;
use super::run;

/// Arguments of `stopp`.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

/// Arguments of `rmp`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// Stop what is still ready
    #[arg(long, short)]
    force: bool,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "POD")]
    pods: Vec<String>,
}

/// Stops pods one after the other.
pub async fn stop(node: &Node, args: &StopArgs) -> Outcome {
    each(&args.pods, async |text| {
        let pod = find::sandbox(node, text).await?;
        stop_one(node, &pod.id, text).await?;
        print::line(text)
    })
    .await
}

/// Removes pods one after the other, and what `isopod run` made on disk for them.
pub async fn remove(node: &Node, args: &RemoveArgs) -> Outcome {
    each(&args.pods, async |text| {
        let pod = find::sandbox(node, text).await?;
        if pod.state() == PodSandboxState::SandboxReady {
            if !args.force {
                return Err(Failure::new(format!("remove pod {text}"), "it is ready").advise(
                    format!("`isopod stopp {text}` stops it; `isopod rmp -f {text}` does both"),
                ));
            }
            stop_one(node, &pod.id, text).await?;
        }
        remove_one(node, &pod).await?;
        print::line(text)
    })
    .await
}

/// Stops one pod; `name` is for people.
pub async fn stop_one(node: &Node, id: &str, name: &str) -> Result<(), Failure> {
    let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
    node.runtime().stop_pod_sandbox(request).await.doing(format!("stop pod {name}"))?;
    Ok(())
}

/// Removes one pod and the directories that `isopod run` made for it.
pub async fn remove_one(node: &Node, pod: &PodSandbox) -> Result<(), Failure> {
    let name = pod.metadata.as_ref().map_or(pod.id.as_str(), |metadata| &metadata.name);
    let request = RemovePodSandboxRequest { pod_sandbox_id: pod.id.clone() };
    node.runtime().remove_pod_sandbox(request).await.doing(format!("remove pod {name}"))?;
    let uid = pod.metadata.as_ref().map_or("", |metadata| &metadata.uid);
    run::forget(uid)
}
