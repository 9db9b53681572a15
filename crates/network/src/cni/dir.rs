//! The configuration directory.

use std::io;
use std::path::{Path, PathBuf};

use super::conf::{Network, is_conf_file, parse, parse_plugin};
use crate::error::NetworkError;
use crate::status::Reason;

/// The most bytes of a configuration file; real ones have some thousand.
const MOST_BYTES: u64 = 1024 * 1024;

/// Why a directory gives no network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unusable {
    /// In one word.
    pub(crate) reason: Reason,
    /// For people.
    pub(crate) message: String,
}

fn read(path: &Path) -> Result<Vec<u8>, NetworkError> {
    let bad = |reason: String| NetworkError::ConfFile { path: path.to_owned(), line: None, reason };
    let meta = std::fs::metadata(path).map_err(|e| bad(e.to_string()))?;
    if !meta.is_file() || meta.len() > MOST_BYTES {
        return Err(bad("it is not a file of at most 1 MiB".into()));
    }
    std::fs::read(path).map_err(|e| bad(e.to_string()))
}

/// The names of CNI's files in this directory, sorted; none if there is no such directory.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string()
            && is_conf_file(&name)
            && entry.path().is_file()
        {
            all.push(name);
        }
    }
    all.sort_unstable();
    Ok(all)
}

/// The network in the file `path`, with the plugins of the directory of its name beside it.
fn network(path: &Path) -> Result<Network, NetworkError> {
    let mut network = parse(path, &read(path)?)?;
    network.file = Some(path.to_owned());
    let more = path.with_file_name(&network.name);
    if !network.inlined_only && more.is_dir() {
        let listed = names(&more).map_err(|e| NetworkError::ConfFile {
            path: more.clone(),
            line: None,
            reason: e.to_string(),
        })?;
        for name in listed.iter().filter(|name| name.ends_with(".conf")) {
            let path = more.join(name);
            network.plugins.push(parse_plugin(&path, &read(&path)?)?);
        }
    }
    Ok(network)
}

/// The first `most` networks of the directory (0: all), by file name. A file that cannot be used is not
/// passed over: the networks after it are not the ones that were meant to be first.
pub(crate) fn load(dir: &Path, most: usize) -> Result<Vec<Network>, Unusable> {
    let unusable = |reason, message: String| Unusable { reason, message };
    let names = names(dir).map_err(|e| {
        unusable(Reason::InvalidConfiguration, format!("cannot read {}: {e}", dir.display()))
    })?;
    let most = if most == 0 { usize::MAX } else { most };
    let mut networks: Vec<Network> = Vec::new();
    for name in names.into_iter().take(most) {
        let found = network(&dir.join(&name))
            .map_err(|e| unusable(Reason::InvalidConfiguration, e.to_string()))?;
        if networks.iter().any(|other| other.name == found.name) {
            let message = format!(
                "{}: another file has a network {:?} too",
                dir.join(name).display(),
                found.name
            );
            return Err(unusable(Reason::InvalidConfiguration, message));
        }
        networks.push(found);
    }
    if networks.is_empty() {
        let message =
            format!("no CNI configuration (*.conflist, *.conf, *.json) in {}", dir.display());
        return Err(unusable(Reason::NoConfiguration, message));
    }
    Ok(networks)
}

/// The plugins of these networks that are in none of the directories, or that nobody may execute.
pub(crate) fn missing(networks: &[Network], dirs: &[PathBuf]) -> Option<Unusable> {
    use std::os::unix::fs::PermissionsExt as _;
    for plugin in networks.iter().flat_map(|network| &network.plugins) {
        let message = match super::exec::locate(&plugin.kind, dirs) {
            Err(error) => error.to_string(),
            Ok(path) => match std::fs::metadata(&path) {
                Ok(meta) if meta.permissions().mode() & 0o111 != 0 => continue,
                Ok(_) => format!("CNI plugin {} is not executable", path.display()),
                Err(e) => format!("CNI plugin {}: {e}", path.display()),
            },
        };
        return Some(Unusable { reason: Reason::PluginMissing, message });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(dir: &Path, name: &str, text: &str) {
        std::fs::write(dir.join(name), text).unwrap();
    }

    #[test]
    fn networks_are_taken_in_the_order_of_their_files() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(load(dir, 1).unwrap_err().reason, Reason::NoConfiguration);
        assert_eq!(load(&dir.join("none"), 1).unwrap_err().reason, Reason::NoConfiguration);
        write(dir, "20-b.conf", r#"{"name":"b","type":"t"}"#);
        write(dir, "10-a.conflist", r#"{"name":"a","plugins":[{"type":"t"}]}"#);
        write(dir, "00-notes.txt", "not ours");
        write(dir, "30-c.json", r#"{"name":"c","type":"t"}"#);
        let names = |most| load(dir, most).unwrap().into_iter().map(|n| n.name).collect::<Vec<_>>();
        assert_eq!(names(1), ["a"]);
        assert_eq!(names(2), ["a", "b"]);
        assert_eq!(names(0), ["a", "b", "c"]);
    }

    #[test]
    fn a_bad_file_is_not_passed_over_unless_it_comes_after_those_that_count() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write(dir, "10-a.conf", r#"{"name":"a","type":"t"}"#);
        write(dir, "20-b.conf", "{\n\n");
        assert!(load(dir, 1).is_ok());
        let unusable = load(dir, 2).unwrap_err();
        assert_eq!(unusable.reason, Reason::InvalidConfiguration);
        assert!(unusable.message.contains("20-b.conf, line 3"), "{}", unusable.message);
        write(dir, "20-b.conf", r#"{"name":"a","type":"t"}"#);
        assert!(load(dir, 2).unwrap_err().message.contains("another file"));
    }

    #[test]
    fn plugins_in_the_directory_of_the_networks_name_join_its_chain() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::create_dir(dir.join("a")).unwrap();
        write(&dir.join("a"), "10-more.conf", r#"{"type":"more"}"#);
        write(dir, "10-a.conflist", r#"{"name":"a","plugins":[{"type":"t"}]}"#);
        assert_eq!(load(dir, 1).unwrap()[0].plugins[1].kind, "more");
        write(
            dir,
            "10-a.conflist",
            r#"{"name":"a","loadOnlyInlinedPlugins":true,"plugins":[{"type":"t"}]}"#,
        );
        assert_eq!(load(dir, 1).unwrap()[0].plugins.len(), 1);
    }

    #[test]
    fn a_missing_plugin_and_one_that_cannot_be_executed_are_told() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "a.conf", r#"{"name":"a","type":"t"}"#);
        let networks = load(dir.path(), 1).unwrap();
        let bin = [dir.path().join("bin"), dir.path().join("bin2")];
        let unusable = missing(&networks, &bin).unwrap();
        assert!(unusable.message.contains("bin2"), "{}", unusable.message);
        std::fs::create_dir(&bin[1]).unwrap();
        write(&bin[1], "t", "#!/bin/sh\n");
        assert!(missing(&networks, &bin).unwrap().message.contains("not executable"));
    }
}
