//! `isopod attach`.

use cri_api::v1::{AttachRequest, ContainerStatusRequest};
use cri_streaming::server::Streams;
use serde_json::Value;

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::stream::detach::{self, Keys};
use super::stream::{
    self,
    attend::{Left, attend},
};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pass standard input on
    #[arg(long, short)]
    interactive: bool,
    /// The container has a terminal; found out by itself on an Isopod
    #[arg(long, short)]
    tty: bool,
    /// Keys that leave the container as it is, at its terminal
    #[arg(
        long,
        default_value = "ctrl-p,ctrl-q",
        value_parser = detach::parse,
        value_name = "KEYS"
    )]
    detach_keys: Keys,
    #[command(flatten)]
    stream: stream::Options,
    /// A name, an id, or the beginning of one
    container: String,
}

/// Shows what the container writes from now on, until it ends or is left.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let container_id = find::container(node, &args.container).await?.id;
    let doing = format!("attach to container {}", args.container);
    let tty = args.tty || has_terminal(node, &container_id, &doing).await?;
    let stdin = args.interactive;
    let streams = Streams { tty, stdin, stdout: true, stderr: !tty };
    let request = AttachRequest { container_id, tty, stdin, stdout: true, stderr: !tty };
    let url =
        async || Ok(node.runtime().attach(request.clone()).await.doing(&doing)?.into_inner().url);
    attend(url, streams, &args.stream, Some(&args.detach_keys), &doing).await.map(Left::code)
}

/// The CRI does not say it, but a runtime may in the verbose part of the status.
async fn has_terminal(node: &Node, id: &str, doing: &str) -> Result<bool, Failure> {
    let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: true };
    let answer = node.runtime().container_status(request).await.doing(doing)?.into_inner();
    let said = answer.info.values().filter_map(|text| serde_json::from_str::<Value>(text).ok());
    let mut specs = said.map(|info| {
        let own = info.pointer("/process/terminal").or_else(|| info.get("tty"));
        let nested = info.pointer("/runtimeSpec/process/terminal");
        own.or(nested).and_then(Value::as_bool).unwrap_or(false)
    });
    Ok(specs.any(|terminal| terminal))
}
