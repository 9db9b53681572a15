//! The command line: every verb that talks to a runtime, one file each.
//!
//! Owns: what verbs ask, and how answers look.
//! Always: a verb needs nothing but the socket (`logs` and `run` also read log files of this
//! machine), so it drives any CRI runtime; what goes wrong is told with its cause and a way out.
//! Callers: `main`.

mod archive;
mod attach;
mod check;
mod completions;
mod connect;
mod container;
mod cp;
mod events;
mod exec;
mod explain;
mod failure;
mod families;
mod find;
mod follow;
mod image;
mod image_upkeep;
mod images;
mod inspect;
mod load;
mod logs;
mod manifest;
mod metrics;
mod network;
mod node;
mod operations;
mod patience;
mod pods;
mod port_forward;
pub mod print;
mod ps;
mod pull;
mod push;
mod reload;
mod run;
mod sandbox;
mod save;
mod stats;
mod status;
mod stream;
mod text;
mod timeline;
mod top;
mod update;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Subcommand};

use failure::{EXIT_FAILURE, Failure, Outcome};
pub use node::{Node, Trace};
pub use patience::Patience;
pub use print::Form;

/// Marks a failure that is none: whoever read our output has gone.
const READER_IS_GONE: &str = "\0reader is gone";

/// Options of every verb.
#[derive(Debug, Args)]
pub struct Globals {
    /// The runtime's socket: a path, or unix://PATH; else what ISOPOD_ENDPOINT names, else the
    /// configuration. `isopod daemon` serves there, and does not look at ISOPOD_ENDPOINT
    #[arg(
        long = "endpoint",
        visible_alias = "socket",
        global = true,
        value_name = "SOCKET",
        value_parser = connect::parse_endpoint
    )]
    pub socket: Option<PathBuf>,
    /// Print for people, or for programs
    #[arg(long, short, global = true, value_enum, default_value_t = Form::Table, value_name = "FORM")]
    pub output: Form,
    /// Say afterwards where the daemon's time went, phase by phase
    #[arg(long, global = true)]
    pub timeline: bool,
    /// How long to wait for an answer that should come at once, such as a status, a list or
    /// statistics: 500ms, 30s, 2m, or 0 for as long as it takes
    #[arg(
        long,
        global = true,
        default_value = patience::DEFAULT,
        value_name = "TIME",
        value_parser = Patience::parse
    )]
    pub request_timeout: Patience,
}

impl Globals {
    /// The socket that somebody names: the flag, else the environment.
    ///
    /// # Errors
    /// The environment names what is no socket.
    pub fn endpoint(&self) -> Result<Option<PathBuf>, String> {
        connect::given(self.socket.as_deref())
    }
}

/// A verb that talks to a runtime.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run an image in a pod of its own, or a Kubernetes Pod manifest
    Run(Box<run::Args>),
    /// List pods
    Pods(pods::Args),
    /// List containers
    Ps(ps::Args),
    /// Show what a container has written
    Logs(logs::Args),
    /// Run a command in a container that runs
    Exec(exec::Args),
    /// Take part in what a container that runs reads and writes
    Attach(attach::Args),
    /// Connect ports of this machine with ports of a pod
    PortForward(port_forward::Args),
    /// Copy files into a container, or out of it
    Cp(cp::Args),
    /// Stop containers
    Stop(container::StopArgs),
    /// Remove containers
    Rm(container::RemoveArgs),
    /// Stop pods, with all their containers
    Stopp(sandbox::StopArgs),
    /// Remove pods, with all their containers
    Rmp(sandbox::RemoveArgs),
    /// Change the limits of a container that runs
    Update(update::Args),
    /// Show everything about containers
    Inspect(inspect::Args),
    /// Show everything about pods
    Inspectp(inspect::Args),
    /// Show everything about images
    Inspecti(inspect::Args),
    /// Fetch images from their registries
    Pull(pull::Args),
    /// List images
    Images(images::Args),
    /// Remove images
    Rmi(image::RemoveArgs),
    /// Give an image one more name
    Tag(image::TagArgs),
    /// Send an image to a registry
    Push(push::Args),
    /// Look after the images of the node
    Image(image_upkeep::Args),
    /// Take images from an archive
    Load(load::Args),
    /// Write images to an archive
    Save(save::Args),
    /// Show how much disk images and containers use
    Imagefsinfo,
    /// Show what containers, or pods, use of the machine
    Stats(stats::Args),
    /// Show what pods and containers use, live
    Top(top::Args),
    /// Show what happens, as it happens
    Events,
    /// Show whether the runtime and its network are ready
    #[command(visible_alias = "info")]
    Status,
    /// Try whether a runtime keeps the rules of the CRI
    Check(Box<check::Args>),
    /// Show what the daemon is doing now
    Operations(operations::Args),
    /// Show why a pod, a container or an operation is as it is
    Explain(explain::Args),
    /// Show metrics of the daemon, or of its pods, as Prometheus reads them
    Metrics(metrics::Args),
    /// Look after the networks of pods
    Network(network::Args),
    /// Have the daemon read its configuration again
    Reload,
    /// Show the versions of this program and of the runtime
    Version,
    /// Print a script that completes verbs and options in a shell
    Completions(completions::Args),
}

/// Does what `verb` says on the runtime at the socket that `globals` name, else at the one that the
/// configuration names.
pub fn run(verb: Verb, globals: &Globals) -> ExitCode {
    if let Verb::Completions(args) = &verb {
        completions::run(args, crate::Isopod::command());
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(perform(verb, globals));
            // A read of standard input that never ends holds nobody.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::caused("start", &error)),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let report = failure.report();
            if !report.contains(READER_IS_GONE) {
                // Nothing is left to be done when even this cannot be written.
                let _ = std::io::stderr().lock().write_all(report.as_bytes());
            }
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

async fn perform(verb: Verb, globals: &Globals) -> Outcome {
    let form = globals.output;
    if let Verb::Check(args) = &verb
        && let Some(outcome) = check::without_a_runtime(args)
    {
        return outcome;
    }
    let trace = if globals.timeline { Trace::begin()? } else { Trace::default() };
    let given =
        globals.endpoint().map_err(|why| Failure::new("tell which socket is meant", why))?;
    let socket = connect::socket(given.as_deref());
    let node = Node::connect(&socket, trace.clone(), globals.request_timeout).await;
    // The version of this program is told without a runtime too.
    if matches!(verb, Verb::Version) {
        return status::version(node, form).await;
    }
    let node = node?;
    let outcome = on(&node, verb, form).await;
    if let Some(trace) = trace.id() {
        match timeline::of_call(&node, trace).await {
            Ok(text) => print::aside(text.trim_end()),
            Err(failure) => print::aside(failure.report().trim_end()),
        }
    }
    outcome
}

/// Does it on a runtime that answers.
async fn on(node: &Node, verb: Verb, form: Form) -> Outcome {
    match verb {
        Verb::Run(args) => Box::pin(run::run(node, &args)).await,
        Verb::Pods(args) => pods::run(node, &args, form).await,
        Verb::Ps(args) => ps::run(node, &args, form).await,
        Verb::Logs(args) => logs::run(node, &args).await,
        Verb::Exec(args) => exec::run(node, &args).await,
        Verb::Attach(args) => attach::run(node, &args).await,
        Verb::PortForward(args) => port_forward::run(node, &args).await,
        Verb::Cp(args) => cp::run(node, &args).await,
        Verb::Stop(args) => container::stop(node, &args).await,
        Verb::Rm(args) => container::remove(node, &args).await,
        Verb::Stopp(args) => sandbox::stop(node, &args).await,
        Verb::Rmp(args) => sandbox::remove(node, &args).await,
        Verb::Update(args) => update::run(node, &args).await,
        Verb::Inspect(args) => inspect::containers(node, &args, form).await,
        Verb::Inspectp(args) => inspect::sandboxes(node, &args, form).await,
        Verb::Inspecti(args) => inspect::images(node, &args, form).await,
        Verb::Pull(args) => pull::run(node, &args).await,
        Verb::Images(args) => images::run(node, &args, form).await,
        Verb::Rmi(args) => image::remove(node, &args).await,
        Verb::Tag(args) => image::tag(node, &args).await,
        Verb::Push(args) => push::run(node, &args).await,
        Verb::Image(args) => image_upkeep::run(node, &args, form).await,
        Verb::Load(args) => load::run(node, &args, form).await,
        Verb::Save(args) => save::run(node, &args).await,
        Verb::Imagefsinfo => image::fs_info(node, form).await,
        Verb::Stats(args) => stats::run(node, &args, form).await,
        Verb::Top(args) => top::run(node, &args, form).await,
        Verb::Events => events::run(node, form).await,
        Verb::Status => status::status(node, form).await,
        Verb::Check(args) => check::run(node, *args).await,
        Verb::Operations(args) => operations::run(node, &args, form).await,
        Verb::Explain(args) => explain::run(node, &args, form).await,
        Verb::Metrics(args) => metrics::run(node, &args, form).await,
        Verb::Network(args) => network::run(node, &args, form).await,
        Verb::Reload => reload::run(node, form).await,
        // Both were done before there was a connection.
        Verb::Version | Verb::Completions(_) => Ok(0),
    }
}
