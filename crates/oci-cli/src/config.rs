//! The bundle: config.json, and what is made of it before anything is launched.

use std::path::{Path, PathBuf};

use launcher::Plan;
use model::IdMapping;
use runtime_spec::{IdMap, NamespaceKind, Spec};
use seccomp::Arch;

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

impl Bundle {
    /// Reads the bundle in the directory `path`.
    pub(crate) fn read(path: &Path) -> Result<Self, OciError> {
        let path = std::path::absolute(path)
            .map_err(OciError::io(format!("find the bundle {}", path.display())))?;
        let file = path.join("config.json");
        let name = file.display().to_string();
        let bytes = std::fs::read(&file).map_err(OciError::io(format!("read {name}")))?;
        let spec: Spec = serde_json::from_slice(&bytes).map_err(OciError::json(name))?;
        let root = spec.root.as_ref().map_or(Path::new(""), |root| &root.path);
        if root.as_os_str().is_empty() {
            return Err(launcher_refuses("root.path", "is missing"));
        }
        let rootfs = path.join(root);
        Ok(Self { path, spec, rootfs })
    }

    /// The mappings of the user namespace that it asks for.
    pub(crate) fn users(&self) -> Result<Option<Mappings>, OciError> {
        let Some(linux) = &self.spec.linux else { return Ok(None) };
        let Some(users) = linux.namespaces.iter().find(|n| n.kind == NamespaceKind::User) else {
            return Ok(None);
        };
        if users.path.is_some() {
            return Err(launcher_refuses(
                "linux.namespaces[User]",
                "joining a user namespace is not supported",
            ));
        }
        let (uids, gids) = (mappings(&linux.uid_mappings), mappings(&linux.gid_mappings));
        Ok(Some(Mappings { uids, gids }))
    }

    /// What the launcher is to do.
    pub(crate) fn plan(&self) -> Result<Plan, OciError> {
        let plan = Plan::read(&self.spec)?;
        // Both take somebody who stays beside the container, and nobody does here.
        if plan.hooks.is_some() {
            return Err(launcher_refuses("hooks", "are not supported by this command line"));
        }
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

fn mappings(maps: &[IdMap]) -> Vec<IdMapping> {
    let mapping = |map: &IdMap| IdMapping {
        container_id: map.container_id,
        host_id: map.host_id,
        length: map.size,
    };
    maps.iter().map(mapping).collect()
}

fn launcher_refuses(field: &str, problem: &str) -> OciError {
    OciError::Usage(format!("config.json: {field} {problem}"))
}
