//! The files of vendors, as they are written. Pure.

use serde::Deserialize;

use crate::name::{is_device, is_kind};

/// Versions of the format that are read. A later minor version may have fields that are not known here.
const VERSIONS: [&str; 10] =
    ["0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0", "1.1.0", "0.2.0", "0.1.0"];

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) cdi_version: String,
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) annotations: Notes,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    #[serde(default)]
    pub(crate) container_edits: ContainerEdits,
}

/// Notes of the vendor for people; they change nothing.
pub(crate) type Notes = std::collections::BTreeMap<String, String>;

/// A device of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Device {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) annotations: Notes,
    #[serde(default)]
    pub(crate) container_edits: ContainerEdits,
}

/// What a device, or every device of a file, changes in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ContainerEdits {
    pub(crate) env: Vec<String>,
    pub(crate) device_nodes: Vec<DeviceNode>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) intel_rdt: Option<IntelRdt>,
    #[serde(rename = "additionalGids", alias = "additionalGIDs")]
    pub(crate) additional_gids: Vec<u32>,
}

/// A device node inside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct DeviceNode {
    pub(crate) path: String,
    pub(crate) host_path: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) major: i64,
    pub(crate) minor: i64,
    pub(crate) file_mode: Option<u32>,
    pub(crate) permissions: String,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// A network interface of the host that moves into the container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct NetDevice {
    pub(crate) host_interface_name: String,
    pub(crate) name: String,
}

/// A program to run at a point of the container's life.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Hook {
    pub(crate) hook_name: String,
    pub(crate) path: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) timeout: Option<i64>,
}

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Mount {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) options: Vec<String>,
}

/// A class of service for caches and memory bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct IntelRdt {
    #[serde(rename = "closID", alias = "closId")]
    pub(crate) clos_id: String,
    pub(crate) l3_cache_schema: String,
    pub(crate) mem_bw_schema: String,
    pub(crate) schemata: Vec<String>,
    #[serde(rename = "enableCMT", alias = "enableCmt")]
    pub(crate) enable_cmt: bool,
    #[serde(rename = "enableMBM", alias = "enableMbm")]
    pub(crate) enable_mbm: bool,
    pub(crate) enable_monitoring: bool,
}

/// Languages of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Json,
    Yaml,
}

impl Language {
    /// By the ending of a file's name; `None` for files that are no specs.
    pub(crate) fn of(name: &std::path::Path) -> Option<Self> {
        match name.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// The file that `text` is, checked as far as it can be without a container.
pub(crate) fn parse(text: &str, language: Language) -> Result<File, String> {
    let file: File = match language {
        Language::Json => serde_json::from_str(text).map_err(|e| e.to_string())?,
        Language::Yaml => serde_saphyr::from_str(text).map_err(|e| e.to_string())?,
    };
    if !VERSIONS.contains(&file.cdi_version.as_str()) {
        return Err(format!("cdiVersion {:?} is not known here", file.cdi_version));
    }
    if !is_kind(&file.kind) {
        return Err(format!("kind {:?}: vendor/class is needed", file.kind));
    }
    if file.devices.is_empty() {
        return Err("it has no devices".to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    for device in &file.devices {
        if !is_device(&device.name) {
            return Err(format!("{:?} is not the name of a device", device.name));
        }
        if !seen.insert(device.name.as_str()) {
            return Err(format!("the device {:?} is there twice", device.name));
        }
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"cdiVersion": "0.6.0", "kind": "vendor.com/gpu",
        "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/gpu0"}]}}],
        "containerEdits": {"env": ["GPU=yes"]}}"#;
    const YAML: &str = "cdiVersion: 0.6.0\nkind: vendor.com/gpu\ndevices:\n- name: '0'\n  \
        containerEdits:\n    deviceNodes:\n    - path: /dev/gpu0\ncontainerEdits:\n  env:\n  - GPU=yes\n";

    #[test]
    fn json_and_yaml_say_the_same() {
        assert_eq!(parse(JSON, Language::Json).unwrap(), parse(YAML, Language::Yaml).unwrap());
    }

    #[test]
    fn what_is_not_known_or_makes_no_sense_is_an_error_that_names_it() {
        for (from, to, named) in [
            ("0.6.0", "9.9.9", "9.9.9"),
            ("vendor.com/gpu", "gpu", "kind"),
            (r#""name": "0""#, r#""name": "/""#, "name of a device"),
            ("\"env\"", "\"entirelyNew\"", "entirelyNew"),
            ("\"path\"", "\"pfad\"", "pfad"),
        ] {
            let error = parse(&JSON.replace(from, to), Language::Json).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
        let none = r#"{"cdiVersion": "0.6.0", "kind": "v/c", "devices": []}"#;
        assert!(parse(none, Language::Json).is_err());
        let twice =
            r#"{"cdiVersion": "0.6.0", "kind": "v/c", "devices": [{"name": "a"}, {"name": "a"}]}"#;
        assert!(parse(twice, Language::Json).unwrap_err().contains("twice"));
    }

    #[test]
    fn languages_are_told_by_the_name() {
        for (name, language) in [
            ("a.json", Some(Language::Json)),
            ("a.yaml", Some(Language::Yaml)),
            ("a.yml", Some(Language::Yaml)),
            ("a.json.bak", None),
            ("json", None),
        ] {
            assert_eq!(Language::of(name.as_ref()), language, "{name}");
        }
    }
}
