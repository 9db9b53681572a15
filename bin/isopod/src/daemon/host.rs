//! What the services ask of the node.

use std::sync::Arc;

use cri_server::{
    CgroupDriver, Condition, HandlerFeatures, Host, HostAnswer, MetricsText, PluginRun, Reloaded,
};
use ipnet::IpNet;
use model::HandlerName;
use network::Networks;
use pods::Pods;
use tonic::Status;

use super::metrics::View;
use super::reload::Current;

/// The node, as it is now.
#[derive(Debug)]
pub struct Node {
    /// Sandboxes and containers.
    pub pods: Pods,
    /// Networks.
    pub networks: Networks,
    /// Who makes cgroups.
    pub driver: cgroups::Driver,
    /// Handlers, the default first.
    pub handlers: Vec<HandlerFeatures>,
    /// The configuration.
    pub current: Arc<Current>,
    /// What is counted.
    pub metrics: View,
}

impl Host for Node {
    fn runtime(&self) -> Condition {
        match self.pods.ready() {
            Ok(()) => Condition {
                holds: true,
                reason: "RuntimeReady".to_owned(),
                message: "pods can be run".to_owned(),
            },
            Err(error) => Condition {
                holds: false,
                reason: "RuntimeNotReady".to_owned(),
                message: cri_server::message(&error),
            },
        }
    }

    fn network(&self) -> Condition {
        let status = self.networks.status();
        Condition {
            holds: status.ready,
            reason: status.reason.to_string(),
            message: status.message,
        }
    }

    fn handlers(&self) -> Vec<HandlerFeatures> {
        self.handlers.clone()
    }

    fn cgroup_driver(&self) -> CgroupDriver {
        match self.driver {
            cgroups::Driver::Systemd => CgroupDriver::Systemd,
            cgroups::Driver::Cgroupfs => CgroupDriver::Cgroupfs,
        }
    }

    fn configuration(&self) -> serde_json::Value {
        self.current.shown()
    }

    fn set_pod_cidrs(&self, cidrs: String) -> HostAnswer<'_> {
        Box::pin(async move {
            let mut ranges = Vec::new();
            for text in cidrs.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                let range: IpNet = text.parse().map_err(|_| {
                    Status::invalid_argument(format!(
                        "runtime_config.network_config.pod_cidr is {text:?}: a range is needed"
                    ))
                })?;
                ranges.push(range);
            }
            let set = self.networks.set_pod_cidrs(ranges).await;
            set.map_err(|error| cri_server::status(&error))
        })
    }

    fn log_lines(&self, about: &[String]) -> Vec<String> {
        self.current.last_lines().about(about)
    }

    fn plugins(&self) -> Vec<PluginRun> {
        let run = |call: network::PluginCall| PluginRun {
            plugin: call.plugin,
            verb: call.verb,
            sandbox: call.sandbox,
            since: call.since,
        };
        self.networks.plugins().into_iter().map(run).collect()
    }

    fn metrics(&self) -> MetricsText<'_> {
        Box::pin(self.metrics.text())
    }

    fn reload(&self) -> Result<Reloaded, Status> {
        self.current.reload().map_err(|mistakes| Status::invalid_argument(mistakes.to_string()))
    }
}

/// The handlers as the kubelet is told of them, the default first.
pub fn features<'a>(
    handlers: impl Iterator<Item = (&'a HandlerName, &'a pods::Handler)>,
) -> Vec<HandlerFeatures> {
    let mut all: Vec<HandlerFeatures> = handlers
        .map(|(name, handler)| HandlerFeatures {
            name: name.clone(),
            recursive_read_only_mounts: handler.recursive_read_only,
            user_namespaces: handler.user_namespaces,
        })
        .collect();
    all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_handler_comes_first() {
        let handlers: std::collections::BTreeMap<HandlerName, pods::Handler> = [
            (HandlerName::parse("crun").unwrap(), pods::Handler::default()),
            (HandlerName::default(), pods::Handler::default()),
        ]
        .into();
        let all = features(handlers.iter());
        assert!(all[0].name.is_default() && all.len() == 2);
    }
}
