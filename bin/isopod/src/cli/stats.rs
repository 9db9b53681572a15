//! `isopod stats`.

use std::time::Duration;

use cri_api::v1::{
    ContainerStats, ContainerStatsFilter, ListContainerStatsRequest, ListContainerStatsResponse,
    UInt64Value,
};

use super::failure::{Doing, Outcome};
use super::find::{self, POD_NAME};
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{bytes, short};

/// Between two measurements; more than the time for which the daemon keeps one.
const SECOND_LOOK: Duration = Duration::from_millis(1100);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only containers of this pod
    #[arg(long, short, value_name = "POD")]
    pod: Option<String>,
}

/// Prints what each container uses now.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let pod_sandbox_id = match &args.pod {
        Some(text) => find::sandbox(node, text).await?.id,
        None => String::new(),
    };
    let filter = ContainerStatsFilter { pod_sandbox_id, ..Default::default() };
    let request = ListContainerStatsRequest { filter: Some(filter) };
    let answer = node.runtime().list_container_stats(request.clone()).await;
    let mut stats = answer.doing("read statistics")?.into_inner().stats;
    if stats.iter().any(has_no_rate) {
        // A rate needs two measurements, and nobody has asked for one before.
        tokio::time::sleep(SECOND_LOOK).await;
        let answer = node.runtime().list_container_stats(request).await;
        stats = answer.doing("read statistics")?.into_inner().stats;
    }
    if form != Form::Table {
        let answer = ListContainerStatsResponse { stats };
        print::value(&print::json_of(&answer, "ListContainerStatsResponse")?, form)?;
        return Ok(0);
    }
    let columns = ["CONTAINER ID", "NAME", "POD", "CPU", "MEMORY", "DISK", "INODES"];
    let mut rows = Rows::new(&columns);
    stats.iter().for_each(|one| rows.add(row(one)));
    rows.print()?;
    Ok(0)
}

/// Whether it uses CPU time and nobody knows how much in a second.
fn has_no_rate(stats: &ContainerStats) -> bool {
    stats.cpu.as_ref().is_some_and(|cpu| cpu.usage_nano_cores.is_none())
}

fn row(stats: &ContainerStats) -> [String; 7] {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let pod = attributes.labels.get(POD_NAME).cloned().unwrap_or_default();
    let cores = stats.cpu.as_ref().and_then(|cpu| cpu.usage_nano_cores.as_ref());
    let memory = stats.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref());
    let layer = stats.writable_layer.as_ref();
    [
        short(&attributes.id).to_owned(),
        attributes.metadata.unwrap_or_default().name,
        pod,
        // Thousandths of a core, as Kubernetes counts.
        shown(cores, |nano| format!("{}m", nano.div_ceil(1_000_000))),
        shown(memory, bytes),
        shown(layer.and_then(|layer| layer.used_bytes.as_ref()), bytes),
        shown(layer.and_then(|layer| layer.inodes_used.as_ref()), |count| count.to_string()),
    ]
}

/// A value that was not measured is a dash.
fn shown(value: Option<&UInt64Value>, form: impl Fn(u64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), |value| form(value.value))
}
