//! `isopod exec`.

use std::io;

use cri_api::v1::{ExecRequest, ExecSyncRequest};
use cri_streaming::server::Streams;

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::print;
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
    /// Give the command a terminal
    #[arg(long, short)]
    tty: bool,
    /// Seconds until the command and its children are killed, and only then print; 0 for no limit
    #[arg(
        long,
        default_value_t = 0,
        value_name = "SECONDS",
        conflicts_with_all = ["interactive", "tty"]
    )]
    timeout: u32,
    #[command(flatten)]
    stream: stream::Options,
    /// A name, an id, or the beginning of one
    container: String,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    command: Vec<String>,
}

/// Runs the command to its end, prints what it writes, and ends as it does.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let container_id = find::container(node, &args.container).await?.id;
    let doing = format!("run {:?} in container {}", args.command[0], args.container);
    if args.timeout > 0 {
        return bounded(node, args, container_id, &doing).await;
    }
    let Args { interactive: stdin, tty, .. } = *args;
    let streams = Streams { tty, stdin, stdout: true, stderr: !tty };
    let url = async || url(node, container_id.clone(), args.command.clone(), streams, &doing).await;
    attend(url, streams, &args.stream, None, &doing).await.map(Left::code)
}

/// The URL of an exec's streams.
pub async fn url(
    node: &Node,
    container_id: String,
    cmd: Vec<String>,
    streams: Streams,
    doing: &str,
) -> Result<String, Failure> {
    let Streams { tty, stdin, stdout, stderr } = streams;
    let request = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    Ok(node.runtime().exec(request).await.doing(doing)?.into_inner().url)
}

async fn bounded(node: &Node, args: &Args, container_id: String, doing: &str) -> Outcome {
    let request =
        ExecSyncRequest { container_id, cmd: args.command.clone(), timeout: args.timeout.into() };
    let answer = node.runtime().exec_sync(request).await.doing(doing)?.into_inner();
    print::bytes(&answer.stderr, &mut io::stderr().lock())?;
    print::bytes(&answer.stdout, &mut io::stdout().lock())?;
    // Linux keeps eight bits of an exit code.
    u8::try_from(answer.exit_code)
        .map_err(|_| Failure::new(doing, format!("its exit code is {}", answer.exit_code)))
}
