//! Images as requests name them, and root file systems as the store hands them out.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An image as a request names it (CRI `ImageSpec`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageSpec {
    /// A name, an id or a digest.
    pub image: String,
    /// Returned unchanged.
    pub annotations: BTreeMap<String, String>,
    /// What the user wrote, where it differs.
    pub user_specified_image: String,
    /// The handler that it is meant for.
    pub runtime_handler: String,
    /// The id that the kubelet got from an earlier pull.
    pub image_ref: String,
}

/// The user that an image's configuration names (`User` of the OCI image configuration).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageUser {
    /// By number.
    Uid(u32),
    /// By name.
    Name(String),
}

/// A root file system as data: what the launcher mounts with overlayfs. Only the launcher mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rootfs {
    /// Read-only directories, the topmost first, as overlayfs wants them. Never empty.
    pub lower: Vec<PathBuf>,
    /// The writable directory and overlayfs's work directory beside it; `None` for a read-only root.
    pub upper: Option<(PathBuf, PathBuf)>,
}
