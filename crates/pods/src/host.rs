//! What the daemon finds out about the host, for specs.

use std::fs::{self, DirEntry, File};
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use cgroups::{Hierarchies, Mode};
use model::CpuList;
use rustix::fs::{major, minor};
use specgen::{DeviceKind, HostDevice, HostFacts};

use crate::config::PodsConfig;

/// Capabilities by number (capability.h).
const CAPABILITIES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Below /dev, what every container has its own of, or none.
const NOT_DEVICES: [&str; 6] = ["pts", "shm", "mqueue", "fd", "console", ".udev"];
/// Device nodes that a privileged container gets at most: a machine with more of them has gone wrong.
const DEVICES_MAX: usize = 4096;
/// The most of the host's own resolv.conf and hosts that pods get.
const HOST_FILE_MAX: u64 = 1 << 20;

/// What does not change while the daemon runs. Device nodes are looked up when they are needed.
pub(crate) fn facts(config: &PodsConfig, hierarchies: &Hierarchies) -> HostFacts {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let unified = hierarchies.mode() == Mode::Unified;
    HostFacts {
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        capabilities: capabilities(&status),
        devices: Vec::new(),
        cgroup_unified: unified,
        swap_limit: has_swap_limit(hierarchies, unified),
        hugepage_sizes: hugepage_sizes(Path::new("/sys/kernel/mm/hugepages")),
        cpus: numbers("/sys/devices/system/cpu/possible"),
        memory_nodes: numbers("/sys/devices/system/node/possible"),
        apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
            .is_ok_and(|text| text.starts_with('Y')),
        selinux: config.selinux_labels && Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

/// The CPUs that are on now; `None` where the kernel does not tell.
pub(crate) fn online_cpus() -> Option<CpuList> {
    numbers("/sys/devices/system/cpu/online")
}

fn numbers(path: &str) -> Option<CpuList> {
    CpuList::parse(fs::read_to_string(path).ok()?.trim())
}

/// Those that this process may have and so give.
fn capabilities(status: &str) -> Vec<String> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let set = line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let all = CAPABILITIES.iter().enumerate();
    all.filter(|(number, _)| set >> number & 1 == 1).map(|(_, name)| (*name).to_owned()).collect()
}

fn has_swap_limit(hierarchies: &Hierarchies, unified: bool) -> bool {
    if unified {
        return Path::new("/proc/swaps").exists();
    }
    hierarchies.v1().iter().any(|h| h.mount.join("memory.memsw.limit_in_bytes").exists())
}

/// Names such as `hugepages-2048kB` stand for the sizes that the controller writes as `2MB`.
fn hugepage_sizes(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut sizes: Vec<u64> = names
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()
        })
        .collect();
    sizes.sort_unstable();
    sizes.into_iter().map(hugepage_name).collect()
}

fn hugepage_name(kilobytes: u64) -> String {
    const MB: u64 = 1 << 10;
    const GB: u64 = 1 << 20;
    match kilobytes {
        n if n >= GB => format!("{}GB", n / GB),
        n if n >= MB => format!("{}MB", n / MB),
        n => format!("{n}KB"),
    }
}

/// The kernel's version, major and minor.
pub(crate) fn kernel_version() -> (u32, u32) {
    parse_version(&rustix::system::uname().release().to_string_lossy())
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// All device nodes below /dev, for privileged containers.
pub(crate) fn devices() -> Vec<HostDevice> {
    let mut found = Vec::new();
    collect_devices(Path::new("/dev"), &mut found);
    found
}

/// Device nodes in a directory and below; links are not followed.
pub(crate) fn collect_devices(dir: &Path, found: &mut Vec<HostDevice>) {
    let is_wanted = |e: &DirEntry| !NOT_DEVICES.iter().any(|name| e.file_name() == *name);
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().filter(is_wanted);
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    paths.sort();
    for path in paths {
        if found.len() >= DEVICES_MAX {
            return;
        }
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            collect_devices(&path, found);
        } else if let Some(device) = device(&path, &metadata) {
            found.push(device);
        }
    }
}

/// The device node that `metadata` is of; `None` for anything else.
pub(crate) fn device(path: &Path, metadata: &fs::Metadata) -> Option<HostDevice> {
    let kind = metadata.file_type();
    let kind = if kind.is_char_device() {
        DeviceKind::Char
    } else if kind.is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    let number = metadata.rdev();
    Some(HostDevice {
        path: path.to_owned(),
        kind,
        major: major(number),
        minor: minor(number),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

/// One of the host's small files as it is; empty where there is none.
pub(crate) fn host_file(path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(file) = File::open(path) {
        // What cannot be read is as good as not there.
        let _ = file.take(HOST_FILE_MAX).read_to_end(&mut content);
    }
    content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_understood() {
        assert_eq!(parse_version("6.18.3-arch1"), (6, 18));
        assert_eq!(parse_version("5.4"), (5, 4));
        assert_eq!(parse_version("x"), (0, 0));
        let some = capabilities("Name:\tx\nCapPrm:\t0000000000000021\nCapEff:\t0\n");
        assert_eq!(some, ["CAP_CHOWN", "CAP_KILL"]);
        assert!(capabilities("").is_empty());
        for (kilobytes, name) in [(64, "64KB"), (2048, "2MB"), (1 << 20, "1GB")] {
            assert_eq!(hugepage_name(kilobytes), name);
        }
    }

    #[test]
    fn device_nodes_are_found_with_their_numbers() {
        let null = devices().into_iter().find(|d| d.path == Path::new("/dev/null")).unwrap();
        assert_eq!((null.kind, null.major, null.minor), (DeviceKind::Char, 1, 3));
        assert!(!devices().iter().any(|d| d.path.starts_with("/dev/pts")));
    }
}
