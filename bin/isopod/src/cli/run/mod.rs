//! `isopod run`: a pod from options or from a manifest, begun, followed, ended.
//!
//! Always: what fails on the way to a pod that runs leaves nothing of it.

mod begin;
mod directories;
mod flags;
mod plan;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::pin;

use cri_api::v1::{ContainerStatus, StopContainerRequest};
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};

pub use directories::forget;
pub use plan::{Identity, Plan, Planned, PullWhen, UserRule, privilege, profile, volumes};

use super::failure::{Doing, Failure, Outcome};
use super::follow::{Wanted, until_end};
use super::manifest;
use super::node::Node;
use super::print;
use super::sandbox::{remove_one, stop_one};
use begin::{Begun, Running};
use flags::Flags;

/// What a shell gives for a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave it running, print the pod's id
    #[arg(long, short)]
    detach: bool,
    /// Remove the pod when its containers have ended
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    /// A Kubernetes Pod manifest, YAML or JSON; - is stdin. A field that one machine without
    /// Kubernetes cannot honour is an error
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "image")]
    file: Option<PathBuf>,
    /// The runtime handler
    #[arg(long, value_name = "HANDLER")]
    handler: Option<String>,
    #[command(flatten)]
    flags: Flags,
    /// The image
    #[arg(required_unless_present = "file")]
    image: Option<String>,
    /// The command and its arguments, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Runs the pod; attached, until its containers have ended or Ctrl-C ends them.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let uid = directories::new_uid()?;
    let directory = directories::of(&uid);
    let mut plan = plan_for(args, &uid, &directory)?;
    if let Some(handler) = &args.handler {
        plan.handler.clone_from(handler);
    }
    let begun = begin::begin(node, &plan, &directory).await?;
    if args.detach {
        print::line(&begun.sandbox.id)?;
        return Ok(0);
    }
    attached(node, &plan, begun, args.rm).await
}

fn plan_for(args: &Args, uid: &str, directory: &Path) -> Result<Plan, Failure> {
    if let Some(file) = &args.file {
        let text = read(file).doing(format!("read {}", file.display()))?;
        return manifest::plan(&text, uid, directory).map_err(|problems| {
            let count = problems.len();
            let doing = format!("run the pod of {}", file.display());
            Failure::new(doing, format!("{count} of its fields cannot be honoured"))
                .advise(problems.join("\n  "))
        });
    }
    let image = args.image.as_deref().unwrap_or_default();
    let missing = flags::missing_volumes(&args.flags, Path::exists);
    if let Some(path) = missing.first() {
        let doing = format!("run {image}");
        return Err(Failure::new(doing, format!("there is no {} to mount", path.display())));
    }
    let name = args.flags.name.clone().unwrap_or_else(|| flags::name_from(image, uid));
    let identity = Identity { name, namespace: "default".to_owned(), uid: uid.to_owned() };
    Ok(flags::plan(&args.flags, &identity, image, &args.command, directory))
}

fn read(file: &Path) -> std::io::Result<String> {
    if file.as_os_str() != "-" {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text)?;
    Ok(text)
}

/// Follows all containers to their ends. Ctrl-C asks them to end, follows them on, and removes the
/// pod; once more, it kills them.
async fn attached(node: &Node, plan: &Plan, begun: Begun, remove: bool) -> Outcome {
    let mut interrupt = signal(SignalKind::interrupt()).doing("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).doing("listen for signals")?;
    let several = begun.containers.len() > 1;
    let ends = try_join_all(begun.containers.iter().map(|container| {
        let prefix = several.then(|| format!("{} | ", container.name));
        let wanted = Wanted { prefix, ..Wanted::default() };
        until_end(node, &container.id, container.log.clone(), wanted)
    }));
    let mut ends = pin!(ends);
    let ended = tokio::select! {
        ended = &mut ends => Some(ended),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let pod = &begun.sandbox;
    if let Some(ended) = ended {
        let statuses = ended?;
        stop_one(node, &pod.id, &pod.id).await?;
        if remove {
            remove_one(node, pod).await?;
        }
        return Ok(code_of(&statuses));
    }
    let name = pod.metadata.as_ref().map_or("", |metadata| metadata.name.as_str());
    print::aside(&format!("isopod: stopping and removing pod {name}; Ctrl-C again kills it"));
    let stopped = tokio::select! {
        stopped = stop_all(node, &begun.containers, plan.grace.into()) => stopped,
        _ = interrupt.recv() => stop_all(node, &begun.containers, 0).await,
    };
    // What they said at their end is printed too; nothing waits for a log that cannot be read.
    let _ = ends.await;
    stopped?;
    stop_one(node, &pod.id, &pod.id).await?;
    remove_one(node, pod).await?;
    Ok(INTERRUPTED)
}

/// The first exit code that is not 0.
fn code_of(statuses: &[ContainerStatus]) -> u8 {
    let bad = statuses.iter().find(|status| status.exit_code != 0);
    if let Some(status) = bad.filter(|status| !status.message.is_empty()) {
        print::aside(&format!("isopod: {}: {}", status.reason, status.message));
    }
    bad.map_or(0, |status| u8::try_from(status.exit_code).unwrap_or(u8::MAX))
}

/// Stops the containers with `grace` seconds to end in.
async fn stop_all(node: &Node, containers: &[Running], grace: i64) -> Result<(), Failure> {
    try_join_all(containers.iter().map(async |container| {
        let request = StopContainerRequest { container_id: container.id.clone(), timeout: grace };
        let answer = node.runtime().stop_container(request).await;
        answer.doing(format!("stop container {}", container.name)).map(|_| ())
    }))
    .await
    .map(|_| ())
}
