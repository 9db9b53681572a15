//! The loaded configuration, for people.

use std::path::Path;

use super::Cni;
use super::conf::Network;
use super::exec::locate;
use crate::overview::{CniDirectory, CniNetwork, CniOverview};

impl Cni {
    /// What was found in the directories at the last look, and which plugins are missing now.
    pub(crate) fn shown(&self) -> CniOverview {
        let mut dirs = self.dirs();
        // Handlers may share a directory.
        let mut seen = std::collections::BTreeSet::new();
        dirs.retain(|dir| seen.insert(dir.clone()));
        CniOverview {
            directories: dirs.into_iter().map(|dir| self.directory(&dir)).collect(),
            plugin_dirs: self.config.bin_dirs.clone(),
        }
    }

    fn directory(&self, dir: &Path) -> CniDirectory {
        let of_it = self.config.handler_conf_dirs.iter().filter(|(_, own)| own.as_path() == dir);
        let handlers = of_it.map(|(name, _)| name.clone()).collect();
        let found = self.networks(dir);
        let (networks, problem) = match found {
            Ok(networks) => (networks.iter().map(|one| self.network(one)).collect(), None),
            Err(unusable) => (Vec::new(), Some(unusable.message)),
        };
        CniDirectory { path: dir.to_owned(), handlers, networks, problem }
    }

    fn network(&self, network: &Network) -> CniNetwork {
        let plugins: Vec<String> = network.plugins.iter().map(|p| p.kind.clone()).collect();
        let is_missing = |kind: &&String| locate(kind, &self.config.bin_dirs).is_err();
        CniNetwork {
            name: network.name.clone(),
            file: network.file.clone().unwrap_or_default(),
            version: network.version.to_string(),
            missing: plugins.iter().filter(is_missing).cloned().collect(),
            plugins,
        }
    }
}
