//! Image configurations.

use std::collections::BTreeMap;

use model::{Class, Classified, Digest, ImageUser};
use serde::Deserialize;

use crate::descriptor::null_is_empty;
use crate::json;
use crate::manifest::MAX_LAYERS;
use crate::platform::Platform;

/// The largest configuration that is read, in bytes.
pub const MAX_CONFIG: u64 = 8 << 20;

/// A document that is not an image configuration.
#[derive(Debug, thiserror::Error)]
pub enum BadConfig {
    /// Larger than [`MAX_CONFIG`].
    #[error("the image configuration has {size} bytes, the limit is {MAX_CONFIG}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// Not JSON of the expected form, or a key twice.
    #[error("the image configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// `rootfs.type` is something else than `layers`.
    #[error("the image's root file system is of the unknown type {0:?}")]
    UnknownRootfs(String),
    /// More layers than an image may have.
    #[error("the image configuration lists {count} layers, the limit is {MAX_LAYERS}")]
    TooManyLayers {
        /// How many it lists.
        count: usize,
    },
}

impl Classified for BadConfig {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::TooManyLayers { .. } => Class::ResourceExhausted,
            Self::UnknownRootfs(_) => Class::Unimplemented,
            Self::Json(_) => Class::DataLoss,
        }
    }
}

/// What an image's configuration says (OCI image specification, "Image Configuration").
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Architecture in Go's spelling.
    pub architecture: String,
    /// Operating system in Go's spelling.
    pub os: String,
    /// Variant of the architecture, mostly empty.
    pub variant: String,
    /// When it was made: RFC 3339 as written there.
    pub created: Option<String>,
    /// `user`, `uid`, `user:group`, …; empty means root.
    pub user: String,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments for the entry point, or the program where there is none.
    pub cmd: Vec<String>,
    /// Where to start it; empty means `/`.
    pub working_dir: String,
    /// The signal that asks it to end, by name or number.
    pub stop_signal: Option<String>,
    /// Paths that want a volume of their own, in alphabetical order.
    pub volumes: Vec<String>,
    /// Ports such as `80/tcp`, in alphabetical order.
    pub exposed_ports: Vec<String>,
    /// Free text by key; never steers what is done.
    pub labels: BTreeMap<String, String>,
    /// Digests of the layers' uncompressed tars, the lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default, deserialize_with = "null_is_empty")]
    architecture: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    os: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    variant: String,
    #[serde(default)]
    created: Option<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    config: RawRun,
    rootfs: RawRootfs,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRun {
    #[serde(deserialize_with = "null_is_empty")]
    user: String,
    #[serde(deserialize_with = "null_is_empty")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_empty")]
    working_dir: String,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "null_is_empty")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_is_empty")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_is_empty")]
    labels: BTreeMap<String, Option<String>>,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    diff_ids: Vec<Digest>,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// [`BadConfig`]; see its variants.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadConfig> {
        let size = bytes.len() as u64;
        if size > MAX_CONFIG {
            return Err(BadConfig::TooLarge { size });
        }
        let raw: Raw = json::strict(bytes)?;
        if !matches!(raw.rootfs.kind.as_str(), "layers" | "") {
            return Err(BadConfig::UnknownRootfs(raw.rootfs.kind.chars().take(80).collect()));
        }
        if raw.rootfs.diff_ids.len() > MAX_LAYERS {
            return Err(BadConfig::TooManyLayers { count: raw.rootfs.diff_ids.len() });
        }
        let run = raw.config;
        Ok(Self {
            architecture: raw.architecture,
            os: raw.os,
            variant: raw.variant,
            created: raw.created.filter(|c| !c.is_empty()),
            user: run.user,
            env: run.env,
            entrypoint: run.entrypoint,
            cmd: run.cmd,
            working_dir: run.working_dir,
            stop_signal: run.stop_signal.filter(|s| !s.is_empty()),
            volumes: run.volumes.into_keys().collect(),
            exposed_ports: run.exposed_ports.into_keys().collect(),
            labels: run.labels.into_iter().map(|(k, v)| (k, v.unwrap_or_default())).collect(),
            diff_ids: raw.rootfs.diff_ids,
        })
    }

    /// The platform that the image is for.
    #[must_use]
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }

    /// The user as the CRI reports it: a number, a name, or nothing where the image names none.
    ///
    /// A number that is no user id (too large, negative) is a name, so that nobody can take it for
    /// root by cutting it.
    #[must_use]
    pub fn image_user(&self) -> Option<ImageUser> {
        let user = self.user.split(':').next().unwrap_or_default();
        if user.is_empty() {
            return None;
        }
        let digits = user.bytes().all(|b| b.is_ascii_digit());
        Some(match user.parse() {
            Ok(uid) if digits => ImageUser::Uid(uid),
            Ok(_) | Err(_) => ImageUser::Name(user.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    #[test]
    fn a_configuration_as_docker_writes_it_is_read_with_its_nulls() {
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","created":"2024-05-01T00:00:00Z","history":[{{}}],
            "config":{{"Env":["PATH=/bin"],"Cmd":["sh"],"Entrypoint":null,"Volumes":{{"/data":{{}}}},
            "ExposedPorts":{{"80/tcp":{{}}}},"Labels":null,"User":"1000:1000","WorkingDir":"","StopSignal":"SIGQUIT",
            "OnBuild":null}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            sha256(b"")
        );
        let c = ImageConfig::parse(text.as_bytes()).unwrap();
        assert_eq!(
            (c.env, c.cmd, c.entrypoint),
            (vec!["PATH=/bin".into()], vec!["sh".into()], vec![])
        );
        assert_eq!((c.volumes, c.exposed_ports), (vec!["/data".into()], vec!["80/tcp".into()]));
        assert_eq!((c.stop_signal.as_deref(), c.diff_ids), (Some("SIGQUIT"), vec![sha256(b"")]));
    }

    #[test]
    fn what_is_not_a_configuration_is_refused() {
        for (bad, says) in [
            ("{}", "rootfs"),
            (r#"{"rootfs":{"type":"vhd","diff_ids":[]}}"#, "unknown type"),
            (r#"{"rootfs":{"type":"layers","diff_ids":["sha256:x"]}}"#, "not a digest"),
            (r#"{"os":"a","os":"b","rootfs":{"type":"layers"}}"#, "twice"),
        ] {
            let e = ImageConfig::parse(bad.as_bytes()).unwrap_err().to_string();
            assert!(e.contains(says), "{bad}: {e}");
        }
    }

    #[test]
    fn a_user_is_a_number_only_if_it_is_a_user_id() {
        for (user, want) in [
            ("", None),
            (":5", None),
            ("0", Some(ImageUser::Uid(0))),
            ("1000:2000", Some(ImageUser::Uid(1000))),
            ("nginx:www", Some(ImageUser::Name("nginx".into()))),
            ("4294967296", Some(ImageUser::Name("4294967296".into()))),
            ("-1", Some(ImageUser::Name("-1".into()))),
            ("+5", Some(ImageUser::Name("+5".into()))),
        ] {
            let c = ImageConfig { user: user.into(), ..ImageConfig::default() };
            assert_eq!(c.image_user(), want, "{user:?}");
        }
    }
}
