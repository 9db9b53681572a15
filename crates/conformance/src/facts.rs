//! What the runtime says of itself before the first case: features that it declares, and so what it
//! may be asked for.

use std::time::{Duration, Instant};

use cri_api::v1::{
    RuntimeCondition, RuntimeFeatures, RuntimeHandlerFeatures, StatusRequest, StatusResponse,
    VersionRequest, VersionResponse,
};
use tonic::Status;

use crate::case::Need;
use crate::options::Options;
use crate::rpc::Rpc;

/// How long a runtime that has just been started may take until its network is ready; who has none to wait for
/// loses this much once.
const NETWORK_WITHIN: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Read once; a runtime does not change what it can do while cases run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub version: VersionResponse,
    pub features: RuntimeFeatures,
    /// Of the handler that pods are run with.
    pub handler: RuntimeHandlerFeatures,
    /// Why pods get no network of their own; nothing where they do.
    no_network: Option<String>,
    is_root: bool,
}

impl Facts {
    pub(crate) async fn gather(rpc: &Rpc, options: &Options) -> Result<Self, Status> {
        let request = VersionRequest { version: cri_api::API_VERSION.to_owned() };
        let version = rpc.version(request).await?;
        let (status, no_network) = settled(rpc, options.pod_network).await?;
        let of_ours =
            status.runtime_handlers.iter().find(|handler| handler.name == options.handler);
        // Only root owns the directory of process 1.
        let is_root = std::fs::read_dir("/proc/1/fd").is_ok();
        Ok(Self {
            version,
            features: status.features.unwrap_or_default(),
            handler: of_ours.and_then(|handler| handler.features).unwrap_or_default(),
            no_network,
            is_root,
        })
    }

    /// Why a need is not met, or nothing.
    pub(crate) fn lacks(&self, need: Need, options: &Options) -> Option<String> {
        let (has, reason) = match need {
            Need::PodNetwork if !options.pod_network => {
                (false, "the suite was told that pods have no network of their own here")
            }
            Need::PodNetwork => return self.no_network.clone(),
            Need::UserNamespaces => {
                (self.handler.user_namespaces, "the handler declares no user namespaces")
            }
            Need::RecursiveReadOnly => (
                self.handler.recursive_read_only_mounts,
                "the handler declares no recursive read-only mounts",
            ),
            Need::GroupsPolicy => (
                self.features.supplemental_groups_policy,
                "the runtime does not declare supplemental_groups_policy",
            ),
            Need::MountOptions => {
                (self.features.mount_options, "the runtime does not declare mount_options")
            }
            Need::Restart => {
                (options.restart.is_some(), "the suite was not told how to restart the runtime")
            }
            Need::OwnRegistry => (
                options.registry.is_none(),
                "the registry was given, and cannot be told how to behave",
            ),
            Need::Root => (self.is_root, "the suite does not run as root of the node"),
        };
        (!has).then(|| reason.to_owned())
    }
}

/// The runtime's status once its network is ready, and why it is not where it does not become so in time.
async fn settled(rpc: &Rpc, wait: bool) -> Result<(StatusResponse, Option<String>), Status> {
    let until = Instant::now() + NETWORK_WITHIN;
    loop {
        let status = rpc.status(StatusRequest { verbose: false }).await?;
        let no_network = no_network(&status);
        if no_network.is_none() || !wait || Instant::now() >= until {
            return Ok((status, no_network));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Why a status says that pods get no network.
fn no_network(status: &StatusResponse) -> Option<String> {
    let conditions = status.status.as_ref().map(|status| status.conditions.as_slice());
    let network = |one: &&RuntimeCondition| one.r#type == "NetworkReady";
    match conditions.unwrap_or_default().iter().find(network) {
        Some(condition) if condition.status => None,
        Some(RuntimeCondition { reason, message, .. }) => {
            Some(format!("the runtime says NetworkReady is false: {reason}: {message}"))
        }
        None => Some("the runtime says nothing of NetworkReady".to_owned()),
    }
}
