//! `isopod exec`.

use std::io;

use cri_api::v1::ExecSyncRequest;

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::print;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Seconds until the command and its children are killed; 0 for no limit
    #[arg(long, short, default_value_t = 0, value_name = "SECONDS")]
    timeout: u32,
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

/// Runs the command to its end, prints what it wrote, and ends as it did.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let container = find::container(node, &args.container).await?;
    let request = ExecSyncRequest {
        container_id: container.id,
        cmd: args.command.clone(),
        timeout: args.timeout.into(),
    };
    let doing = format!("run {:?} in container {}", args.command[0], args.container);
    let answer = node.runtime().exec_sync(request).await.doing(&doing)?.into_inner();
    print::bytes(&answer.stderr, &mut io::stderr().lock())?;
    print::bytes(&answer.stdout, &mut io::stdout().lock())?;
    // Linux keeps eight bits of an exit code.
    u8::try_from(answer.exit_code)
        .map_err(|_| Failure::new(doing, format!("its exit code is {}", answer.exit_code)))
}
