//! The networks of this node, for everybody outside this crate.

use std::sync::Arc;

use ipnet::IpNet;
use model::SandboxId;

use crate::attachment::{Attached, Attachment};
use crate::config::NetworkConfig;
use crate::error::NetworkError;
use crate::netns::Netns;
use crate::status::{InterfaceStats, NetworkStatus, Reason};

/// What a collection found and gave back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Collected {
    /// Sandboxes whose leftovers are gone now.
    pub freed: Vec<SandboxId>,
    /// Sandboxes whose leftovers are still there, and why; the next collection tries again.
    pub left: Vec<(SandboxId, String)>,
}

/// The networks of this node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Networks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: NetworkConfig,
}

impl Networks {
    /// Takes up the records of an earlier start and begins to watch the configuration. To be called
    /// inside a tokio runtime. A network that is not usable yet is no error: [`Networks::status`] tells.
    ///
    /// # Errors
    /// A configuration that cannot work, or records that cannot be opened.
    pub fn new(config: NetworkConfig) -> Result<Self, NetworkError> {
        Ok(Self { inner: Arc::new(Inner { config }) })
    }

    /// Whether sandboxes can get a network now. Never waits.
    #[must_use]
    pub fn status(&self) -> NetworkStatus {
        let message = format!("{:?}", self.inner.config.mode);
        NetworkStatus { ready: false, reason: Reason::NoConfiguration, message }
    }

    /// The pod address ranges that the kubelet tells (`UpdateRuntimeConfig`).
    ///
    /// # Errors
    /// When the configuration made from them cannot be written.
    pub async fn set_pod_cidrs(&self, cidrs: Vec<IpNet>) -> Result<(), NetworkError> {
        let _ = cidrs;
        Ok(())
    }

    /// A new network namespace for this sandbox, pinned under a stable name, its loopback up.
    ///
    /// # Errors
    /// [`NetworkError::Netns`]; nothing is left of it then.
    pub async fn new_netns(&self, sandbox: &SandboxId) -> Result<Netns, NetworkError> {
        Ok(self.netns(sandbox))
    }

    /// Where this sandbox's namespace is, or would be, pinned.
    #[must_use]
    pub fn netns(&self, sandbox: &SandboxId) -> Netns {
        Netns::at(self.inner.config.netns_dir.join(format!("isopod-{}", sandbox.short())))
    }

    /// Removes the namespace of this sandbox. It is no error if there is none.
    ///
    /// # Errors
    /// [`NetworkError::Netns`].
    pub async fn remove_netns(&self, sandbox: &SandboxId) -> Result<(), NetworkError> {
        let _ = sandbox;
        Ok(())
    }

    /// Lets a sandbox join its networks: all of them, or nothing is left.
    ///
    /// # Errors
    /// What a network says. What could not be undone is recorded, for `detach` and `gc`.
    pub async fn attach(&self, attachment: &Attachment) -> Result<Attached, NetworkError> {
        Err(NetworkError::NotReady { message: format!("{} has none", attachment.name) })
    }

    /// Lets a sandbox leave its networks, repeatable; a namespace that is gone is no error. `result` is what
    /// [`Attached::result`] was, for the case that our own record is lost.
    ///
    /// # Errors
    /// What a network says; the record stays, and another call tries again.
    pub async fn detach(
        &self,
        attachment: &Attachment,
        result: Option<&serde_json::Value>,
    ) -> Result<(), NetworkError> {
        let _ = (attachment, result);
        Ok(())
    }

    /// Whether a sandbox's networks are still as `attach` left them (CNI CHECK).
    ///
    /// # Errors
    /// What is no longer there.
    pub async fn check(&self, attachment: &Attachment) -> Result<(), NetworkError> {
        let _ = attachment;
        Ok(())
    }

    /// Gives back everything that is recorded for sandboxes other than these: addresses, links, rules,
    /// namespaces.
    ///
    /// # Errors
    /// When the records cannot be read. A sandbox that cannot be freed is in the answer.
    pub async fn gc(&self, valid: &[SandboxId]) -> Result<Collected, NetworkError> {
        let _ = valid;
        Ok(Collected::default())
    }

    /// What the interfaces inside this namespace have carried, without loopback.
    ///
    /// # Errors
    /// [`NetworkError::Netns`] when it is gone.
    pub async fn interface_stats(
        &self,
        netns: &Netns,
    ) -> Result<Vec<InterfaceStats>, NetworkError> {
        let _ = netns;
        Ok(Vec::new())
    }
}
