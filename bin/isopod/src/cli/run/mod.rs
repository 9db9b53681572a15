//! `isopod run`: a pod from options or from a manifest, begun, followed, ended.
//!
//! Always: what fails on the way to a pod that runs leaves nothing of it.

mod begin;
mod directories;
mod flags;
mod plan;
mod typing;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::pin;

use cri_api::v1::{
    ContainerStatus, ListPodSandboxRequest, PodSandbox, PodSandboxMetadata, PodSandboxState,
    StopContainerRequest,
};
use futures_util::future::try_join_all;
use tokio::signal::unix::{SignalKind, signal};

pub use directories::forget;
pub use plan::{Identity, Plan, Planned, PullWhen, UserRule, privilege, profile, volumes};

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::follow::{Wanted, until_end};
use super::manifest;
use super::node::Node;
use super::print;
use super::sandbox::{remove_one, stop_one};
use super::stream;
use super::text::short;
use begin::{Begun, Running};
use flags::Flags;

/// The namespace of pods without a manifest.
const NAMESPACE: &str = "default";
/// Digits of the beginning of an image's id.
const SHORTEST_ID: usize = 6;
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
    #[command(flatten)]
    stream: stream::Options,
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
    for planned in &mut plan.containers {
        if let Some(image) = &mut planned.config.image
            && let Some(id) = by_id(node, &image.image).await
        {
            image.image = id;
        }
    }
    if let Some(handler) = &args.handler {
        plan.handler.clone_from(handler);
    }
    if (args.flags.name.is_some() || args.file.is_some())
        && let Some(metadata) = &plan.sandbox.metadata
    {
        // A manifest is run again when what it asked for has ended.
        is_free(node, metadata, args.file.is_some()).await?;
    }
    // Who is attached is the only one who will type; what is left alone waits for somebody to attach.
    for planned in &mut plan.containers {
        planned.config.stdin_once = planned.config.stdin && !args.detach;
    }
    let begun = begin::begin(node, &plan, &directory).await?;
    if args.detach {
        print::line(&begun.sandbox.id)?;
        return Ok(0);
    }
    let typed = args.flags.interactive.then_some(&args.stream);
    match (typed, begun.containers.as_slice()) {
        (Some(options), [container]) if args.flags.tty => {
            let terminal = typing::at_terminal(node, container, options);
            match terminal.await {
                Ok(Some(status)) => ended(node, &begun.sandbox, &[status], args.rm).await,
                Ok(None) => Ok(0),
                Err(failure) => {
                    stop_all(node, &begun.containers, 0).await?;
                    stop_one(node, &begun.sandbox.id, &begun.sandbox.id).await?;
                    if args.rm {
                        remove_one(node, &begun.sandbox).await?;
                    }
                    Err(failure)
                }
            }
        }
        _ => attached(node, &plan, begun, args.rm, typed).await,
    }
}

/// The full id, for the beginning of one of an image that is here. A name may look like that too, but no
/// registry has to be asked for what is meant then.
async fn by_id(node: &Node, text: &str) -> Option<String> {
    let is_id = text.len() >= SHORTEST_ID && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { find::image(node, text).await.ok() } else { None }
}

/// Two pods of one name would be hard to tell apart. With `beside_ended` only one that is ready has its name.
async fn is_free(
    node: &Node,
    wanted: &PodSandboxMetadata,
    beside_ended: bool,
) -> Result<(), Failure> {
    let (namespace, name) = (&wanted.namespace, &wanted.name);
    let doing = format!("run pod {namespace}/{name}");
    let request = ListPodSandboxRequest::default();
    let all = node.runtime().list_pod_sandbox(request).await.doing(&doing)?.into_inner().items;
    let has_it = |pod: &&PodSandbox| {
        let is_called = |own: &PodSandboxMetadata| own.namespace == *namespace && own.name == *name;
        pod.metadata.as_ref().is_some_and(is_called)
            && !(beside_ended && pod.state() == PodSandboxState::SandboxNotready)
    };
    match all.iter().find(has_it) {
        Some(pod) => {
            let id = short(&pod.id);
            Err(Failure::new(doing, format!("there is one of this name, {id}"))
                .advise(format!("`isopod rmp -f {id}` removes it")))
        }
        None => Ok(()),
    }
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
    let identity = Identity { name, namespace: NAMESPACE.to_owned(), uid: uid.to_owned() };
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
/// pod; once more, it kills them. With options for `typed`, what is typed goes to the container.
async fn attached(
    node: &Node,
    plan: &Plan,
    begun: Begun,
    remove: bool,
    typed: Option<&stream::Options>,
) -> Outcome {
    let mut interrupt = signal(SignalKind::interrupt()).doing("listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).doing("listen for signals")?;
    let several = begun.containers.len() > 1;
    let ends = try_join_all(begun.containers.iter().map(|container| {
        let prefix = several.then(|| format!("{} | ", container.name));
        let wanted = Wanted { prefix, ..Wanted::default() };
        until_end(node, &container.id, container.log.clone(), wanted)
    }));
    let mut ends = pin!(ends);
    let typing = typing::pass_on(node, begun.containers.first(), typed);
    let over = tokio::select! {
        over = &mut ends => Some(over),
        () = typing => None,
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let pod = &begun.sandbox;
    if let Some(over) = over {
        return ended(node, pod, &over?, remove).await;
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

/// The pod's end, when its containers have ended.
async fn ended(
    node: &Node,
    pod: &PodSandbox,
    statuses: &[ContainerStatus],
    remove: bool,
) -> Outcome {
    stop_one(node, &pod.id, &pod.id).await?;
    if remove {
        remove_one(node, pod).await?;
    }
    Ok(code_of(statuses))
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
