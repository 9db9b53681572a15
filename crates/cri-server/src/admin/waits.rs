//! What an operation waits for in a phase, for people.
//!
//! Always: pure; a phase that is not known here says nothing rather than something wrong.

use crate::PluginRun;

/// Plugins that are named; a node may run many at once.
const NAMED: usize = 4;

/// What `kind` waits for while it is in `phase`.
pub(super) fn waits_for(kind: &str, phase: &str, plugins: &[PluginRun]) -> String {
    let text = match phase {
        "network" => return network(plugins),
        "networks" => {
            "the kernel: links and rules; or CNI plugins, and a moment in which none adds"
        }
        "netns" => "the kernel: a network namespace",
        "cgroup" => "the kernel, or systemd: a cgroup",
        "directory" | "directories" | "files" | "bundle" | "begin" => {
            "the file system of the state directory"
        }
        "monitor" => "the monitor of the pod: its start and its namespaces",
        "host path" | "host paths" => {
            "a path of the host that a mount or the log names: its file system may hang"
        }
        "image" => "the image's records",
        "rootfs" => "the disk: the container's root file system",
        "seccomp" => "the compilation of the system call filter",
        "create" => "the monitor: the container's namespaces and mounts",
        "start" => "the monitor: the container's program is executed",
        "signal" => {
            "the container: it was asked to end and has time until its grace period is over"
        }
        "kill" => "the kernel: what was killed has not ended yet",
        "resolve" | "manifest" | "config" | "connect" => "the registry",
        "layers" => "layers of the image, which are operations of their own",
        "wait for a permit" => "other layers: no more are fetched at once (images.parallel_layers)",
        "fetch and unpack" => "the registry and the disk, whichever is slower",
        "commit" => "the disk: the image's records",
        "" if kind.starts_with("Remove") || kind.starts_with("Stop") => {
            "other operations on the same pod"
        }
        _ => "",
    };
    text.to_owned()
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
        let told = waits_for("RunPodSandbox", "network", &[run("ADD")]);
        assert_eq!(told, "CNI plugins, of which these run: bridge ADD for 0123456789ab");
        assert!(waits_for("x", "network", &vec![run("DEL"); 6]).ends_with("and 2 more"));
        assert!(waits_for("PullImage", "resolve", &[]).contains("registry"));
        assert!(waits_for("StopContainer", "", &[]).contains("same pod"));
        assert_eq!(waits_for("RunPodSandbox", "something new", &[]), "");
    }
}
