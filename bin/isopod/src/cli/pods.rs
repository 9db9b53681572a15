//! `isopod pods`.

use cri_api::v1::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter, PodSandboxState,
    PodSandboxStateValue, PodSandboxStatusRequest,
};

use super::failure::{Doing, Failure, Outcome};
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{age, now, parse_label, short};

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
    /// Only pods that are ready
    #[arg(long)]
    ready: bool,
    /// Only pods with this label; may be repeated
    #[arg(long, short, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    /// Show addresses too; each pod is asked for its own
    #[arg(long, short)]
    wide: bool,
    /// Print ids in full
    #[arg(long)]
    no_trunc: bool,
}

/// Lists pods, the newest first.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
    let filter = PodSandboxFilter {
        id: String::new(),
        state: args.ready.then_some(ready),
        label_selector: args.label.iter().cloned().collect(),
    };
    let request = ListPodSandboxRequest { filter: Some(filter) };
    let mut items =
        node.runtime().list_pod_sandbox(request).await.doing("list pods")?.into_inner().items;
    items.sort_by_key(|pod| std::cmp::Reverse(pod.created_at));
    match form {
        Form::Table if args.quiet => {
            items.iter().try_for_each(|pod| print::line(shown(&pod.id, args)))?;
        }
        Form::Table => table(node, &items, args).await?,
        Form::Json | Form::Yaml => {
            let answer = ListPodSandboxResponse { items };
            print::value(&print::json_of(&answer, "ListPodSandboxResponse")?, form)?;
        }
    }
    Ok(0)
}

async fn table(node: &Node, items: &[PodSandbox], args: &Args) -> Result<(), Failure> {
    let mut columns = vec!["POD ID", "NAME", "NAMESPACE", "STATE", "AGE"];
    if args.wide {
        columns.extend(["HANDLER", "ADDRESSES"]);
    }
    let mut rows = Rows::new(&columns);
    let now = now();
    for pod in items {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let state = match pod.state() {
            PodSandboxState::SandboxReady => "Ready",
            PodSandboxState::SandboxNotready => "NotReady",
        };
        let mut cells = vec![
            shown(&pod.id, args).to_owned(),
            metadata.name,
            metadata.namespace,
            state.to_owned(),
            age(pod.created_at, now),
        ];
        if args.wide {
            cells.push(match pod.runtime_handler.as_str() {
                "" => "default".to_owned(),
                named => named.to_owned(),
            });
            cells.push(addresses(node, &pod.id).await.join(", "));
        }
        rows.add(cells);
    }
    rows.print()
}

/// A pod's addresses; none of a pod that has gone since it was listed.
pub async fn addresses(node: &Node, id: &str) -> Vec<String> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
    let answer = node.runtime().pod_sandbox_status(request).await;
    let network = answer.ok().and_then(|a| a.into_inner().status).and_then(|s| s.network);
    let Some(network) = network else { return Vec::new() };
    let more = network.additional_ips.into_iter().map(|address| address.ip);
    std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect()
}

fn shown<'a>(id: &'a str, args: &Args) -> &'a str {
    if args.no_trunc || args.quiet { id } else { short(id) }
}
