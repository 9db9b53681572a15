//! The table of all keys.
//!
//! Owns: names, kinds, defaults and what is said about each. Always: a name's `*` stands for a name that
//! the user chooses; defaults are written as TOML and are allowed by their own kind (a test says so).
//! Callers: `entries` (checking), `settings` (defaults), `command` (explain), the guide.

use super::kind::Kind;
use Kind::{Address, Choice, MaybePath, Mode, Path, Paths, Secret, Size, Text, Texts, Time, Whole};

/// Whether a running daemon takes a new value up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// On reload.
    Reload,
    /// At its next start.
    Restart,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Its default, as TOML.
    pub default: &'static str,
    /// When a new value counts.
    pub takes: Takes,
    /// What it does.
    pub about: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, takes: Takes::Restart, about }
}

const fn live(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, takes: Takes::Reload, about }
}

const LEVELS: Kind = Choice(&["error", "warn", "info", "debug", "trace"]);

/// All keys, in the order in which they are explained.
pub const KEYS: &[Key] = &[
    key(
        "root",
        Path,
        r#""/var/lib/isopod""#,
        "Directory for images and for the writable layers of containers; on disk.",
    ),
    key(
        "state",
        Path,
        r#""/run/isopod""#,
        "Directory for records of pods; on a tmpfs, because they mean nothing after a reboot.",
    ),
    key(
        "default_handler",
        Text,
        r#""""#,
        "The handler that pods without a runtime class get; empty for the built-in launcher.",
    ),
    key(
        "socket.path",
        MaybePath,
        r#""""#,
        "The unix socket that the CRI is served on; empty for `isopod.sock` in the state directory.",
    ),
    key(
        "socket.mode",
        Mode,
        r#""0660""#,
        "Mode of the socket. Whoever may write to it is root on this node.",
    ),
    key(
        "socket.group",
        Text,
        r#""""#,
        "Group of the socket, by name or number; empty for the daemon's own.",
    ),
    key(
        "socket.read_only_path",
        MaybePath,
        r#""""#,
        "A second socket on which only lists, statuses, stats and events are served; empty for none.",
    ),
    key("socket.read_only_mode", Mode, r#""0660""#, "Mode of the read-only socket."),
    key(
        "socket.read_only_group",
        Text,
        r#""""#,
        "Group of the read-only socket, by name or number; empty for the daemon's own.",
    ),
    key(
        "limits.connections",
        Whole(2, 65_536),
        "1024",
        "Connections to one socket; past it the process that has the most loses its oldest.",
    ),
    key(
        "limits.calls",
        Whole(2, 1_000_000),
        "4096",
        "Calls at once on all sockets, half of them from one process; more are refused.",
    ),
    key(
        "limits.calls_per_connection",
        Whole(1, 65_536),
        "1024",
        "Calls at once on one connection; its client holds more back.",
    ),
    key(
        "limits.request_bytes",
        Size,
        r#""256MiB""#,
        "Bytes of requests whose calls are open, on all sockets, half of them from one process; at least 32MiB.",
    ),
    key(
        "limits.event_streams",
        Whole(2, 65_536),
        "128",
        "Subscribers of events on all sockets, half of them from one process; more are refused.",
    ),
    key(
        "limits.events_ahead",
        Whole(16, 65_536),
        "1024",
        "Events that a subscriber may be behind, rounded up to a power of two; past it it is cut off and told so.",
    ),
    key(
        "limits.handshake",
        Time,
        r#""10s""#,
        "How long a new connection may take to begin; a silent one is closed.",
    ),
    key(
        "limits.keepalive",
        Time,
        r#""60s""#,
        "How often a silent client is asked whether it is there; one that does not answer within 20s is cut off.",
    ),
    key(
        "audit.path",
        MaybePath,
        r#""""#,
        "File for one line of JSON for each exec, attach and port-forward; opened again on SIGHUP; empty for none.",
    ),
    key(
        "metrics.address",
        Text,
        r#""""#,
        "Where the daemon's own metrics are served: an address such as `127.0.0.1:9494`, or a path for a unix socket; empty for none.",
    ),
    key(
        "traces.endpoint",
        Text,
        r#""""#,
        "Where traces of operations go by OTLP over gRPC, as `http://127.0.0.1:4317`, or a path for a unix socket; empty for none.",
    ),
    key(
        "stats.max_age",
        Time,
        r#""1s""#,
        "The oldest measurement that a call for statistics is answered with; 0s to measure for each.",
    ),
    key("stats.cpu_window", Time, r#""10s""#, "The time that CPU use is averaged over."),
    key(
        "log.format",
        Choice(&["text", "json"]),
        r#""text""#,
        "How the daemon writes its own log, on standard error.",
    ),
    live("log.level", LEVELS, r#""info""#, "How much the daemon logs."),
    key(
        "log.slow_call",
        Time,
        r#""10s""#,
        "Calls that take at least this long are logged at level info, others at debug.",
    ),
    key(
        "monitor.program",
        MaybePath,
        r#""""#,
        "The monitor's program; empty for the one inside this binary, or beside it in a development build.",
    ),
    key(
        "cgroup.driver",
        Choice(&["auto", "systemd", "cgroupfs"]),
        r#""auto""#,
        "Who makes cgroups; `auto` takes systemd where it is process 1. The kubelet asks for it and follows.",
    ),
    key(
        "cgroup.parent",
        Text,
        r#""""#,
        "The cgroup of pods that ask for none: a path, or a slice with the systemd driver; empty for the driver's default.",
    ),
    key(
        "images.registries",
        MaybePath,
        r#""/etc/isopod/certs.d""#,
        "Directory with one directory for each registry host, with its `hosts.toml`, as containerd reads it.",
    ),
    key(
        "images.parallel_layers",
        Whole(1, 64),
        "6",
        "How many layers are fetched and unpacked at once, over all pulls; more wait.",
    ),
    key(
        "images.stall",
        Time,
        r#""60s""#,
        "A connection that gives no byte for this long is given up, and another one is tried.",
    ),
    key(
        "images.min_rate",
        Size,
        "128",
        "Or one that gives fewer bytes in a second than this, over that time.",
    ),
    key("images.deadline", Time, r#""0s""#, "The longest time for one pull; 0s for none."),
    key(
        "images.keep_unused",
        Time,
        r#""1h""#,
        "How long layers that no image has are kept for a pull that comes back.",
    ),
    key(
        "images.keep_partial",
        Time,
        r#""24h""#,
        "How long the beginning of a layer that broke off is kept for a pull that goes on; 0s keeps none.",
    ),
    key(
        "images.keep_blobs",
        Choice(&["no", "yes"]),
        r#""no""#,
        "Whether compressed layers are kept beside the unpacked ones: twice the space, for `push` and repair.",
    ),
    key(
        "images.preloaded",
        Paths,
        "[]",
        "OCI layout directories that are looked into before any registry; they are only read.",
    ),
    key(
        "images.unqualified",
        Texts,
        "[]",
        "Registries that a name without one is looked up in, in this order; `docker.io` where empty.",
    ),
    key(
        "images.policy",
        MaybePath,
        r#""""#,
        "File in the form of containers-policy.json that says what may be pulled; empty for everything.",
    ),
    key(
        "images.auth_files",
        Paths,
        "[]",
        "Files like Docker's `config.json` with credentials and credential helpers; read anew at pulls.",
    ),
    key("images.max_layer", Size, r#""256GiB""#, "The most that one unpacked layer may hold."),
    live(
        "images.pinned",
        Texts,
        "[]",
        "Images that are never removed to gain space: references, in which `*` stands for any text.",
    ),
    key(
        "images.credentials.*.username",
        Text,
        r#""""#,
        "User for this registry host, where a pull brings no credentials of its own.",
    ),
    key("images.credentials.*.password", Secret, r#""""#, "Password for it."),
    key(
        "images.credentials.*.password_file",
        MaybePath,
        r#""""#,
        "File that holds the password instead.",
    ),
    key(
        "images.credentials.*.identity_token",
        Secret,
        r#""""#,
        "Identity token instead of user and password.",
    ),
    key(
        "images.credentials.*.registry_token",
        Secret,
        r#""""#,
        "Bearer token that is sent as it is, instead of all the others.",
    ),
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
        "0",
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
    key(
        "handlers.*.kind",
        Choice(&["own", "oci"]),
        r#""own""#,
        "`own` for the built-in launcher, `oci` for an OCI runtime's command line.",
    ),
    key("handlers.*.program", MaybePath, r#""""#, "The OCI runtime's program."),
    key("handlers.*.options", Texts, "[]", "Options for the OCI runtime, before its command."),
    key(
        "handlers.*.cni_config_dir",
        MaybePath,
        r#""""#,
        "CNI configuration for pods of this handler, instead of network.cni.config_dir.",
    ),
    key(
        "handlers.*.privileged_devices",
        Choice(&["host", "asked"]),
        r#""host""#,
        "Which devices a privileged container has: all of the `host`, or only those that it `asked` for.",
    ),
    key(
        "handlers.*.annotations",
        Texts,
        "[]",
        "Annotations of pods and containers that the handler's runtime gets to see; `*` at the end stands for anything.",
    ),
    key(
        "cdi.spec_dirs",
        Paths,
        r#"["/etc/cdi", "/var/run/cdi"]"#,
        "Directories of CDI specs, a later one before an earlier one; they are read for each container that asks for CDI devices. Empty for none.",
    ),
    key(
        "rdt.default",
        Text,
        r#""""#,
        "The RDT class of containers without an annotation; empty for none.",
    ),
    key(
        "rdt.classes.*.l3",
        Text,
        r#""""#,
        "Cache of this RDT class, a line of schemata such as `L3:0=ff`; empty for what its group in resctrl has.",
    ),
    key(
        "rdt.classes.*.bandwidth",
        Text,
        r#""""#,
        "Memory bandwidth of this RDT class, a line such as `MB:0=50`; empty for what its group has.",
    ),
    key(
        "block_io.default",
        Text,
        r#""""#,
        "The block I/O class of containers without an annotation; empty for none.",
    ),
    key(
        "block_io.classes.*.weight",
        Whole(0, 1000),
        "0",
        "Weight of this block I/O class, 10 to 1000; 0 for the kernel's default.",
    ),
    key(
        "block_io.classes.*.read_rate",
        Texts,
        "[]",
        "Bytes that a container of this class may read in a second, as `/dev/sda=10MiB` for each device.",
    ),
    key("block_io.classes.*.write_rate", Texts, "[]", "Bytes that it may write in a second."),
    key(
        "block_io.classes.*.read_operations",
        Texts,
        "[]",
        "Reads that it may make in a second, as `/dev/sda=100` for each device.",
    ),
    key("block_io.classes.*.write_operations", Texts, "[]", "Writes that it may make in a second."),
    key("pods.shm_size", Size, r#""64MiB""#, "Size of a pod's /dev/shm."),
    key(
        "pods.sysctls",
        Texts,
        "[]",
        "Kernel parameters for every pod with namespaces of its own, as `name=value`; a pod's own win.",
    ),
    key(
        "pods.ulimits",
        Texts,
        "[]",
        "Default resource limits of containers, as `nofile=1024:524288` (soft:hard) or `nofile=1024` for both.",
    ),
    key(
        "pods.seccomp_profile",
        MaybePath,
        r#""""#,
        "A seccomp profile (docker's format) in place of the built-in default.",
    ),
    key(
        "pods.apparmor_profile",
        Text,
        r#""isopod-default""#,
        "The AppArmor profile for containers that ask for the runtime's default. `isopod-default` is made and loaded by the daemon; any other must be loaded already. Empty for none.",
    ),
    key(
        "pods.selinux",
        Choice(&["auto", "off"]),
        r#""auto""#,
        "Whether containers and their volumes get SELinux labels: `auto` where the host has SELinux.",
    ),
    key(
        "pods.pids_limit",
        Whole(0, 4_194_304),
        "0",
        "Tasks that a container may have; 0 for no limit beyond its pod's.",
    ),
    key(
        "pods.exec_cpus",
        Text,
        r#""""#,
        "CPUs of processes that are executed in containers: a list such as `0-1`, or `first` for the first of the container's own; empty for all that it has. The annotation `isopod.dev/exec-cpus` wins.",
    ),
    key(
        "pods.dead_containers",
        Whole(1, 100_000),
        "256",
        "Ended containers that a pod may keep; past it no more are created in it until some are removed.",
    ),
    key(
        "pods.log_rate",
        Size,
        "0",
        "Bytes that a container may log in a second; 0 for no limit. What is beyond is dropped and counted.",
    ),
    key("pods.log_total", Size, "0", "Bytes that a container may log in all; 0 for no limit."),
    key(
        "streaming.address",
        Address,
        r#""127.0.0.1:0""#,
        "Where exec, attach and port-forward connections are accepted; port 0 takes any free one.",
    ),
    key(
        "streaming.certificate",
        MaybePath,
        r#""""#,
        "Certificate chain for them, PEM; empty for connections without TLS. Read again when it changes.",
    ),
    key("streaming.key", MaybePath, r#""""#, "The private key that belongs to it, PEM."),
    key(
        "streaming.idle",
        Time,
        r#""4h""#,
        "How long such a connection may be silent; 0s for any time.",
    ),
    key(
        "streaming.connections",
        Whole(1, 1_000_000),
        "1000",
        "How many such connections there may be at once; more wait.",
    ),
    key(
        "deadlines.network",
        Time,
        r#""90s""#,
        "The longest time for attaching a pod to its networks.",
    ),
    key("deadlines.monitor", Time, r#""20s""#, "The longest time for a pod's monitor to be ready."),
    key(
        "deadlines.host_path",
        Time,
        r#""20s""#,
        "The longest time for looking at a container's volumes and devices: their file systems may hang.",
    ),
    key(
        "deadlines.rootfs",
        Time,
        r#""60s""#,
        "The longest time for preparing a root file system or a volume.",
    ),
    key(
        "deadlines.create",
        Time,
        r#""90s""#,
        "The longest time for setting a container up; its mounts are made in this time.",
    ),
    key("deadlines.start", Time, r#""60s""#, "The longest time for starting a container."),
    key(
        "deadlines.kill",
        Time,
        r#""30s""#,
        "The longest time from SIGKILL to the end of what was killed.",
    ),
    key(
        "deadlines.recover",
        Time,
        r#""30s""#,
        "The longest time for taking up one pod after a restart of the daemon.",
    ),
];

impl Key {
    /// Whether `path` is this key, `*` matching anything.
    pub fn is(&self, path: &[String]) -> bool {
        let mut parts = self.name.split('.');
        let all = path.iter().all(|given| parts.next().is_some_and(|p| p == "*" || p == given));
        all && parts.next().is_none()
    }

    /// Whether `path` is a table above this key.
    pub fn is_below(&self, path: &[String]) -> bool {
        let mut parts = self.name.split('.');
        let all = path.iter().all(|given| parts.next().is_some_and(|p| p == "*" || p == given));
        all && parts.next().is_some()
    }
}

/// The key that `path` is.
pub fn find(path: &[String]) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.is(path))
}

/// The name of a key that `path` was perhaps meant to be: the nearest one, if it is near.
pub fn near(path: &[String]) -> Option<String> {
    let given = path.join(".");
    let candidates = KEYS.iter().flat_map(|key| {
        let whole = with_names(key.name, path);
        // A table's name may be misspelled as well.
        let tables: Vec<String> =
            whole.match_indices('.').map(|(end, _)| whole[..end].to_owned()).collect();
        tables.into_iter().chain([whole.clone()])
    });
    let nearest = candidates.map(|name| (distance(&given, &name), name)).min()?;
    (nearest.0 <= 1 + given.len() / 6).then_some(nearest.1)
}

/// The key's name with the user's own names in place of `*`.
fn with_names(name: &str, path: &[String]) -> String {
    let parts: Vec<&str> = name
        .split('.')
        .enumerate()
        .map(|(index, part)| match path.get(index) {
            Some(own) if part == "*" => own.as_str(),
            Some(_) | None => part,
        })
        .collect();
    parts.join(".")
}

/// How many insertions, deletions, changes and swaps of neighbours lie between two texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let change = last[j] + usize::from(a[i] != b[j]);
            let mut least = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_unique_and_a_star_stands_for_one_name() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..index].iter().all(|other| other.name != key.name), "{}", key.name);
            assert!(key.about.ends_with('.'), "{}", key.name);
        }
        assert_eq!(find(&path("handlers.crun.program")).unwrap().name, "handlers.*.program");
        assert!(find(&path("handlers.program")).is_none() && find(&path("socket")).is_none());
    }

    #[test]
    fn a_misspelled_key_has_a_neighbour_and_a_strange_one_has_none() {
        for (given, want) in [
            ("socket.pth", Some("socket.path")),
            ("sokcet.path", Some("socket.path")),
            ("handlers.crun.progam", Some("handlers.crun.program")),
            ("images.parallel_layer", Some("images.parallel_layers")),
            ("netwrok", Some("network")),
            ("plugins.io.containerd", None),
        ] {
            assert_eq!(near(&path(given)).as_deref(), want, "{given}");
        }
    }
}
