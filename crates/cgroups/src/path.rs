//! Where a cgroup is: its path in every hierarchy, whichever driver named it. Pure.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A text that cannot name a cgroup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cgroup path {given:?}: {problem}")]
pub struct BadPath {
    /// The text as it was given.
    pub given: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl BadPath {
    fn new(given: &str, problem: &'static str) -> Self {
        Self { given: given.chars().take(200).collect(), problem }
    }
}

/// An absolute path below each hierarchy's mount point, without `.`, `..` and empty components; the root
/// itself is not one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The cgroup that `text` names; a missing slash at the beginning and repeated ones are put right.
    ///
    /// # Errors
    /// [`BadPath`] for the root, for `.` and `..`, for NUL and newline.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        if text.contains(['\0', '\n']) {
            return Err(BadPath::new(text, "has a NUL or a newline in it"));
        }
        let mut path = String::with_capacity(text.len() + 1);
        for component in text.split('/').filter(|c| !c.is_empty()) {
            if matches!(component, "." | "..") {
                return Err(BadPath::new(text, "has `.` or `..` in it"));
            }
            path.push('/');
            path.push_str(component);
        }
        if path.is_empty() { Err(BadPath::new(text, "is the root")) } else { Ok(Self(path)) }
    }

    /// The cgroup `name` in this one.
    ///
    /// # Errors
    /// [`BadPath`] for a name that is more or less than one component.
    pub fn join(&self, name: &str) -> Result<Self, BadPath> {
        if name.is_empty() || name.contains('/') {
            return Err(BadPath::new(name, "must be one component"));
        }
        Self::parse(&format!("{}/{name}", self.0))
    }

    /// The cgroup that this one is in; `None` where that is the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some(("", _)) | None => None,
            Some((parent, _)) => Some(Self(parent.to_owned())),
        }
    }

    /// With the slash at the beginning.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without it, for joining to a mount point.
    #[must_use]
    pub fn relative(&self) -> &Path {
        Path::new(self.0.trim_start_matches('/'))
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = BadPath;

    fn try_from(s: String) -> Result<Self, BadPath> {
        Self::parse(&s)
    }
}

impl From<CgroupPath> for String {
    fn from(p: CgroupPath) -> Self {
        p.0
    }
}

/// Who makes cgroups, and so how the kubelet names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// This program, in the file system; names are paths.
    #[default]
    Cgroupfs,
    /// systemd; a pod's parent is a slice, a container's name is `slice:prefix:name`.
    Systemd,
}

impl Driver {
    /// The driver that fits this machine: systemd where it is the init (sd_booted(3)) and can be talked to,
    /// else cgroupfs.
    #[must_use]
    pub fn detect() -> Self {
        if crate::systemd::is_there() { Self::Systemd } else { Self::Cgroupfs }
    }

    /// As the CRI's `RuntimeConfig` and configurations name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cgroupfs => "cgroupfs",
            Self::Systemd => "systemd",
        }
    }

    /// The cgroup that a pod's parent names (CRI `cgroup_parent`).
    ///
    /// # Errors
    /// [`BadPath`] where it does not fit the driver.
    pub fn parent(self, cgroup_parent: &str) -> Result<CgroupPath, BadPath> {
        match self {
            Self::Cgroupfs => CgroupPath::parse(cgroup_parent),
            Self::Systemd => {
                // The kubelet gives the slice's whole path or its name; the last component says it all.
                let slice = cgroup_parent.trim_end_matches('/').rsplit('/').next().unwrap_or("");
                slice_path(slice)
            }
        }
    }

    /// What to write into a spec's `linux.cgroupsPath` for the cgroup `name` under `cgroup_parent`.
    ///
    /// # Errors
    /// [`BadPath`] where it does not fit the driver.
    pub fn cgroups_path(self, cgroup_parent: &str, name: &str) -> Result<String, BadPath> {
        match self {
            Self::Cgroupfs => Ok(self.parent(cgroup_parent)?.join(name)?.into()),
            Self::Systemd => {
                self.parent(cgroup_parent)?;
                let slice = cgroup_parent.trim_end_matches('/').rsplit('/').next().unwrap_or("");
                Ok(format!("{slice}:isopod:{name}"))
            }
        }
    }

    /// The cgroup that a spec's `linux.cgroupsPath` names. The form says which driver wrote it:
    /// `slice:prefix:name` is systemd's, as for runc and crun.
    ///
    /// # Errors
    /// [`BadPath`] for neither form.
    pub fn read_cgroups_path(text: &str) -> Result<(Self, CgroupPath), BadPath> {
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [slice, prefix, name] if !slice.contains('/') => {
                let slice = if slice.is_empty() { "system.slice" } else { slice };
                let unit = if name.ends_with(".slice") {
                    (*name).to_owned()
                } else if prefix.is_empty() {
                    format!("{name}.scope")
                } else {
                    format!("{prefix}-{name}.scope")
                };
                Ok((Self::Systemd, slice_path(slice)?.join(&unit)?))
            }
            _ => Ok((Self::Cgroupfs, CgroupPath::parse(text)?)),
        }
    }
}

/// The path of a slice: `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn slice_path(slice: &str) -> Result<CgroupPath, BadPath> {
    let bad = |problem| BadPath::new(slice, problem);
    let stem = slice.strip_suffix(".slice").ok_or_else(|| bad("is not the name of a slice"))?;
    if stem.is_empty() || stem.contains('/') {
        return Err(bad("is not the name of a slice"));
    }
    if stem == "-" {
        return Err(bad("is the root"));
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(bad("has an empty part between dashes"));
        }
        prefix.push_str(part);
        path.push('/');
        path.push_str(&prefix);
        path.push_str(".slice");
        prefix.push('-');
    }
    CgroupPath::parse(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_clean_and_never_leaves_its_hierarchy() {
        for (given, clean) in
            [("/a/b", "/a/b"), ("a//b/", "/a/b"), ("/kubepods/pod-1", "/kubepods/pod-1")]
        {
            assert_eq!(CgroupPath::parse(given).unwrap().as_str(), clean);
        }
        for bad in ["", "/", "//", "/a/../b", "/a/./b", "/a\n", "/a\0"] {
            assert!(CgroupPath::parse(bad).is_err(), "{bad:?}");
        }
        let path = CgroupPath::parse("/a/b").unwrap();
        assert_eq!(path.join("c").unwrap().as_str(), "/a/b/c");
        assert!(path.join("c/d").is_err());
        assert!(path.join("..").is_err());
        assert_eq!(path.parent().unwrap().as_str(), "/a");
        assert_eq!(path.parent().unwrap().parent(), None);
    }

    #[test]
    fn a_slice_lies_in_the_slices_that_its_name_begins_with() {
        for (slice, path) in [
            ("kubepods.slice", "/kubepods.slice"),
            (
                "kubepods-burstable-pod1.slice",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice",
            ),
            ("/kubepods.slice/kubepods-pod1.slice", "/kubepods.slice/kubepods-pod1.slice"),
        ] {
            assert_eq!(Driver::Systemd.parent(slice).unwrap().as_str(), path);
        }
        for bad in ["", "kubepods", ".slice", "-.slice", "a--b.slice", "-a.slice", "a-.slice"] {
            assert!(Driver::Systemd.parent(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_path_in_a_spec_says_which_driver_it_is_for() {
        for driver in [Driver::Cgroupfs, Driver::Systemd] {
            let parent = match driver {
                Driver::Cgroupfs => "/kubepods/pod1",
                Driver::Systemd => "kubepods-pod1.slice",
            };
            let text = driver.cgroups_path(parent, "c1").unwrap();
            let (found, path) = Driver::read_cgroups_path(&text).unwrap();
            assert_eq!(found, driver);
            let expected = match driver {
                Driver::Cgroupfs => "/kubepods/pod1/c1",
                Driver::Systemd => "/kubepods.slice/kubepods-pod1.slice/isopod-c1.scope",
            };
            assert_eq!(path.as_str(), expected);
        }
        assert_eq!(
            Driver::read_cgroups_path(":x:y").unwrap().1.as_str(),
            "/system.slice/x-y.scope"
        );
    }
}
