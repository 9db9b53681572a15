//! Images in archives: OCI image layouts and what `docker save` writes.

use model::{Class, Classified, Digest};
use serde::{Deserialize, Serialize};

use crate::json;
use crate::layer::{LayerEntry, layer_entry};
use crate::manifest::{MAX_INDEX, MAX_LAYERS, MAX_MANIFEST};

/// The file that marks an OCI layout.
pub const LAYOUT_MARKER_FILE: &str = "oci-layout";
/// What is in it.
pub const LAYOUT_MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists an OCI layout's images; read it with [`crate::Manifest::parse`].
pub const LAYOUT_INDEX_FILE: &str = "index.json";
/// The file that lists a `docker save` archive's images.
pub const DOCKER_MANIFEST_FILE: &str = "manifest.json";
/// Annotation of a layout's entry: its tag, or its whole name.
pub const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of a layout's entry: its whole name, as containerd and nerdctl write it.
pub const ANNOTATION_FULL_NAME: &str = "io.containerd.image.name";

/// An archive's table of contents that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadLayout {
    /// Larger than a manifest may be.
    #[error("{file} has {size} bytes, the limit is {MAX_MANIFEST}")]
    TooLarge {
        /// Which file.
        file: &'static str,
        /// Its size in bytes.
        size: u64,
    },
    /// Not JSON of the expected form, or a key twice.
    #[error("{file} is not valid: {source}")]
    Json {
        /// Which file.
        file: &'static str,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A layout of another version.
    #[error("the OCI layout has the unknown version {0:?}")]
    UnknownVersion(String),
    /// A path that leaves the archive.
    #[error("manifest.json names {0:?}, which is not a path inside the archive")]
    BadPath(String),
    /// More images or layers than allowed.
    #[error("manifest.json lists {count} {what}, the limit is {limit}")]
    TooMany {
        /// `images` or `layers`.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many are allowed.
        limit: usize,
    },
}

impl Classified for BadLayout {
    fn class(&self) -> Class {
        match self {
            Self::TooLarge { .. } | Self::TooMany { .. } => Class::ResourceExhausted,
            Self::UnknownVersion(_) => Class::Unimplemented,
            Self::Json { .. } | Self::BadPath(_) => Class::InvalidArgument,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Checks what is in the file [`LAYOUT_MARKER_FILE`].
///
/// # Errors
/// [`BadLayout`] unless it is version 1.
pub fn check_layout_marker(bytes: &[u8]) -> Result<(), BadLayout> {
    let marker: Marker = read(LAYOUT_MARKER_FILE, bytes)?;
    if marker.image_layout_version.starts_with("1.") {
        Ok(())
    } else {
        Err(BadLayout::UnknownVersion(marker.image_layout_version.chars().take(80).collect()))
    }
}

/// Where a layout keeps the content of `digest`.
#[must_use]
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// One image of a `docker save` archive. The paths are inside the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ArchiveImage {
    /// The configuration's path.
    pub config: String,
    /// The image's names; not checked.
    #[serde(default, deserialize_with = "crate::descriptor::null_is_empty")]
    pub repo_tags: Vec<String>,
    /// The layers' tars, the lowest first.
    #[serde(default, deserialize_with = "crate::descriptor::null_is_empty")]
    pub layers: Vec<String>,
}

/// Reads a `docker save` archive's [`DOCKER_MANIFEST_FILE`].
///
/// # Errors
/// [`BadLayout`] if it is not one, or names paths outside the archive.
pub fn parse_docker_archive(bytes: &[u8]) -> Result<Vec<ArchiveImage>, BadLayout> {
    let images: Vec<ArchiveImage> = read(DOCKER_MANIFEST_FILE, bytes)?;
    limit("images", images.len(), MAX_INDEX)?;
    for image in &images {
        limit("layers", image.layers.len(), MAX_LAYERS)?;
        for path in std::iter::once(&image.config).chain(&image.layers) {
            // The entry must be spelled the way the archive's own names are compared.
            let inside = matches!(
                layer_entry(path.as_bytes()),
                Ok(LayerEntry::Content(p)) if p.to_str() == Some(path.trim_start_matches("./"))
            );
            if !inside {
                return Err(BadLayout::BadPath(path.chars().take(160).collect()));
            }
        }
    }
    Ok(images)
}

/// The text of a `docker save` archive's [`DOCKER_MANIFEST_FILE`].
#[must_use]
pub fn docker_archive_to_json(images: &[ArchiveImage]) -> Vec<u8> {
    // Strings and lists always serialise.
    serde_json::to_vec(images).unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, BadLayout> {
    let size = bytes.len() as u64;
    if size > MAX_MANIFEST {
        return Err(BadLayout::TooLarge { file, size });
    }
    json::strict(bytes).map_err(|source| BadLayout::Json { file, source })
}

fn limit(what: &'static str, count: usize, limit: usize) -> Result<(), BadLayout> {
    if count > limit { Err(BadLayout::TooMany { what, count, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_we_write_is_the_marker_we_read() {
        assert!(check_layout_marker(LAYOUT_MARKER.as_bytes()).is_ok());
        assert!(check_layout_marker(br#"{"imageLayoutVersion":"2.0.0"}"#).is_err());
        assert!(check_layout_marker(b"").is_err());
    }

    #[test]
    fn a_docker_archive_names_only_paths_inside_itself() {
        let ok =
            br#"[{"Config":"a.json","RepoTags":null,"Layers":["x/layer.tar","blobs/sha256/1"]}]"#;
        let images = parse_docker_archive(ok).unwrap();
        assert_eq!(images[0].layers, ["x/layer.tar", "blobs/sha256/1"]);
        assert_eq!(parse_docker_archive(&docker_archive_to_json(&images)).unwrap(), images);
        for bad in ["../a.json", "/etc/passwd", "a/../../b", ""] {
            let text = format!(r#"[{{"Config":"{bad}","Layers":[]}}]"#);
            assert!(parse_docker_archive(text.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
