//! Which calls only read.

/// What may be asked on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    Full,
    /// Lists, statuses, stats, events and versions; no verbose parts.
    ReadOnly,
}

/// The call whose answer never ends.
pub(super) const EVENTS: &str = "GetContainerEvents";

/// The call whose request is a stream that is never in memory as a whole.
pub(super) const LOAD: &str = "LoadImage";

/// Calls that change nothing and show no more of a container than the kubelet publishes.
const READS: [&str; 28] = [
    "Version",
    "Status",
    "RuntimeConfig",
    "ListPodSandbox",
    "StreamPodSandboxes",
    "PodSandboxStatus",
    "ListContainers",
    "StreamContainers",
    "ContainerStatus",
    EVENTS,
    "ContainerStats",
    "ListContainerStats",
    "StreamContainerStats",
    "PodSandboxStats",
    "ListPodSandboxStats",
    "StreamPodSandboxStats",
    "ListMetricDescriptors",
    "ListPodSandboxMetrics",
    "StreamPodSandboxMetrics",
    "ListImages",
    "StreamImages",
    "ImageStatus",
    "ImageFsInfo",
    "ListOperations",
    "PullProgress",
    "Metrics",
    "NetworkStatus",
    "ServerReflectionInfo",
];

/// All others.
const WRITES: [&str; 30] = [
    "UpdateRuntimeConfig",
    "RunPodSandbox",
    "StopPodSandbox",
    "RemovePodSandbox",
    "UpdatePodSandboxResources",
    "CreateContainer",
    "StartContainer",
    "StopContainer",
    "RemoveContainer",
    "UpdateContainerResources",
    "ReopenContainerLog",
    "ExecSync",
    "Exec",
    "Attach",
    "PortForward",
    "CheckpointContainer",
    "CheckpointPod",
    "RestorePod",
    "PullImage",
    "RemoveImage",
    LOAD,
    "SaveImage",
    "TagImage",
    "CheckImages",
    "PruneImages",
    "PushImage",
    "ReloadConfig",
    "Explain",
    // It changes nothing, but has the node run plugins.
    "CheckNetworks",
    "CollectNetworks",
];

pub(super) fn only_reads(method: &str) -> bool {
    READS.contains(&method)
}

/// The method's name out of the list: a caller cannot make up names that are kept.
pub(super) fn known(method: &str) -> &'static str {
    let found = READS.iter().chain(&WRITES).find(|name| **name == method);
    found.copied().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn every_call_of_the_cri_is_known() {
        let set = prost_types::FileDescriptorSet::decode(cri_api::FILE_DESCRIPTOR_SET).unwrap();
        let methods: Vec<String> = set
            .file
            .iter()
            .flat_map(|file| &file.service)
            .flat_map(|service| service.method.iter().map(|m| m.name().to_owned()))
            .collect();
        assert_eq!(methods.len(), 43);
        for method in methods {
            assert_eq!(known(&method), method);
        }
    }

    /// Whether one of the alternatives of a regular expression fits; they have `.*` at their ends alone.
    fn fits(pattern: &str, method: &str) -> bool {
        pattern.split('|').any(|one| {
            let (open, rest) = one.strip_prefix(".*").map_or((false, one), |rest| (true, rest));
            match (open, rest.strip_suffix(".*")) {
                (true, Some(middle)) => method.contains(middle),
                (true, None) => method.ends_with(rest),
                (false, Some(begin)) => method.starts_with(begin),
                (false, None) => method == rest,
            }
        })
    }

    #[test]
    fn the_dashboard_knows_which_calls_only_look() {
        let dashboard = include_str!("../../../../docs/dashboard/dashboard.json");
        let pattern = |operator: &str| {
            let after = dashboard.split_once(operator).unwrap().1;
            after.split_once('\\').unwrap().0.to_owned()
        };
        let (looks, not) = (pattern("method=~\\\""), pattern("method!~\\\""));
        // Asking why is looking, though not everybody may ask.
        let asks = |method: &str| method == "Explain";
        for method in READS.into_iter().chain(WRITES) {
            // One that never ends is in neither.
            let looking = (only_reads(method) && method != EVENTS) || asks(method);
            assert_eq!(fits(&looks, method), looking, "{method}: {looks}");
            assert_eq!(fits(&not, method), looking || method == EVENTS, "{method}: {not}");
        }
    }

    #[test]
    fn no_call_is_on_both_lists() {
        assert!(READS.iter().all(|read| !WRITES.contains(read)));
        for method in ["CheckNetworks", "CollectNetworks", "NetworkStatus"] {
            assert_eq!((known(method), only_reads(method)), (method, method == "NetworkStatus"));
        }
        for (method, reads) in [("Status", true), ("Exec", false), ("", false), ("status", false)] {
            assert_eq!(only_reads(method), reads, "{method}");
        }
    }
}
