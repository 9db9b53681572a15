//! Keys of pods' networks.

use super::super::kind::Kind::{Choice, MaybePath, Path, Paths, Text, Time, Whole};
use super::{Key, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "network.mode",
        Choice(&["cni", "bridge", "none"]),
        r#""cni""#,
        "`cni` for plugins, `bridge` for the built-in network of a single node, `none` for loopback only.",
    ),
    key("network.netns_dir", Path, r#""/run/netns""#, "Where network namespaces are pinned."),
    key(
        "network.ready_namespaces",
        Whole(0, 256),
        "4",
        "How many network namespaces are made ahead of time.",
    ),
    key(
        "network.cni.config_dir",
        Path,
        r#""/etc/cni/net.d""#,
        "Where CNI configuration files are; the directory is watched.",
    ),
    key(
        "network.cni.plugin_dirs",
        Paths,
        r#"["/opt/cni/bin", "/usr/lib/cni"]"#,
        "Where plugins are looked for, in this order.",
    ),
    key(
        "network.cni.max_networks",
        Whole(0, 64),
        "1",
        "How many networks a pod joins, the first ones by file name; 0 for all.",
    ),
    key(
        "network.cni.template",
        MaybePath,
        r#""""#,
        "A file whose `{{.PodCIDR}}` is replaced when the kubelet tells the node's range; the result goes to config_dir.",
    ),
    key("network.cni.plugin_timeout", Time, r#""60s""#, "How long one plugin may run."),
    key("network.cni.plugins_at_once", Whole(1, 1000), "32", "How many plugins may run at once."),
    key(
        "network.bridge.name",
        Text,
        r#""isopod0""#,
        "Name of the built-in bridge, at most 15 characters.",
    ),
    key(
        "network.bridge.ipv4",
        Text,
        r#""10.88.0.0/16""#,
        "IPv4 addresses of pods on it; empty for none.",
    ),
    key(
        "network.bridge.ipv6",
        Text,
        r#""fd15:bad:9a7e::/64""#,
        "IPv6 addresses of pods on it; empty for none.",
    ),
    key(
        "network.bridge.mtu",
        Whole(0, 65_535),
        "0",
        "MTU; 0 for that of the default route's interface.",
    ),
];
