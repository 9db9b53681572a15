//! Keys of the daemon: its places, sockets, limits, and what it tells.

use super::super::kind::Kind::{Choice, MaybePath, Mode, Path, Size, Text, Time, Whole};
use super::{Key, LEVELS, key, live};

pub(super) const KEYS: &[Key] = &[
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
];
