//! What an operation waits for in a phase, for people.
//!
//! Always: pure; a phase that is not known here says nothing rather than something wrong.

use crate::PluginRun;

/// Plugins that are named; a node may run many at once.
const NAMED: usize = 4;

/// What `kind` waits for while it is in `phase`, and is at `at` there; empty where that is not known.
pub(super) fn waits_for(kind: &str, phase: &str, at: &str, plugins: &[PluginRun]) -> String {
    if phase == "network" {
        return network(plugins);
    }
    let text = generally(kind, phase);
    match (at, text) {
        ("", text) => text.to_owned(),
        (at, "") => at.to_owned(),
        (at, text) => format!("{at}: {}", text.strip_prefix("the monitor: ").unwrap_or(text)),
    }
}

fn generally(kind: &str, phase: &str) -> &'static str {
    match phase {
        "networks" => {
            "the kernel: links and rules; or CNI plugins, and a moment in which none adds"
        }
        "netns" => "the kernel: a network namespace",
        "cgroup" => "the kernel, or systemd: a cgroup",
        "directory" | "directories" | "files" | "bundle" | "begin" => {
            "the file system of the state directory"
        }
        "monitor" if kind == "RunPodSandbox" => "the monitor: its start and the pod's namespaces",
        "monitor" => "the monitor: its end, and that of all that is in it",
        "host path" | "host paths" => "a path of the host, whose file system may hang",
        "image" => "the image's records",
        "rootfs" => "the disk: the container's root file system",
        "seccomp" => "the compilation of the system call filter",
        "create" => "the monitor: the container's namespaces and mounts",
        "start" => "the monitor: the container's program is executed",
        "exec" => "the monitor: a process enters the container",
        "signal" => "the monitor: the signal that asks the container to end",
        "ending" => {
            "the container: it was asked to end and has time until its grace period is over"
        }
        "kill" => "the monitor: it kills what is in the container",
        "killed" => "the kernel: what was killed has not ended yet",
        "resolve" | "manifest" | "config" | "connect" => "the registry",
        "layers" => "layers of the image, which are operations of their own",
        "wait for a permit" => "other layers: no more are fetched at once (images.parallel_layers)",
        "fetch and unpack" => "the registry and the disk, whichever is slower",
        "undo" => {
            "what is undone of it, since it failed: each step of that has a deadline of its own"
        }
        "commit" => "the disk: the image's records",
        "" if kind.starts_with("Remove") || kind.starts_with("Stop") => {
            "other operations on the same pod"
        }
        _ => "",
    }
}

fn network(plugins: &[PluginRun]) -> String {
    if plugins.is_empty() {
        return "the network: an address, a link, or a free place among the plugins".to_owned();
    }
    let named = plugins.iter().take(NAMED).map(|run| {
        let of = run.sandbox.get(..12).map(|id| format!(" for {id}")).unwrap_or_default();
        format!("{} {}{of}", run.plugin, run.verb)
    });
    let named: Vec<String> = named.collect();
    let more = plugins.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("CNI plugins, of which these run: {}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;

    #[test]
    fn a_phase_is_told_with_whom_it_waits_for() {
        let run = |verb| PluginRun {
            plugin: "bridge".to_owned(),
            verb,
            sandbox: "0123456789abcdef".to_owned(),
            since: Timestamp(0),
        };
        let told = waits_for("RunPodSandbox", "network", "", &[run("ADD")]);
        assert_eq!(told, "CNI plugins, of which these run: bridge ADD for 0123456789ab");
        assert!(waits_for("x", "network", "", &vec![run("DEL"); 6]).ends_with("and 2 more"));
        assert!(waits_for("PullImage", "resolve", "", &[]).contains("registry"));
        assert!(waits_for("StopContainer", "", "", &[]).contains("same pod"));
        assert_eq!(waits_for("RunPodSandbox", "something new", "", &[]), "");
        assert_eq!(
            waits_for("CreateContainer", "host paths", "/mnt/x (mounts[2].host_path)", &[]),
            "/mnt/x (mounts[2].host_path): a path of the host, whose file system may hang"
        );
        assert_eq!(
            waits_for("CreateContainer", "create", "the monitor (pid 7)", &[]),
            "the monitor (pid 7): the container's namespaces and mounts"
        );
        assert_eq!(waits_for("X", "something new", "/mnt/x", &[]), "/mnt/x");
    }
}
