//! Other runtimes, and what they have left.

use super::finding::Finding;
use super::host::{Host, program};

/// A runtime: name, its socket, its directory in memory, its cgroups' and mounts' mark.
const OTHERS: [(&str, &str, &str); 4] = [
    (
        "containerd",
        "/run/containerd/containerd.sock",
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io",
    ),
    ("CRI-O", "/run/crio/crio.sock", "/run/containers/storage/overlay-containers"),
    ("cri-dockerd", "/run/cri-dockerd.sock", "/var/lib/cri-dockerd/sandbox"),
    ("docker", "/run/docker.sock", "/run/docker/containerd"),
];

pub fn look(host: &Host) -> Vec<Finding> {
    let mut findings: Vec<Finding> = OTHERS
        .iter()
        .filter_map(|(name, socket, pods)| {
            let left = std::fs::read_dir(host.path(pods)).map_or(0, Iterator::count);
            match (host.has(socket), left) {
                (false, 0) => None,
                (true, _) => {
                    let said = format!("{name} has a socket at {socket}");
                    let advice = "two runtimes on one node are two sets of pods: drain the node and stop the \
                                  one that the kubelet does not use";
                    Some(Finding::warning("others", said, advice))
                }
                (false, left) => {
                    let said = format!("{name} does not run and has left {left} pods or containers in {pods}");
                    let advice = "reboot the node, or start it once more and remove its pods; docs/guide/moving.md";
                    Some(Finding::warning("others", said, advice))
                }
            }
        })
        .collect();
    findings.extend(mounts(&host.text("/proc/self/mountinfo")));
    findings.extend(shims(host));
    if findings.is_empty() {
        findings.push(Finding::good("others", "no other runtime, and nothing of one"));
    }
    if program("kubelet").is_none() {
        let said = "there is no kubelet here; pods are run by `isopod run`";
        findings.push(Finding::good("kubelet", said));
    }
    findings
}

/// Root file systems that another runtime has mounted in the host's namespace; this one has none there.
fn mounts(mountinfo: &str) -> Option<Finding> {
    let is_rootfs = |line: &&str| {
        let point = line.split(' ').nth(4).unwrap_or_default();
        point.contains("/containerd/") && point.ends_with("/rootfs")
            || point.contains("/storage/overlay/") && point.ends_with("/merged")
    };
    let count = mountinfo.lines().filter(is_rootfs).count();
    (count > 0).then(|| {
        let said = format!("{count} root file systems of other runtimes are mounted");
        Finding::warning("others", said, "they go when those pods are removed, or with a reboot")
    })
}

/// Processes that hold pods of other runtimes.
fn shims(host: &Host) -> Option<Finding> {
    let names = ["containerd-shim", "conmon", "conmonrs"];
    let all = std::fs::read_dir(host.path("/proc")).ok()?;
    let is_shim = |entry: &std::fs::DirEntry| {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        names.iter().any(|name| comm.trim_end().starts_with(name))
    };
    let count = all.flatten().filter(is_shim).count();
    (count > 0).then(|| {
        let said = format!("{count} processes of other runtimes hold pods (shims, conmon)");
        Finding::warning("others", said, "drain the node before the kubelet is pointed to Isopod")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_runtime_has_left_is_told() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::at(root.path());
        assert!(look(&host)[0].said.contains("no other runtime"));
        let pods = host.path(OTHERS[0].2);
        std::fs::create_dir_all(pods.join("abc")).unwrap();
        assert!(look(&host)[0].said.contains("has left 1 pods"));
        std::fs::write(host.path(OTHERS[0].1), "").unwrap();
        assert!(look(&host)[0].said.contains("has a socket"));
        let line = "1 2 0:9 / /run/containerd/io.containerd.runtime.v2.task/k8s.io/x/rootfs rw - overlay o rw";
        assert!(mounts(line).is_some() && mounts("1 2 0:9 / /home rw - ext4 x rw").is_none());
        std::fs::create_dir_all(host.path("/proc/7")).unwrap();
        std::fs::write(host.path("/proc/7/comm"), "conmon\n").unwrap();
        assert!(shims(&host).is_some());
    }
}
