//! `isopod stop` and `isopod rm`.

use cri_api::v1::{ContainerState, RemoveContainerRequest, StopContainerRequest};

use super::failure::{Doing, Failure, Outcome};
use super::find::{self, container_name};
use super::node::Node;
use super::print;

/// Arguments of `stop`.
#[derive(Debug, clap::Args)]
pub struct StopArgs {
    /// Seconds until what has not ended is killed
    #[arg(long, short, default_value_t = 10, value_name = "SECONDS")]
    timeout: u32,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// Kill what still runs
    #[arg(long, short)]
    force: bool,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

/// Stops containers one after the other.
pub async fn stop(node: &Node, args: &StopArgs) -> Outcome {
    each(&args.containers, async |text| {
        let container_id = find::container(node, text).await?.id;
        let request = StopContainerRequest { container_id, timeout: args.timeout.into() };
        node.runtime().stop_container(request).await.doing(format!("stop container {text}"))?;
        print::line(text)
    })
    .await
}

/// Removes containers one after the other.
pub async fn remove(node: &Node, args: &RemoveArgs) -> Outcome {
    each(&args.containers, async |text| {
        let container = find::container(node, text).await?;
        if container.state() == ContainerState::ContainerRunning && !args.force {
            let name = container_name(&container);
            return Err(Failure::new(format!("remove container {name}"), "it is running")
                .advise(format!("`isopod stop {text}` ends it; `isopod rm -f {text}` kills it")));
        }
        let request = RemoveContainerRequest { container_id: container.id };
        node.runtime().remove_container(request).await.doing(format!("remove container {text}"))?;
        print::line(text)
    })
    .await
}

/// Does all, and fails with the first that failed; of the others that fail it tells on stderr.
pub async fn each(
    texts: &[String],
    mut work: impl AsyncFnMut(&str) -> Result<(), Failure>,
) -> Outcome {
    let mut first = None;
    for text in texts {
        if let Err(failure) = work(text).await {
            match first {
                None => first = Some(failure),
                Some(_) => print::aside(failure.report().trim_end()),
            }
        }
    }
    first.map_or(Ok(0), Err)
}
