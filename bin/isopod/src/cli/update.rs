//! `isopod update`.

use cri_api::v1::{HugepageLimit, LinuxContainerResources, UpdateContainerResourcesRequest};

use super::container::each;
use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::manifest::quantity;
use super::node::Node;
use super::print;

/// The period that a CPU limit is counted in, in microseconds; Kubernetes' own.
const CPU_PERIOD: i64 = 100_000;

/// What a container may use.
#[derive(Debug, clap::Args)]
pub struct Limits {
    /// The most CPU, in cores: 0.5, 2, 250m
    #[arg(long, value_name = "CORES", value_parser = quantity::cores)]
    pub cpus: Option<i64>,
    /// The share of CPU when all want it, against 1024 of others
    #[arg(long, value_name = "SHARES")]
    pub cpu_shares: Option<u32>,
    /// The CPUs it may run on: 0-3,8
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// The nodes whose memory it may have: 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// The most memory: 64Mi, 1G
    #[arg(long, value_name = "BYTES", value_parser = quantity::memory)]
    pub memory: Option<i64>,
    /// The most memory and swap together
    #[arg(long, value_name = "BYTES", value_parser = quantity::memory)]
    pub memory_swap: Option<i64>,
    /// The most memory in huge pages of a size, 2MB=64Mi; may be repeated
    #[arg(long, value_name = "SIZE=BYTES", value_parser = huge_pages)]
    pub hugepages: Vec<HugepageLimit>,
    /// How soon it is killed when the node has no memory left: -1000 to 1000; in an update 0 is no change
    #[arg(long, value_name = "SCORE", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i16>,
}

fn huge_pages(text: &str) -> Result<HugepageLimit, String> {
    let (size, limit) = text.split_once('=').ok_or("a size and a limit such as 2MB=64Mi")?;
    let limit = u64::try_from(quantity::memory(limit)?).map_err(|e| e.to_string())?;
    Ok(HugepageLimit { page_size: size.to_owned(), limit })
}

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    limits: Limits,
    /// Names, ids, or beginnings of ids
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Limits {
    /// As the CRI says them; what is not given stays as it is.
    pub fn resources(&self) -> LinuxContainerResources {
        let mut resources = LinuxContainerResources::default();
        if let Some(thousandths) = self.cpus {
            resources.cpu_period = CPU_PERIOD;
            resources.cpu_quota = thousandths.saturating_mul(CPU_PERIOD) / 1_000;
        }
        resources.cpu_shares = self.cpu_shares.map_or(0, i64::from);
        resources.cpuset_cpus = self.cpuset_cpus.clone().unwrap_or_default();
        resources.cpuset_mems = self.cpuset_mems.clone().unwrap_or_default();
        resources.memory_limit_in_bytes = self.memory.unwrap_or_default();
        resources.memory_swap_limit_in_bytes = self.memory_swap.unwrap_or_default();
        resources.hugepage_limits.clone_from(&self.hugepages);
        resources.oom_score_adj = self.oom_score_adj.map_or(0, i64::from);
        resources
    }
}

/// Changes the limits of containers one after the other.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let wanted = args.limits.resources();
    if wanted == LinuxContainerResources::default() {
        return Err(Failure::new("change limits", "none was given")
            .advise("give --memory, --cpus or another limit; `isopod update --help` lists them"));
    }
    each(&args.containers, async |text| {
        let request = UpdateContainerResourcesRequest {
            container_id: find::container(node, text).await?.id,
            linux: Some(wanted.clone()),
            ..Default::default()
        };
        let answer = node.runtime().update_container_resources(request).await;
        answer.doing(format!("change the limits of container {text}"))?;
        print::line(text)
    })
    .await
}
