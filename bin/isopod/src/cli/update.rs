//! `isopod update`.

use cri_api::v1::{LinuxContainerResources, UpdateContainerResourcesRequest};

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
    /// The most memory: 64Mi, 1G
    #[arg(long, value_name = "BYTES", value_parser = quantity::memory)]
    pub memory: Option<i64>,
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
        resources.memory_limit_in_bytes = self.memory.unwrap_or_default();
        resources
    }
}

/// Changes the limits of containers one after the other.
pub async fn run(node: &Node, args: &Args) -> Outcome {
    let wanted = args.limits.resources();
    if wanted == LinuxContainerResources::default() {
        return Err(Failure::new("change limits", "none was given")
            .advise("give --memory, --cpus, --cpu-shares or --cpuset-cpus"));
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
