//! `isopod run -i`: what is typed goes to the container.

use std::time::Duration;

use cri_api::v1::{AttachRequest, ContainerState, ContainerStatus, ContainerStatusRequest};
use cri_streaming::server::Streams;

use super::begin::Running;
use crate::cli::failure::{Doing, Failure};
use crate::cli::follow::{Wanted, print_now, until_exited};
use crate::cli::node::Node;
use crate::cli::print;
use crate::cli::stream::attend::{Left, attend};
use crate::cli::stream::{self, detach};

/// How long a container that cannot be attached to may take to be seen as ended: a short command is over before
/// anybody is at its input.
const LATE: Duration = Duration::from_millis(500);
/// As `isopod attach` has them where nothing else is said.
const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// Passes standard input on where it is wanted, and comes back only when a signal came.
pub(super) async fn pass_on(
    node: &Node,
    container: Option<&Running>,
    options: Option<&stream::Options>,
) {
    if let (Some(container), Some(options)) = (container, options) {
        let streams = Streams { tty: false, stdin: true, stdout: false, stderr: false };
        match attach(node, container, streams, options).await {
            Ok(Left::Signalled(_)) => return,
            Ok(Left::Ended(_) | Left::Detached) => {}
            Err(failure) => {
                tokio::time::sleep(LATE).await;
                print::aside(failure.report().trim_end());
            }
        }
    }
    std::future::pending().await
}

/// At the container's terminal until it has ended, or nothing if it was left alone.
pub(super) async fn at_terminal(
    node: &Node,
    container: &Running,
    options: &stream::Options,
) -> Result<Option<ContainerStatus>, Failure> {
    let streams = Streams { tty: true, stdin: true, stdout: true, stderr: false };
    let left = attach(node, container, streams, options).await;
    match left {
        Ok(Left::Detached) => Ok(None),
        Ok(Left::Ended(_)) => until_exited(node, &container.id).await.map(Some),
        Ok(Left::Signalled(number)) => {
            let doing = format!("stay at the terminal of {}", container.name);
            Err(Failure::new(doing, format!("signal {number} came; the pod is stopped")))
        }
        Err(failure) => {
            tokio::time::sleep(LATE).await;
            let request =
                ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
            let answer = node.runtime().container_status(request).await;
            let answer = answer.doing("ask whether the container runs")?.into_inner();
            let status = answer.status.unwrap_or_default();
            if status.state() != ContainerState::ContainerExited {
                return Err(failure);
            }
            print_now(&container.log, &Wanted::default())?;
            Ok(Some(status))
        }
    }
}

async fn attach(
    node: &Node,
    container: &Running,
    streams: Streams,
    options: &stream::Options,
) -> Result<Left, Failure> {
    let doing = format!("attach to container {}", container.name);
    let Streams { tty, stdin, stdout, stderr } = streams;
    let container_id = container.id.clone();
    let request = AttachRequest { container_id, tty, stdin, stdout, stderr };
    let url =
        async || Ok(node.runtime().attach(request.clone()).await.doing(&doing)?.into_inner().url);
    let keys = detach::parse(DETACH_KEYS).map_err(|problem| Failure::new(&doing, problem))?;
    attend(url, streams, options, Some(&keys), &doing).await
}
