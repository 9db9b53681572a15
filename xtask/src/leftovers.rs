//! What a test run leaves on the machine: it must be nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::run::output;

/// The kernel ends namespaces and cgroups in its own time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Programs of ours, and those that tests start; process names are cut at 15 bytes.
const PROGRAMS: [&str; 3] = ["isopod", "docker-registr", "conformance"];
/// The kinds of namespaces in which a process can be one of a pod's.
const NAMESPACES: [&str; 5] = ["ipc", "mnt", "net", "pid", "uts"];

/// What of interest is on the machine: one line for people each.
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Looks at processes, mounts, network namespaces, cgroups, links, nft tables and temporary files.
    pub fn take() -> Result<Self, String> {
        let mut seen = BTreeSet::new();
        processes(&mut seen)?;
        mounts(&mut seen)?;
        names_in(Path::new("/run/netns"), "network namespace", |_| true, &mut seen);
        names_in(Path::new("/sys/class/net"), "link", |_| true, &mut seen);
        names_in(&std::env::temp_dir(), "temporary file", |n| n.contains("isopod"), &mut seen);
        cgroups(Path::new("/sys/fs/cgroup"), false, &mut seen);
        let tables = output(Command::new("nft").args(["list", "tables"]))?;
        seen.extend(tables.lines().map(|table| format!("nft {}", table.trim())));
        Ok(Self(seen))
    }

    /// Fails with a list of what is there now and was not in this snapshot, once it has had time to go.
    pub fn what_is_new(&self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = Self::take()?;
            let new: Vec<&str> = now.0.difference(&self.0).map(String::as_str).collect();
            if new.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("left on the machine:\n  {}", new.join("\n  ")));
            }
            pause();
        }
    }
}

/// There is no event for "the kernel has tidied up", so looks are taken with pauses between them.
fn pause() {
    let (_open, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(PAUSE);
}

/// Processes with a program of ours, or in a namespace that is not this process's.
fn processes(seen: &mut BTreeSet<String>) -> Result<(), String> {
    let own = namespaces(Path::new("/proc/self"));
    let all = fs::read_dir("/proc").map_err(|e| format!("cannot list /proc: {e}"))?;
    for entry in all.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else {
            continue;
        };
        let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let foreign = namespaces(&entry.path());
        let elsewhere = !foreign.is_empty() && foreign != own;
        if elsewhere || PROGRAMS.iter().any(|program| command.starts_with(program)) {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            seen.insert(format!("process {pid} {}: {}", command.trim(), line.trim()));
        }
    }
    Ok(())
}

/// Empty for a process that is gone or a zombie, which have none.
fn namespaces(process: &Path) -> Vec<PathBuf> {
    NAMESPACES.iter().flat_map(|kind| fs::read_link(process.join("ns").join(kind))).collect()
}

fn mounts(seen: &mut BTreeSet<String>) -> Result<(), String> {
    let table = fs::read_to_string("/proc/self/mountinfo");
    let table = table.map_err(|e| format!("cannot read /proc/self/mountinfo: {e}"))?;
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [id, _, _, _, at, ..] = fields[..] {
            seen.insert(format!("mount {id} at {at}"));
        }
    }
    Ok(())
}

/// Directories whose own name, or that of one above them, is of the project.
fn cgroups(directory: &Path, within: bool, seen: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let ours = within || entry.file_name().to_string_lossy().contains("isopod");
        if ours {
            seen.insert(format!("cgroup {}", entry.path().display()));
        }
        cgroups(&entry.path(), ours, seen);
    }
}

fn names_in(
    directory: &Path,
    kind: &str,
    wanted: impl Fn(&str) -> bool,
    seen: &mut BTreeSet<String>,
) {
    // A directory that is not there holds nothing: /run/netns appears with the first namespace.
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if wanted(&name) {
            seen.insert(format!("{kind} {name}"));
        }
    }
}
