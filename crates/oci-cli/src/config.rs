//! The bundle: config.json, and what is made of it before anything is launched.

use std::path::{Path, PathBuf};

use launcher::{Plan, ProcessPlan};
use model::IdMapping;
use runtime_spec::{IdMap, NamespaceKind, Spec};
use seccomp::Arch;
use serde_json::Value;

use crate::error::OciError;
use crate::record::{Directory, Mappings};

/// A bundle that was read.
#[derive(Debug)]
pub(crate) struct Bundle {
    pub(crate) path: PathBuf,
    pub(crate) spec: Spec,
    /// The root file system's directory.
    pub(crate) rootfs: PathBuf,
}

/// A user namespace that a container asks for.
#[derive(Debug)]
pub(crate) enum WantedUsers {
    /// A new one with these mappings.
    New(Mappings),
    /// The one at this path, which has mappings; if some are said here, these.
    At(PathBuf, Mappings),
}

impl Bundle {
    /// Reads the bundle in the directory `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, OciError> {
        let path = std::path::absolute(path)
            .map_err(OciError::io(format!("find the bundle {}", path.display())))?;
        let file = path.join("config.json");
        let name = file.display().to_string();
        let bytes = std::fs::read(&file).map_err(OciError::io(format!("read {name}")))?;
        let document: Value =
            serde_json::from_slice(&bytes).map_err(OciError::json(name.clone()))?;
        refuse_version(&document)?;
        refuse_unsupported(&document)?;
        // Of the text and not of what was read of it: mistakes are told with their lines.
        let spec: Spec = serde_json::from_slice(&bytes).map_err(OciError::json(name))?;
        let root = spec.root.as_ref().map_or(Path::new(""), |root| &root.path);
        if root.as_os_str().is_empty() {
            return Err(launcher_refuses("root.path", "is missing"));
        }
        let rootfs = path.join(root);
        Ok(Self { path, spec, rootfs })
    }

    /// The user namespace that it asks for.
    pub(crate) fn users(&self) -> Option<WantedUsers> {
        let linux = self.spec.linux.as_ref()?;
        let users = linux.namespaces.iter().find(|n| n.kind == NamespaceKind::User)?;
        let (uids, gids) = (mappings(&linux.uid_mappings), mappings(&linux.gid_mappings));
        let mappings = Mappings { uids, gids };
        Some(match &users.path {
            None => WantedUsers::New(mappings),
            Some(path) => WantedUsers::At(path.clone(), mappings),
        })
    }

    /// What the launcher is to do for a container of this id.
    pub(crate) fn plan(&self, id: &str) -> Result<Plan, OciError> {
        let mut plan = Plan::read(&self.spec)?;
        if let Some(hooks) = &mut plan.hooks {
            hooks.state.id = id.to_owned();
            hooks.state.bundle.clone_from(&self.path);
        }
        refuse_apparmor(&plan.process)?;
        // It takes somebody who stays beside the container, and nobody does here.
        if plan.rdt.is_some() {
            return Err(launcher_refuses(
                "linux.intelRdt",
                "is not supported by this command line",
            ));
        }
        Ok(plan)
    }

    /// Compiles its filter into the container's directory.
    pub(crate) fn write_filter(&self, directory: &Directory) -> Result<(), OciError> {
        let profile = self.spec.linux.as_ref().and_then(|linux| linux.seccomp.as_ref());
        let Some(profile) = profile else { return Ok(()) };
        let arch = Arch::host().ok_or_else(|| {
            launcher_refuses("linux.seccomp", "is not supported on this architecture")
        })?;
        directory.write_filter(&seccomp::compile(profile, arch)?.to_file())
    }
}

/// The major version of the specification that is followed.
const MAJOR: &str = "1";

/// Fields that somebody relies on who sets them, and that nothing here reads.
const UNSUPPORTED: [&str; 7] = [
    "/vm",
    "/process/scheduler",
    "/process/ioPriority",
    "/linux/personality",
    "/linux/timeOffsets",
    "/linux/netDevices",
    "/linux/memoryPolicy",
];

fn refuse_version(document: &Value) -> Result<(), OciError> {
    let refuse = |problem: &str| Err(launcher_refuses("ociVersion", problem));
    match document.get("ociVersion") {
        None | Some(Value::Null) => refuse("is missing"),
        Some(Value::String(version)) => match version.split_once('.') {
            Some((MAJOR, _)) => Ok(()),
            Some(_) | None => {
                refuse(&format!("is {version:?}, and version {MAJOR} is what is supported here"))
            }
        },
        Some(_) => refuse("is not a text"),
    }
}

fn refuse_unsupported(document: &Value) -> Result<(), OciError> {
    let says_something = |value: &Value| match value {
        Value::Null => false,
        Value::Object(fields) => !fields.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => true,
    };
    match UNSUPPORTED.iter().find(|path| document.pointer(path).is_some_and(says_something)) {
        Some(path) => {
            let field = path.trim_start_matches('/').replace('/', ".");
            Err(launcher_refuses(&field, "is not supported here"))
        }
        None => Ok(()),
    }
}

/// Where the kernel says whether AppArmor is on.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";

/// Whether this kernel has AppArmor, and it is on.
pub(crate) fn has_apparmor() -> bool {
    std::fs::read_to_string(APPARMOR).is_ok_and(|text| text.starts_with('Y'))
}

/// A profile is refused where nothing would enforce it.
pub(crate) fn refuse_apparmor(process: &ProcessPlan) -> Result<(), OciError> {
    match &process.apparmor_profile {
        Some(profile) if !has_apparmor() => Err(OciError::Usage(format!(
            "the AppArmor profile {profile:?} needs AppArmor, which this machine does not have"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn mappings(maps: &[IdMap]) -> Vec<IdMapping> {
    let mapping = |map: &IdMap| IdMapping {
        container_id: map.container_id,
        host_id: map.host_id,
        length: map.size,
    };
    maps.iter().map(mapping).collect()
}

pub(crate) fn launcher_refuses(field: &str, problem: &str) -> OciError {
    OciError::Usage(format!("config.json: {field} {problem}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_of_the_specification_is_said_and_is_the_first() {
        for good in ["1.0.0", "1.0.2-dev", "1.2.1+dev", "1.99.0"] {
            refuse_version(&json!({ "ociVersion": good })).unwrap();
        }
        for bad in [
            json!({}),
            json!({ "ociVersion": null }),
            json!({ "ociVersion": "" }),
            json!({ "ociVersion": "9.0.0" }),
            json!({ "ociVersion": "10.0.0" }),
            json!({ "ociVersion": "0.9.0" }),
            json!({ "ociVersion": 1 }),
        ] {
            let said = refuse_version(&bad).unwrap_err().to_string();
            assert!(said.starts_with("config.json: ociVersion is "), "{said}");
        }
        let said = refuse_version(&json!({ "ociVersion": "9.0.0" })).unwrap_err().to_string();
        assert!(said.contains("9.0.0"), "{said}");
    }

    #[test]
    fn what_nothing_here_reads_is_refused_unless_it_says_nothing() {
        for (document, field) in [
            (json!({ "vm": { "kernel": { "path": "/k" } } }), "vm"),
            (json!({ "process": { "ioPriority": { "priority": 5 } } }), "process.ioPriority"),
            (json!({ "linux": { "timeOffsets": { "boottime": {} } } }), "linux.timeOffsets"),
            (json!({ "linux": { "netDevices": { "eth0": {} } } }), "linux.netDevices"),
            (json!({ "linux": { "memoryPolicy": { "mode": "x" } } }), "linux.memoryPolicy"),
        ] {
            let said = refuse_unsupported(&document).unwrap_err().to_string();
            assert_eq!(said, format!("config.json: {field} is not supported here"));
        }
        let empty = json!({ "vm": null, "linux": { "netDevices": {}, "timeOffsets": null } });
        refuse_unsupported(&empty).unwrap();
        refuse_unsupported(&json!({})).unwrap();
    }
}
