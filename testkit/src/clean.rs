//! What a daemon can leave on the machine: found, and removed by force.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::run;

/// The variable in the environment of everything that a test's daemon starts.
pub const MARK: &str = "ISOPOD_TEST_MARK";

/// The variable with the directory in which faults of a daemon and its monitors are armed.
pub const FAULTS: &str = "ISOPOD_FAULTS";

/// By what the things of one daemon are known.
#[derive(Debug)]
pub struct Traces {
    /// The value of [`MARK`].
    pub mark: String,
    /// The name of the cgroup that all its pods are in.
    pub cgroup: String,
    /// The directory that it has everything in.
    pub directory: PathBuf,
    /// Where its records are, perhaps elsewhere.
    pub state: PathBuf,
    /// The veth links that were there before it.
    pub links: BTreeSet<String>,
}

impl Traces {
    /// What there is now, a line for people each.
    pub fn list(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pid in self.processes() {
            found.push(format!("process {pid}: {}", command_of(pid)));
        }
        // The directory of pinned namespaces is a mount point for as long as the machine runs, as
        // /run/netns is; what is pinned in it is not.
        let mounts = self.mounts().into_iter().filter(|path| *path != self.directory.join("netns"));
        found.extend(mounts.map(|path| format!("mount {}", path.display())));
        // The one that all pods are in is the test's own, as the kubelet's is the kubelet's.
        let cgroups = self.cgroups().into_iter().filter(|path| !path.ends_with(&self.cgroup));
        found.extend(cgroups.map(|path| format!("cgroup {}", path.display())));
        found.extend(veths().difference(&self.links).map(|name| format!("link {name}")));
        found
    }

    /// The monitor of a pod: its command line has the beginning of the pod's id. Containers that wait for
    /// their start have it too, and are its children.
    pub fn monitor(&self, pod_id: &str) -> Option<u32> {
        let of_pod = self.processes().into_iter().filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = line.split(|byte| *byte == 0);
            let of_pod = |word: &[u8]| !word.is_empty() && pod_id.as_bytes().starts_with(word);
            words.next() == Some(b"isopod-monitor") && words.next().is_some_and(of_pod)
        });
        let of_pod: BTreeSet<u32> = of_pod.collect();
        of_pod.iter().copied().find(|pid| parent_of(*pid).is_none_or(|p| !of_pod.contains(&p)))
    }

    /// Kills, unmounts and removes it all.
    pub fn remove(&self) {
        for pid in self.processes() {
            // It may end by itself first.
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).output();
        }
        // Mounts upon mounts: the last one first.
        for path in self.mounts().iter().rev() {
            let _ = Command::new("umount").arg("--lazy").arg(path).output();
        }
        if let Some(slice) = self.cgroup.rsplit('/').next().filter(|name| name.ends_with(".slice"))
        {
            // systemd makes the directory again of a unit that it still has.
            let _ = Command::new("systemctl").args(["stop", slice]).output();
        }
        let gone = crate::eventually(std::time::Duration::from_secs(5), || {
            let directories = self.cgroups();
            // Children come after their parents in the list.
            directories.iter().rev().for_each(|path| drop(fs::remove_dir(path)));
            self.cgroups().is_empty().then_some(())
        });
        if gone.is_none() {
            eprintln!("cgroups stay: {:?}", self.cgroups());
        }
        for link in veths().difference(&self.links) {
            let _ = Command::new("ip").args(["link", "delete", link]).output();
        }
    }

    /// Processes with the mark, those that write their errors into the directory, and those in the cgroups.
    fn processes(&self) -> BTreeSet<u32> {
        let mark = format!("{MARK}={}", self.mark).into_bytes();
        let mut pids = BTreeSet::new();
        for entry in fs::read_dir("/proc").expect("/proc can be listed").flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that has gone by now has no environment.
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let is_marked = environment.split(|byte| *byte == 0).any(|variable| variable == mark);
            // A monitor has no environment; what it has to say goes to a file of the daemon's directory.
            let says_to = fs::read_link(entry.path().join("fd/2")).unwrap_or_default();
            let is_ours =
                [&self.directory, &self.state].iter().any(|place| says_to.starts_with(place));
            if is_marked || is_ours {
                pids.insert(pid);
            }
        }
        for cgroup in self.cgroups() {
            let list = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
        pids
    }

    fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo can be read");
        let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points
            .filter(|point| point.starts_with(&self.directory) || point.starts_with(&self.state))
            .collect()
    }

    /// Parents before their children.
    fn cgroups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let top = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(top).into_iter().flatten().flatten().map(|e| e.path());
        for hierarchy in hierarchies.chain([top.to_owned()]) {
            descend(&hierarchy.join(&self.cgroup), &mut found);
        }
        found
    }
}

fn descend(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    found.push(directory.to_owned());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            descend(&entry.path(), found);
        }
    }
}

/// The veth links of this thread's network namespace.
pub fn veths() -> BTreeSet<String> {
    let list = run(Command::new("ip").args(["-oneline", "link", "show", "type", "veth"]));
    // 3: veth0@if2: <...
    let names = list.lines().filter_map(|line| line.split(": ").nth(1));
    names.filter_map(|name| name.split('@').next()).map(str::to_owned).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

fn command_of(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()
}
