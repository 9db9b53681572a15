//! Manifests and indexes.

use std::collections::BTreeMap;

use model::{Class, Classified};
use serde::{Deserialize, Serialize};

use crate::descriptor::{Descriptor, null_is_empty};
use crate::json;
use crate::media_type::{DocumentKind, bare, document_kind, is_image_config, types};
use crate::platform::Platform;

/// The largest manifest or index that is read, in bytes.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// The most layers of one image. overlayfs itself takes 500.
pub const MAX_LAYERS: usize = 512;
/// The most manifests in one index.
pub const MAX_INDEX: usize = 1024;
/// The largest document that a descriptor may announce: a tebibyte is no layer.
const MAX_SIZE: u64 = 1 << 40;

/// A document that is not a manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    /// Larger than [`MAX_MANIFEST`].
    #[error("the manifest has {size} bytes, the limit is {MAX_MANIFEST}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
    },
    /// Not JSON of the expected form, or a key twice.
    #[error("the manifest is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Docker's schema 1.
    #[error(
        "the manifest is of Docker's schema 1, which was given up in 2017 and is not supported: push the image again with a current tool"
    )]
    SchemaOne,
    /// It can be read as a manifest and as an index (CVE-2021-41190), or as neither.
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// The type that it was announced with, or names itself, is not what it is.
    #[error("the manifest was announced as {announced:?} but is {found:?}")]
    TypeMismatch {
        /// The announced type.
        announced: String,
        /// The type in the document, or what its fields make it.
        found: String,
    },
    /// Neither version 2 nor 1.
    #[error("the manifest has the unknown schema version {0}")]
    UnknownVersion(u64),
    /// More layers or manifests than allowed.
    #[error("the manifest has {count} {what}, the limit is {limit}")]
    TooMany {
        /// `layers` or `manifests`.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// A size that no content has.
    #[error("the manifest announces {size} bytes for {digest}, which is more than any layer has")]
    ImpossibleSize {
        /// Of which content.
        digest: String,
        /// The announced size.
        size: u64,
    },
}

impl Classified for BadManifest {
    fn class(&self) -> Class {
        match self {
            Self::SchemaOne | Self::UnknownVersion(_) => Class::Unimplemented,
            Self::TooLarge { .. } | Self::TooMany { .. } | Self::ImpossibleSize { .. } => {
                Class::ResourceExhausted
            }
            Self::Json(_) | Self::Ambiguous(_) | Self::TypeMismatch { .. } => Class::DataLoss,
        }
    }
}

/// One image: a configuration and layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageManifest {
    /// Its own media type (the usual OCI one where the document does not say).
    pub media_type: String,
    /// The image's configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// Manifests for several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its own media type (the usual OCI one where the document does not say).
    pub media_type: String,
    /// The manifests or further indexes.
    pub manifests: Vec<Descriptor>,
    /// Free text by key.
    pub annotations: BTreeMap<String, String>,
}

/// What a reference leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manifest {
    /// One image.
    Image(ImageManifest),
    /// A choice of images.
    Index(Index),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    config: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifests: Option<Vec<Descriptor>>,
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Reads a manifest or index. `content_type` is what the sender said it is, if it said so.
    ///
    /// # Errors
    /// [`BadManifest`]; see its variants.
    pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self, BadManifest> {
        let size = bytes.len() as u64;
        if size > MAX_MANIFEST {
            return Err(BadManifest::TooLarge { size });
        }
        let announced = content_type.map_or(DocumentKind::Generic, document_kind);
        if announced == DocumentKind::SchemaOne {
            return Err(BadManifest::SchemaOne);
        }
        // A schema 1 document must be told apart before the form of schema 2 is asked for.
        let probe: Probe = json::strict(bytes)?;
        match (probe.schema_version, probe.fs_layers.is_some()) {
            (Some(1), _) | (_, true) => return Err(BadManifest::SchemaOne),
            (Some(2) | None, false) => {}
            (Some(other), false) => return Err(BadManifest::UnknownVersion(other)),
        }
        let raw: Raw = serde_json::from_slice(bytes)?;
        let own = raw.media_type.clone().filter(|t| !t.is_empty());
        let manifest = Self::from_raw(raw)?;
        manifest.check_types(own.as_deref(), content_type)?;
        Ok(manifest)
    }

    fn from_raw(raw: Raw) -> Result<Self, BadManifest> {
        let annotations = raw.annotations;
        match (raw.config, raw.layers, raw.manifests) {
            (None, None, Some(manifests)) => {
                limit("manifests", manifests.len(), MAX_INDEX)?;
                check_sizes(&manifests)?;
                let media_type = own_type(raw.media_type, types::OCI_INDEX);
                Ok(Self::Index(Index { media_type, manifests, annotations }))
            }
            (Some(config), Some(layers), None) => {
                limit("layers", layers.len(), MAX_LAYERS)?;
                check_sizes(std::slice::from_ref(&config))?;
                check_sizes(&layers)?;
                let media_type = own_type(raw.media_type, types::OCI_MANIFEST);
                Ok(Self::Image(ImageManifest { media_type, config, layers, annotations }))
            }
            (Some(_), None, None) => Err(BadManifest::Ambiguous("it has a config and no layers")),
            (None, Some(_), None) => Err(BadManifest::Ambiguous("it has layers and no config")),
            (None, None, None) => {
                Err(BadManifest::Ambiguous("it has neither a config nor manifests"))
            }
            (_, _, Some(_)) => Err(BadManifest::Ambiguous(
                "it has manifests and also a config or layers, so it can be read in two ways",
            )),
        }
    }

    fn check_types(&self, own: Option<&str>, announced: Option<&str>) -> Result<(), BadManifest> {
        let is = match self {
            Self::Image(_) => DocumentKind::Manifest,
            Self::Index(_) => DocumentKind::Index,
        };
        let mismatch = |announced: &str, found: &str| BadManifest::TypeMismatch {
            announced: announced.chars().take(160).collect(),
            found: found.chars().take(160).collect(),
        };
        let shape = if is == DocumentKind::Index { "an index" } else { "an image manifest" };
        if let Some(own) = own
            && document_kind(own) != is
        {
            return Err(mismatch(own, shape));
        }
        let Some(announced) = announced else { return Ok(()) };
        let kind = document_kind(announced);
        if kind == DocumentKind::Generic {
            return Ok(());
        }
        if kind != is {
            return Err(mismatch(announced, own.unwrap_or(shape)));
        }
        match own {
            Some(own) if bare(own) != bare(announced) => Err(mismatch(announced, own)),
            Some(_) | None => Ok(()),
        }
    }

    /// The document's media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        match self {
            Self::Image(m) => &m.media_type,
            Self::Index(i) => &i.media_type,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Probe {
    #[serde(default)]
    schema_version: Option<u64>,
    #[serde(default)]
    fs_layers: Option<serde::de::IgnoredAny>,
}

fn own_type(given: Option<String>, usual: &str) -> String {
    given.filter(|t| !t.is_empty()).unwrap_or_else(|| usual.to_owned())
}

fn limit(what: &'static str, count: usize, limit: usize) -> Result<(), BadManifest> {
    if count > limit { Err(BadManifest::TooMany { what, count, limit }) } else { Ok(()) }
}

fn check_sizes(all: &[Descriptor]) -> Result<(), BadManifest> {
    match all.iter().find(|d| d.size > MAX_SIZE) {
        Some(d) => Err(BadManifest::ImpossibleSize { digest: d.digest.to_string(), size: d.size }),
        None => Ok(()),
    }
}

impl ImageManifest {
    /// Bytes of the configuration and of all layers, as they travel.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        // Each size is below 2^40 and there are at most 513: no overflow.
        self.config.size + self.layers.iter().map(|l| l.size).sum::<u64>()
    }

    /// Whether it describes a root file system, and not a chart, a module, a signature, ….
    #[must_use]
    pub fn is_image(&self) -> bool {
        // Old Docker versions announced the configuration as plain JSON.
        is_image_config(&self.config.media_type)
            || document_kind(&self.config.media_type) == DocumentKind::Generic
    }

    /// The document, for an archive. Not byte for byte what it was read from.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(&Raw {
            schema_version: 2,
            media_type: Some(self.media_type.clone()),
            config: Some(self.config.clone()),
            layers: Some(self.layers.clone()),
            manifests: None,
            annotations: self.annotations.clone(),
        })
    }
}

impl Index {
    /// The manifest (or further index) for a host of platform `host`.
    ///
    /// The best that the host can run; where none names a fitting platform, the first one that
    /// names no platform at all. Attestations and other artifacts are never chosen.
    #[must_use]
    pub fn choose(&self, host: &Platform) -> Option<&Descriptor> {
        let usable: Vec<_> = self.manifests.iter().filter(|d| is_candidate(d)).collect();
        let named = |want: &Platform| {
            usable.iter().copied().find(|d| {
                let p = d.platform.as_ref();
                p.is_some_and(|p| Platform::new(&p.os, &p.architecture, &p.variant) == *want)
            })
        };
        let unnamed = || usable.iter().copied().find(|d| d.platform.is_none());
        host.runs().iter().find_map(named).or_else(unnamed)
    }

    /// The document, for an archive. Not byte for byte what it was read from.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        to_json(&Raw {
            schema_version: 2,
            media_type: Some(self.media_type.clone()),
            config: None,
            layers: None,
            manifests: Some(self.manifests.clone()),
            annotations: self.annotations.clone(),
        })
    }
}

fn is_candidate(d: &Descriptor) -> bool {
    let attestation = d.annotations.get("vnd.docker.reference.type").is_some_and(|t| !t.is_empty());
    !attestation
        && matches!(document_kind(&d.media_type), DocumentKind::Manifest | DocumentKind::Index)
}

fn to_json(raw: &Raw) -> Vec<u8> {
    // Strings, numbers and string-keyed maps always serialise.
    serde_json::to_vec(raw).unwrap_or_default()
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
