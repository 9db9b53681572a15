//! Which hierarchies there are: cgroup v1's controllers one by one, cgroup v2, or both.

use std::path::{Path, PathBuf};

use crate::error::CgroupError;
use crate::file::{huge_page_sizes, read};

/// Controllers that limits and statistics are about; v1's name comes first where v2 has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Accounting of CPU time; v2 has it in every cgroup.
    Cpuacct,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Memory.
    Memory,
    /// Device access; a BPF program in v2.
    Devices,
    /// Stopping all; a file of every cgroup in v2.
    Freezer,
    /// Block I/O; `io` in v2.
    Blkio,
    /// Number of tasks.
    Pids,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    const ALL: [Self; 9] = [
        Self::Cpu,
        Self::Cpuacct,
        Self::Cpuset,
        Self::Memory,
        Self::Devices,
        Self::Freezer,
        Self::Blkio,
        Self::Pids,
        Self::Hugetlb,
    ];

    /// Its name in cgroup v1.
    #[must_use]
    pub const fn legacy_name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Blkio => "blkio",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
        }
    }

    /// Its name in cgroup v2; `None` for what is not a controller there.
    #[must_use]
    pub const fn unified_name(self) -> Option<&'static str> {
        match self {
            Self::Blkio => Some("io"),
            Self::Cpuacct | Self::Devices | Self::Freezer => None,
            Self::Cpu | Self::Cpuset | Self::Memory | Self::Pids | Self::Hugetlb => {
                Some(self.legacy_name())
            }
        }
    }

    fn of_legacy_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.legacy_name() == name)
    }
}

/// Which versions of cgroups are in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Version 1 only.
    Legacy,
    /// The controllers in version 1, and version 2 beside them for its own features.
    Hybrid,
    /// Version 2 only.
    Unified,
}

/// One mounted hierarchy of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Legacy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// All its controllers as the kernel names them, in its order.
    pub names: Vec<String>,
    /// Its own name, for one without controllers (`systemd`).
    pub name: Option<String>,
}

impl Legacy {
    /// Its controllers that this crate knows.
    #[must_use]
    pub fn controllers(&self) -> Vec<Controller> {
        self.names.iter().filter_map(|name| Controller::of_legacy_name(name)).collect()
    }
}

/// How one hierarchy of cgroup v1 is shown to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Directory below the container's /sys/fs/cgroup.
    pub directory: String,
    /// Options that mount it: names, with a value for `name`.
    pub options: Vec<(String, Option<String>)>,
    /// Other names of that directory, for controllers that share it.
    pub links: Vec<String>,
}

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchies {
    v1: Vec<Legacy>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    /// Finds them in /proc/self/mountinfo.
    ///
    /// # Errors
    /// [`CgroupError::NoHierarchy`] where none is mounted.
    pub fn detect() -> Result<Self, CgroupError> {
        let found = Self::parse(&read(Path::new("/proc/self/mountinfo"))?);
        if found.v1.is_empty() && found.v2.is_none() {
            return Err(CgroupError::NoHierarchy);
        }
        Ok(found)
    }

    /// Those of a mount table (proc_pid_mountinfo(5)). Of several mounts of one hierarchy the first counts.
    /// Named hierarchies of v1 count only beside controllers of v1.
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        let (mut v1, mut v2) = (Vec::<Legacy>::new(), None);
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut after = after.split(' ');
            let (kind, options) = (after.next(), after.nth(1).unwrap_or(""));
            let Some(mount) = before.split(' ').nth(4).map(unescape) else { continue };
            match kind {
                Some("cgroup2") if v2.is_none() => v2 = Some(mount),
                Some("cgroup") => {
                    let hierarchy = legacy(mount, options);
                    let is_known = v1
                        .iter()
                        .any(|h| (&h.names, &h.name) == (&hierarchy.names, &hierarchy.name));
                    if !is_known {
                        v1.push(hierarchy);
                    }
                }
                Some(_) | None => {}
            }
        }
        if v1.iter().all(|hierarchy| hierarchy.names.is_empty()) && v2.is_some() {
            v1.clear();
        }
        Self { v1, v2 }
    }

    /// Which versions are in use.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        match (self.v1.is_empty(), &self.v2) {
            (false, None) => Mode::Legacy,
            (false, Some(_)) => Mode::Hybrid,
            (true, _) => Mode::Unified,
        }
    }

    /// Hierarchies of v1.
    #[must_use]
    pub fn v1(&self) -> &[Legacy] {
        &self.v1
    }

    /// Where v2 is mounted.
    #[must_use]
    pub fn v2(&self) -> Option<&Path> {
        self.v2.as_deref()
    }

    /// Whether limits of `controller` can be set: mounted in v1, or v2's where v2 is alone.
    #[must_use]
    pub fn has(&self, controller: Controller) -> bool {
        match (self.mode(), &self.v2, controller.unified_name()) {
            (Mode::Unified, Some(mount), Some(name)) => {
                let listed = std::fs::read_to_string(mount.join("cgroup.controllers"));
                listed.is_ok_and(|text| text.split_ascii_whitespace().any(|c| c == name))
            }
            // The rest of v1's are the core's in v2.
            (Mode::Unified, mount, None) => mount.is_some(),
            (Mode::Unified, None, Some(_)) => false,
            (Mode::Legacy | Mode::Hybrid, ..) => {
                self.v1.iter().any(|hierarchy| hierarchy.controllers().contains(&controller))
            }
        }
    }

    /// Whether this machine has huge pages and counts them for cgroups.
    #[must_use]
    pub fn counts_huge_pages(&self) -> bool {
        !huge_page_sizes().is_empty() && self.has(Controller::Hugetlb)
    }

    /// What a container is shown at its /sys/fs/cgroup: `None` for v2 alone, else the directories.
    #[must_use]
    pub fn shown(&self) -> Option<Vec<Shown>> {
        if self.mode() == Mode::Unified {
            return None;
        }
        Some(self.v1.iter().map(shown).collect())
    }
}

fn legacy(mount: PathBuf, options: &str) -> Legacy {
    // Options of the hierarchy that are not controllers (cgroups(7), "Mounting v1 controllers").
    const NOT_CONTROLLERS: [&str; 7] =
        ["rw", "ro", "none", "xattr", "noprefix", "clone_children", "cpuset_v2_mode"];
    let (mut names, mut name) = (Vec::new(), None);
    for option in options.split(',').filter(|o| !o.is_empty() && !NOT_CONTROLLERS.contains(o)) {
        match option.split_once('=') {
            Some(("name", value)) => name = Some(value.to_owned()),
            Some(_) => {}
            None if matches!(option, "seclabel" | "favordynmods" | "memory_recursiveprot") => {}
            None => names.push(option.to_owned()),
        }
    }
    Legacy { mount, names, name }
}

fn shown(hierarchy: &Legacy) -> Shown {
    let last = hierarchy.mount.file_name().map(|n| n.to_string_lossy().into_owned());
    let mut options: Vec<_> = hierarchy.names.iter().map(|name| (name.clone(), None)).collect();
    if let Some(name) = &hierarchy.name {
        if options.is_empty() {
            options.push(("none".to_owned(), None));
        }
        options.push(("name".to_owned(), Some(name.clone())));
    }
    let directory = last.unwrap_or_else(|| hierarchy.names.join(","));
    let links = if hierarchy.names.len() > 1 {
        hierarchy.names.iter().filter(|name| **name != directory).cloned().collect()
    } else {
        Vec::new()
    };
    Shown { directory, options, links }
}

/// Space, tab, newline and backslash are written as three octal digits there.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let octal = more.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &more[3..];
            }
            Some(_) | None => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEPARATE: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /mnt/again rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
";
    const UNIFIED: &str =
        "41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn the_mount_table_says_what_is_in_use() {
        let legacy = Hierarchies::parse(SEPARATE);
        assert_eq!(legacy.mode(), Mode::Legacy);
        assert_eq!(legacy.v1().len(), 3);
        assert_eq!(legacy.v1()[0].controllers(), [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(legacy.v1()[2].name.as_deref(), Some("systemd"));
        let hybrid = Hierarchies::parse(&format!("{SEPARATE}{UNIFIED}"));
        assert_eq!(hybrid.mode(), Mode::Hybrid);
        assert_eq!(hybrid.v2(), Some(Path::new("/sys/fs/cgroup/uni fied")));
        let unified = Hierarchies::parse(UNIFIED);
        assert_eq!((unified.mode(), unified.shown()), (Mode::Unified, None));
        let named = SEPARATE.lines().last().unwrap();
        assert_eq!(Hierarchies::parse(&format!("{named}\n{UNIFIED}")).mode(), Mode::Unified);
    }

    #[test]
    fn a_container_is_shown_each_hierarchy_of_v1_with_its_other_names() {
        let shown = Hierarchies::parse(SEPARATE).shown().unwrap();
        let first = Shown {
            directory: "cpu,cpuacct".to_owned(),
            options: vec![("cpu".to_owned(), None), ("cpuacct".to_owned(), None)],
            links: vec!["cpu".to_owned(), "cpuacct".to_owned()],
        };
        assert_eq!(shown[0], first);
        assert_eq!(
            shown[2].options,
            [("none".to_owned(), None), ("name".to_owned(), Some("systemd".to_owned()))]
        );
        assert!(shown[2].links.is_empty());
    }
}
