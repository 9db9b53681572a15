//! Configuration files of CNI: parsing, without I/O.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::depth::{DEEPEST, is_too_deep};
use super::version::Version;
use crate::error::NetworkError;

/// A network: its plugins in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Network {
    /// Its name.
    pub(crate) name: String,
    /// The file that it was read from; `None` for one of a record.
    pub(crate) file: Option<PathBuf>,
    /// The version that all its plugins are spoken to in.
    pub(crate) version: Version,
    /// Whether CHECK is not to be called.
    pub(crate) disable_check: bool,
    /// Whether GC is not to be called.
    pub(crate) disable_gc: bool,
    /// Whether plugins in the directory of the network's name are left out.
    pub(crate) inlined_only: bool,
    /// The plugins.
    pub(crate) plugins: Vec<Plugin>,
}

/// A plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plugin {
    /// The name of its program.
    pub(crate) kind: String,
    /// What it wants to be told in `runtimeConfig`.
    pub(crate) capabilities: BTreeSet<String>,
    /// Its configuration as it was written.
    pub(crate) raw: Map<String, Value>,
}

/// Whether a file in the configuration directory is one of CNI's, by its name.
pub(crate) fn is_conf_file(name: &str) -> bool {
    !name.starts_with('.')
        && [".conf", ".conflist", ".json"]
            .iter()
            .any(|end| name.ends_with(end) && name.len() > end.len())
}

struct Parser<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Parser<'_> {
    /// An error, at the line where `near` is first written.
    fn bad(&self, near: &str, reason: impl Into<String>) -> NetworkError {
        let at = self.text.find(near).filter(|_| !near.is_empty());
        let line = at.map(|at| self.text[..at].matches('\n').count() + 1);
        NetworkError::ConfFile { path: self.path.to_owned(), line, reason: reason.into() }
    }

    fn text(&self, map: &Map<String, Value>, key: &str) -> Result<String, NetworkError> {
        match map.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(self.bad(&format!("\"{key}\""), format!("{key:?} is not a text")))
            }
        }
    }

    fn flag(&self, map: &Map<String, Value>, key: &str) -> Result<bool, NetworkError> {
        match map.get(key) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            // libcni takes the words too.
            Some(Value::String(text)) if text == "true" || text == "false" => Ok(text == "true"),
            Some(Value::String(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                Err(self.bad(&format!("\"{key}\""), format!("{key:?} is neither true nor false")))
            }
        }
    }

    fn version(&self, map: &Map<String, Value>) -> Result<Version, NetworkError> {
        let one = self.text(map, "cniVersion")?;
        let listed = match map.get("cniVersions") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => {
                return Err(self.bad("\"cniVersions\"", "\"cniVersions\" is not a list"));
            }
        };
        // Of several, the highest that both sides know (specification 1.1).
        let best = listed.iter().copied().filter_map(Version::parse).max();
        best.or_else(|| Version::parse(&one).filter(|_| listed.is_empty() || !one.is_empty()))
            .ok_or_else(|| {
                let given = if one.is_empty() { listed.join(", ") } else { one };
                self.bad(
                    "\"cniVersion",
                    format!("cniVersion {given:?} is not known (0.1.0 to 1.1.0 are)"),
                )
            })
    }

    fn plugin(&self, value: &Value) -> Result<Plugin, NetworkError> {
        let Value::Object(raw) = value else {
            return Err(self.bad("\"plugins\"", "a plugin's configuration is not an object"));
        };
        let kind = self.text(raw, "type")?;
        if kind.is_empty() {
            return Err(self.bad("\"plugins\"", "a plugin has no \"type\""));
        }
        if kind.contains('/') || kind.starts_with('.') || kind.contains('\0') {
            return Err(
                self.bad(&kind, format!("{kind:?} cannot be a plugin's type: it names a path"))
            );
        }
        let capabilities = match raw.get("capabilities") {
            Some(Value::Object(all)) => all
                .iter()
                .filter(|(_, wanted)| **wanted == Value::Bool(true))
                .map(|(name, _)| name.clone())
                .collect(),
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                return Err(self.bad("\"capabilities\"", "\"capabilities\" is not an object"));
            }
        };
        Ok(Plugin { kind, capabilities, raw: raw.clone() })
    }

    fn network(&self, value: Value) -> Result<Network, NetworkError> {
        let Value::Object(map) = value else {
            return Err(self.bad("", "it is not a JSON object"));
        };
        let name = self.text(&map, "name")?;
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest =
            name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        if !first || !rest {
            let reason = if name.is_empty() {
                "the network has no \"name\"".to_owned()
            } else {
                format!("{name:?} cannot name a network (letters, digits, '.', '_', '-')")
            };
            return Err(self.bad("\"name\"", reason));
        }
        let version = self.version(&map)?;
        let plugins = match map.get("plugins") {
            Some(Value::Array(all)) => {
                all.iter().map(|p| self.plugin(p)).collect::<Result<_, _>>()?
            }
            Some(_) => return Err(self.bad("\"plugins\"", "\"plugins\" is not a list")),
            // A single plugin's file is a list of one.
            None => vec![self.plugin(&Value::Object(map.clone()))?],
        };
        if plugins.is_empty() {
            return Err(self.bad("\"plugins\"", "the network has no plugins"));
        }
        Ok(Network {
            name,
            file: None,
            version,
            disable_check: self.flag(&map, "disableCheck")?,
            disable_gc: self.flag(&map, "disableGC")?,
            inlined_only: self.flag(&map, "loadOnlyInlinedPlugins")?,
            plugins,
        })
    }
}

fn json(path: &Path, bytes: &[u8]) -> Result<(String, Value), NetworkError> {
    let bad = |line: Option<usize>, reason: String| NetworkError::ConfFile {
        path: path.to_owned(),
        line,
        reason,
    };
    let text = std::str::from_utf8(bytes).map_err(|_| bad(None, "it is not UTF-8 text".into()))?;
    if text.trim().is_empty() {
        return Err(bad(None, "it is empty".into()));
    }
    let value = serde_json::from_str(text).map_err(|e| bad(Some(e.line()), e.to_string()))?;
    if is_too_deep(&value) {
        return Err(bad(None, format!("it is nested more than {DEEPEST} levels deep")));
    }
    Ok((text.to_owned(), value))
}

/// The network that the file `path` with these contents describes.
pub(crate) fn parse(path: &Path, bytes: &[u8]) -> Result<Network, NetworkError> {
    let (text, value) = json(path, bytes)?;
    Parser { path, text: &text }.network(value)
}

/// The plugin that a file in the directory of a network's name describes.
pub(crate) fn parse_plugin(path: &Path, bytes: &[u8]) -> Result<Plugin, NetworkError> {
    let (text, value) = json(path, bytes)?;
    Parser { path, text: &text }.plugin(&value)
}

impl Network {
    /// The configuration list as it is recorded, with everything that DEL needs.
    pub(crate) fn to_value(&self) -> Value {
        let plugins = self.plugins.iter().map(|plugin| Value::Object(plugin.raw.clone())).collect();
        let mut map = Map::new();
        map.insert("cniVersion".into(), self.version.to_string().into());
        map.insert("name".into(), self.name.clone().into());
        map.insert("disableCheck".into(), self.disable_check.into());
        map.insert("disableGC".into(), self.disable_gc.into());
        map.insert("plugins".into(), Value::Array(plugins));
        Value::Object(map)
    }

    /// The network of a recorded configuration list.
    pub(crate) fn from_value(value: Value) -> Result<Self, NetworkError> {
        Parser { path: Path::new("(record)"), text: "" }.network(value)
    }

    /// Whether a plugin of the chain is told of host ports.
    pub(crate) fn maps_ports(&self) -> bool {
        self.plugins.iter().any(|plugin| plugin.capabilities.contains("portMappings"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Network, NetworkError> {
        parse(Path::new("/etc/cni/net.d/10-x.conflist"), text.as_bytes())
    }

    #[test]
    fn a_list_and_a_single_plugin_are_networks() {
        let list = read(
            r#"{"cniVersion":"1.0.0","name":"net","disableCheck":true,"plugins":[
                {"type":"bridge","capabilities":{"ips":true,"mac":false}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.plugins.len(), list.disable_check), ("net", 2, true));
        assert_eq!(list.plugins[0].capabilities, BTreeSet::from(["ips".to_owned()]));
        assert!(list.maps_ports());
        assert_eq!(Network::from_value(list.to_value()).unwrap(), list);
        let single = read(r#"{"name":"one","type":"ptp"}"#).unwrap();
        assert_eq!((single.plugins.len(), single.version.to_string()), (1, "0.1.0".into()));
        assert!(!single.maps_ports());
    }

    #[test]
    fn the_highest_version_that_both_know_is_taken() {
        let network = |versions: &str| {
            read(&format!(r#"{{"name":"n","type":"t",{versions}}}"#)).map(|n| n.version.to_string())
        };
        for (versions, expected) in [
            (r#""cniVersion":"0.4.0""#, Some("0.4.0")),
            (r#""cniVersions":["0.3.1","1.0.0","9.0.0"]"#, Some("1.0.0")),
            (r#""cniVersion":"0.4.0","cniVersions":["1.1.0"]"#, Some("1.1.0")),
            (r#""cniVersion":"0.4.0","cniVersions":["9.9.9"]"#, Some("0.4.0")),
            (r#""cniVersions":["9.9.9"]"#, None),
            (r#""cniVersion":"7.0.0""#, None),
            (r#""cniVersion":1"#, None),
            (r#""cniVersions":"1.0.0""#, None),
        ] {
            assert_eq!(network(versions).ok().as_deref(), expected, "{versions}");
        }
    }

    #[test]
    fn a_bad_file_is_named_with_its_line() {
        for (text, line, words) in [
            ("", None, "empty"),
            ("{\n\"name\": \"x\",,\n}", Some(2), "key must be"),
            ("[]", None, "not a JSON object"),
            ("{\n\n\"name\": \"a/b\", \"type\": \"t\"}", Some(3), "cannot name a network"),
            ("{\"type\": \"t\"}", None, "no \"name\""),
            ("{\"name\": \"n\",\n\"plugins\": []}", Some(2), "no plugins"),
            ("{\"name\": \"n\",\n\"plugins\": {}}", Some(2), "not a list"),
            ("{\"name\": \"n\",\n\"plugins\": [{}]}", Some(2), "no \"type\""),
            ("{\"name\": \"n\",\n\"type\": \"../sh\"}", Some(2), "names a path"),
            (
                "{\"name\": \"n\", \"type\": \"t\",\n\"cniVersion\": \"3.0.0\"}",
                Some(2),
                "not known",
            ),
            ("{\"name\": \"n\", \"type\": \"t\", \"disableCheck\": 3}", Some(1), "neither"),
            ("{\"name\": \"n\", \"type\": \"t\", \"capabilities\": []}", Some(1), "capabilities"),
        ] {
            let error = read(text).unwrap_err();
            let NetworkError::ConfFile { line: found, ref reason, .. } = error else {
                panic!("{error:?}")
            };
            assert_eq!(found, line, "{text}: {error}");
            assert!(reason.contains(words), "{text}: {reason}");
            assert!(error.to_string().contains("10-x.conflist"), "{error}");
        }
    }

    #[test]
    fn files_of_cni_are_known_by_their_names() {
        for (name, expected) in [
            ("10-a.conflist", true),
            ("a.conf", true),
            ("a.json", true),
            (".a.conf", false),
            (".conf", false),
            ("a.conf.tmp", false),
            ("calico-kubeconfig", false),
        ] {
            assert_eq!(is_conf_file(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = parse(Path::new("x"), &bytes);
        }

        #[test]
        fn no_json_makes_the_parser_panic(
            name in "\\PC{0,8}", version in "\\PC{0,8}", kind in "\\PC{0,8}", n in 0..4_u8,
        ) {
            let value = serde_json::json!({"name": name, "cniVersion": version,
                "plugins": vec![serde_json::json!({"type": kind}); n.into()]});
            if let Ok(network) = parse(Path::new("x"), value.to_string().as_bytes()) {
                prop_assert!(!network.plugins.is_empty());
                prop_assert!(!network.name.contains('/'));
            }
        }
    }
}
