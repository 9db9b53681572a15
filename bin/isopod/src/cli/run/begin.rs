//! From a plan to a pod that runs.

use std::path::{Path, PathBuf};

use cri_api::v1::{
    ContainerConfig, CreateContainerRequest, ImageSpec, ImageStatusRequest, PodSandbox,
    RunPodSandboxRequest, StartContainerRequest,
};

use super::directories::forget;
use super::plan::{Plan, Planned, PullWhen, UserRule};
use crate::cli::failure::{Doing, Failure};
use crate::cli::follow::{Wanted, until_end};
use crate::cli::image::is_here;
use crate::cli::node::Node;
use crate::cli::print;
use crate::cli::pull::pull;
use crate::cli::sandbox::{remove_one, stop_one};

/// A pod that has begun.
#[derive(Debug)]
pub struct Begun {
    /// The pod.
    pub sandbox: PodSandbox,
    /// Its containers, in the plan's order.
    pub containers: Vec<Running>,
}

/// A container that was started.
#[derive(Debug)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its log on this machine.
    pub log: PathBuf,
}

/// Fetches the images, makes the pod, runs its init containers and starts the others. A failure
/// removes what there is by then.
pub async fn begin(node: &Node, plan: &Plan, directory: &Path) -> Result<Begun, Failure> {
    let metadata = plan.sandbox.metadata.clone().unwrap_or_default();
    let all = plan.init.iter().chain(&plan.containers);
    for planned in all {
        fetch(node, planned).await?;
        check_user(node, planned).await?;
    }
    if let Err(failure) = make_directories(plan) {
        forget(&metadata.uid)?;
        return Err(failure);
    }
    let request = RunPodSandboxRequest {
        config: Some(plan.sandbox.clone()),
        runtime_handler: plan.handler.clone(),
    };
    let answer = node.runtime().run_pod_sandbox(request).await;
    let id = match answer.doing(format!("run pod {}", metadata.name)) {
        Ok(answer) => answer.into_inner().pod_sandbox_id,
        Err(failure) => {
            forget(&metadata.uid)?;
            return Err(advised(failure));
        }
    };
    let sandbox = PodSandbox { id, metadata: Some(metadata), ..Default::default() };
    match start_all(node, plan, &sandbox, directory).await {
        Ok(containers) => Ok(Begun { sandbox, containers }),
        Err(failure) => {
            undo(node, &sandbox).await;
            Err(failure)
        }
    }
}

/// A pod without a network is what a machine without Kubernetes meets first.
fn advised(failure: Failure) -> Failure {
    if failure.code() == Some(tonic::Code::Unavailable) {
        return failure.advise(
            "`isopod status` shows whether the network is ready; --network host does without one",
        );
    }
    failure
}

/// What fails here is told, and does not hide the failure that led here.
async fn undo(node: &Node, sandbox: &PodSandbox) {
    let undone = async {
        stop_one(node, &sandbox.id, &sandbox.id).await?;
        remove_one(node, sandbox).await
    };
    if let Err(failure) = undone.await {
        print::aside(failure.report().trim_end());
    }
}

async fn start_all(
    node: &Node,
    plan: &Plan,
    sandbox: &PodSandbox,
    directory: &Path,
) -> Result<Vec<Running>, Failure> {
    for planned in &plan.init {
        let running = start(node, plan, planned, sandbox, directory).await?;
        let status = until_end(node, &running.id, running.log, Wanted::default()).await?;
        if status.exit_code != 0 {
            let doing = format!("run init container {}", running.name);
            let cause = match status.message.as_str() {
                "" => format!("it ended with exit code {}", status.exit_code),
                said => format!("it ended with exit code {}: {said}", status.exit_code),
            };
            return Err(Failure::new(doing, cause));
        }
    }
    let mut containers = Vec::new();
    for planned in &plan.containers {
        containers.push(start(node, plan, planned, sandbox, directory).await?);
    }
    Ok(containers)
}

async fn start(
    node: &Node,
    plan: &Plan,
    planned: &Planned,
    sandbox: &PodSandbox,
    directory: &Path,
) -> Result<Running, Failure> {
    let name = name(&planned.config).to_owned();
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox.id.clone(),
        config: Some(planned.config.clone()),
        sandbox_config: Some(plan.sandbox.clone()),
    };
    let answer = node.runtime().create_container(request).await;
    let id = answer.doing(format!("create container {name}"))?.into_inner().container_id;
    let request = StartContainerRequest { container_id: id.clone() };
    node.runtime().start_container(request).await.doing(format!("start container {name}"))?;
    let log = super::plan::logs(directory).join(&planned.config.log_path);
    Ok(Running { id, name, log })
}

async fn fetch(node: &Node, planned: &Planned) -> Result<(), Failure> {
    let image = image(&planned.config);
    let fetch = match planned.pull {
        PullWhen::Always => true,
        PullWhen::Missing => !is_here(node, image).await?,
        PullWhen::Never => {
            if !is_here(node, image).await? {
                return Err(Failure::new(format!("run {image}"), "it is not on this machine")
                    .advise(format!(
                        "`isopod pull {image}` fetches it, `isopod load` takes an archive"
                    )));
            }
            false
        }
    };
    if fetch {
        pull(node, image, None, false).await?;
    }
    Ok(())
}

/// Holds `runAsNonRoot` where the image says who its user is.
async fn check_user(node: &Node, planned: &Planned) -> Result<(), Failure> {
    let context = planned.config.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    let asked = context.and_then(|context| context.run_as_user);
    if planned.user == UserRule::Any || asked.is_some_and(|user| user.value != 0) {
        return Ok(());
    }
    let spec = ImageSpec { image: image(&planned.config).to_owned(), ..Default::default() };
    let request = ImageStatusRequest { image: Some(spec), verbose: false };
    let answer = node.images().image_status(request).await.doing("look at the image's user")?;
    let found = answer.into_inner().image.unwrap_or_default();
    let why = match (asked, found.uid, found.username.as_str()) {
        (None, Some(uid), _) if uid.value != 0 => return Ok(()),
        (None, None, name) if !name.is_empty() => {
            format!("the image's user {name:?} is a name, which could be root's")
        }
        (None, _, _) => "the image's user is root".to_owned(),
        (Some(_), _, _) => "runAsUser is 0".to_owned(),
    };
    let doing = format!("run container {} as runAsNonRoot asks", name(&planned.config));
    Err(Failure::new(doing, why).advise("set securityContext.runAsUser to another number"))
}

fn make_directories(plan: &Plan) -> Result<(), Failure> {
    for directory in &plan.directories {
        let doing = || format!("make directory {}", directory.display());
        std::fs::create_dir_all(directory).doing(doing())?;
    }
    Ok(())
}

fn name(config: &ContainerConfig) -> &str {
    config.metadata.as_ref().map_or("", |metadata| metadata.name.as_str())
}

fn image(config: &ContainerConfig) -> &str {
    config.image.as_ref().map_or("", |image| image.image.as_str())
}
