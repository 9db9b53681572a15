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
