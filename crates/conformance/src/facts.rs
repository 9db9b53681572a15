//! What the runtime says of itself before the first case: features that it declares, and so what it
//! may be asked for.

use cri_api::v1::{
    RuntimeFeatures, RuntimeHandlerFeatures, StatusRequest, VersionRequest, VersionResponse,
};
use tonic::Status;

use crate::case::Need;
use crate::options::Options;
use crate::rpc::Rpc;

/// Read once; a runtime does not change what it can do while cases run.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub version: VersionResponse,
    pub features: RuntimeFeatures,
    /// Of the handler that pods are run with.
    pub handler: RuntimeHandlerFeatures,
    pub network_ready: bool,
    is_root: bool,
}

impl Facts {
    pub(crate) async fn gather(rpc: &Rpc, options: &Options) -> Result<Self, Status> {
        let request = VersionRequest { version: cri_api::API_VERSION.to_owned() };
        let version = rpc.version(request).await?;
        let status = rpc.status(StatusRequest { verbose: false }).await?;
        let conditions = status.status.map(|status| status.conditions).unwrap_or_default();
        let of_ours =
            status.runtime_handlers.iter().find(|handler| handler.name == options.handler);
        // Only root owns the directory of process 1.
        let is_root = std::fs::read_dir("/proc/1/fd").is_ok();
        Ok(Self {
            version,
            features: status.features.unwrap_or_default(),
            handler: of_ours.and_then(|handler| handler.features).unwrap_or_default(),
            network_ready: conditions.iter().any(|c| c.r#type == "NetworkReady" && c.status),
            is_root,
        })
    }

    /// Why a need is not met, or nothing.
    pub(crate) fn lacks(&self, need: Need, options: &Options) -> Option<&'static str> {
        let (has, reason) = match need {
            Need::PodNetwork if !options.pod_network => {
                (false, "the suite was told that pods have no network of their own here")
            }
            Need::PodNetwork => (self.network_ready, "the runtime says NetworkReady is false"),
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
        (!has).then_some(reason)
    }
}
