//! `isopod stats`: what containers use, or pods.

use std::collections::BTreeMap;
use std::time::Duration;

use cri_api::v1::{
    ContainerStats, ContainerStatsFilter, CpuUsage, ListContainerStatsRequest,
    ListContainerStatsResponse, ListContainersRequest, ListPodSandboxStatsRequest,
    ListPodSandboxStatsResponse, PodSandboxStats, PodSandboxStatsFilter, UInt64Value,
};

use super::failure::{Doing, Failure, Outcome};
use super::find::{self, PodNames};
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{bytes, short};

/// Between two measurements; more than the time for which the daemon keeps one.
const SECOND_LOOK: Duration = Duration::from_millis(1100);

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this pod, or the containers of it
    #[arg(long, short, value_name = "POD")]
    pod: Option<String>,
    /// Show pods instead of containers
    #[arg(long)]
    pods: bool,
}

/// Prints what each container uses now, or each pod.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let id = match &args.pod {
        Some(text) => find::sandbox(node, text).await?.id,
        None => String::new(),
    };
    if args.pods { of_pods(node, id, form).await } else { of_containers(node, id, form).await }
}

async fn of_containers(node: &Node, pod_sandbox_id: String, form: Form) -> Outcome {
    let filter = ContainerStatsFilter { pod_sandbox_id, ..Default::default() };
    let request = ListContainerStatsRequest { filter: Some(filter) };
    let answer = node.runtime().list_container_stats(request.clone()).await;
    let mut stats = answer.doing("read statistics")?.into_inner().stats;
    if stats.iter().any(|one| has_no_rate(one.cpu.as_ref())) {
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
    let pods = pods_of_containers(node).await?;
    let columns = ["CONTAINER ID", "NAME", "POD", "CPU (CORES)", "MEMORY", "DISK", "INODES"];
    let mut rows = Rows::new(&columns);
    stats.iter().for_each(|one| rows.add(row(one, &pods)));
    rows.print()?;
    Ok(0)
}

/// The name of each container's pod, by the container's id: statistics do not tell it.
async fn pods_of_containers(node: &Node) -> Result<BTreeMap<String, String>, Failure> {
    let names = PodNames::list(node).await?;
    let request = ListContainersRequest { filter: None };
    let all = node.runtime().list_containers(request).await.doing("list containers")?;
    let named = all.into_inner().containers.into_iter().filter_map(|one| {
        let (_, pod) = names.of_container(&one.pod_sandbox_id, &one.labels)?;
        Some((one.id, pod))
    });
    Ok(named.collect())
}

async fn of_pods(node: &Node, id: String, form: Form) -> Outcome {
    let filter = PodSandboxStatsFilter { id, ..Default::default() };
    let request = ListPodSandboxStatsRequest { filter: Some(filter) };
    let answer = node.runtime().list_pod_sandbox_stats(request.clone()).await;
    let mut stats = answer.doing("read statistics of pods")?.into_inner().stats;
    if stats.iter().any(|one| has_no_rate(one.linux.as_ref().and_then(|l| l.cpu.as_ref()))) {
        tokio::time::sleep(SECOND_LOOK).await;
        let answer = node.runtime().list_pod_sandbox_stats(request).await;
        stats = answer.doing("read statistics of pods")?.into_inner().stats;
    }
    if form != Form::Table {
        let answer = ListPodSandboxStatsResponse { stats };
        print::value(&print::json_of(&answer, "ListPodSandboxStatsResponse")?, form)?;
        return Ok(0);
    }
    let columns =
        ["POD ID", "NAME", "NAMESPACE", "CPU (CORES)", "MEMORY", "RECEIVED", "SENT", "PROCESSES"];
    let mut rows = Rows::new(&columns);
    stats.iter().for_each(|one| rows.add(row_of_pod(one)));
    rows.print()?;
    Ok(0)
}

/// Whether it uses CPU time and nobody knows how much in a second.
fn has_no_rate(cpu: Option<&CpuUsage>) -> bool {
    cpu.is_some_and(|cpu| cpu.usage_nano_cores.is_none())
}

/// Thousandths of a core, as Kubernetes counts.
fn cores(cpu: Option<&CpuUsage>) -> String {
    let cores = cpu.and_then(|cpu| cpu.usage_nano_cores.as_ref());
    shown(cores, |nano| format!("{}m", nano.div_ceil(1_000_000)))
}

fn row_of_pod(stats: &PodSandboxStats) -> [String; 8] {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let metadata = attributes.metadata.unwrap_or_default();
    let linux = stats.linux.clone().unwrap_or_default();
    let memory = linux.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref());
    let network = linux.network.as_ref().and_then(|network| network.default_interface.as_ref());
    let processes = linux.process.as_ref().and_then(|process| process.process_count.as_ref());
    [
        short(&attributes.id).to_owned(),
        metadata.name,
        metadata.namespace,
        cores(linux.cpu.as_ref()),
        shown(memory, bytes),
        shown(network.and_then(|one| one.rx_bytes.as_ref()), bytes),
        shown(network.and_then(|one| one.tx_bytes.as_ref()), bytes),
        shown(processes, |count| count.to_string()),
    ]
}

fn row(stats: &ContainerStats, pods: &BTreeMap<String, String>) -> [String; 7] {
    let attributes = stats.attributes.clone().unwrap_or_default();
    let pod = pods.get(&attributes.id).cloned().unwrap_or_default();
    let memory = stats.memory.as_ref().and_then(|memory| memory.working_set_bytes.as_ref());
    let layer = stats.writable_layer.as_ref();
    [
        short(&attributes.id).to_owned(),
        attributes.metadata.unwrap_or_default().name,
        pod,
        cores(stats.cpu.as_ref()),
        shown(memory, bytes),
        shown(layer.and_then(|layer| layer.used_bytes.as_ref()), bytes),
        shown(layer.and_then(|layer| layer.inodes_used.as_ref()), |count| count.to_string()),
    ]
}

/// A value that was not measured is a dash.
fn shown(value: Option<&UInt64Value>, form: impl Fn(u64) -> String) -> String {
    value.map_or_else(|| "-".to_owned(), |value| form(value.value))
}
