//! What the paths in a layer's tar mean, and how layers stack up.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use model::{Class, Classified, Digest};

use crate::hash::sha256;

/// Names that begin with this remove what lower layers have (OCI image specification, "Whiteouts").
pub const WHITEOUT_PREFIX: &str = ".wh.";
/// A file of this name hides everything that lower layers have in its directory.
pub const OPAQUE_MARKER: &str = ".wh..wh..opq";
/// Longest path in a tar, as Linux's PATH_MAX.
const MAX_PATH: usize = 4095;
/// Longest name of one file, as Linux's NAME_MAX.
const MAX_COMPONENT: usize = 255;

/// What one entry of a layer is, by its path. Paths are relative to the layer's root, never empty
/// (but for the directory of an opaque marker in the root) and have no `.` or `..` in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerEntry {
    /// The root directory itself.
    Root,
    /// A file, directory, link, … to create.
    Content(PathBuf),
    /// What lower layers have at this path is gone.
    Whiteout(PathBuf),
    /// What lower layers have in this directory is gone.
    Opaque(PathBuf),
    /// Book-keeping of another storage driver (`.wh..wh.…`); nothing to do.
    Ignored,
}

/// A path in a layer that must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the layer's entry {path:?} is refused: {reason}")]
pub struct BadLayerPath {
    /// The path, cut after 160 characters.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Classified for BadLayerPath {
    fn class(&self) -> Class {
        Class::DataLoss
    }
}

/// What the entry called `path` in a layer's tar means.
///
/// A leading `/` or `./` means the root, as everywhere. `..` is followed by name and must not leave
/// the root.
///
/// # Errors
/// [`BadLayerPath`] if the path leaves the root, is too long, has a NUL, or whites out nothing.
pub fn layer_entry(path: &[u8]) -> Result<LayerEntry, BadLayerPath> {
    let bad = |reason| BadLayerPath {
        path: String::from_utf8_lossy(path).chars().take(160).collect(),
        reason,
    };
    if path.len() > MAX_PATH {
        return Err(bad("it is too long"));
    }
    if path.contains(&0) {
        return Err(bad("it has a NUL in it"));
    }
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(|| bad("it leaves the root"))?;
            }
            _ if part.len() > MAX_COMPONENT => return Err(bad("a name in it is too long")),
            _ => parts.push(part),
        }
    }
    let Some((name, directory)) = parts.split_last() else { return Ok(LayerEntry::Root) };
    if directory.iter().any(|d| d.starts_with(WHITEOUT_PREFIX.as_bytes())) {
        // aufs kept its hard-link store in `.wh..wh.plnk/`.
        return Ok(LayerEntry::Ignored);
    }
    let join = |parts: &[&[u8]]| parts.iter().map(|p| OsStr::from_bytes(p)).collect::<PathBuf>();
    let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX.as_bytes()) else {
        return Ok(LayerEntry::Content(join(&parts)));
    };
    if *name == OPAQUE_MARKER.as_bytes() {
        return Ok(LayerEntry::Opaque(join(directory)));
    }
    match hidden {
        b"" | b"." | b".." => Err(bad("it whites out nothing")),
        h if h.starts_with(WHITEOUT_PREFIX.as_bytes()) => Ok(LayerEntry::Ignored),
        h => {
            let mut target = join(directory);
            target.push(OsStr::from_bytes(h));
            Ok(LayerEntry::Whiteout(target))
        }
    }
}

/// The chain id of each layer: the digest of it and everything below it (OCI image specification,
/// "Layer ChainID").
#[must_use]
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let next = match chain.last() {
            None => diff.clone(),
            Some(parent) => sha256(format!("{parent} {diff}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_told_apart_by_their_names() {
        use LayerEntry as E;
        for (path, want) in [
            ("./", Some(E::Root)),
            ("", Some(E::Root)),
            ("etc/passwd", Some(E::Content("etc/passwd".into()))),
            ("/etc//./passwd", Some(E::Content("etc/passwd".into()))),
            ("a/../b", Some(E::Content("b".into()))),
            ("a/.wh.b", Some(E::Whiteout("a/b".into()))),
            ("a/.wh..wh..opq", Some(E::Opaque("a".into()))),
            (".wh..wh..opq", Some(E::Opaque("".into()))),
            (".wh..wh.aufs", Some(E::Ignored)),
            (".wh..wh.plnk/12.34", Some(E::Ignored)),
            ("a/.whx", Some(E::Content("a/.whx".into()))),
            ("../a", None),
            ("a/../../b", None),
            ("a/.wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
            ("a\0b", None),
        ] {
            assert_eq!(layer_entry(path.as_bytes()).ok(), want, "{path:?}");
        }
        assert!(layer_entry(&[b'a'; 256]).is_err() && layer_entry(&b"a/".repeat(2100)).is_err());
    }

    #[test]
    fn a_chain_id_depends_on_everything_below() {
        let (a, b) = (sha256(b"a"), sha256(b"b"));
        let chain = chain_ids(&[a.clone(), b.clone()]);
        assert_eq!(chain, [a.clone(), sha256(format!("{a} {b}").as_bytes())]);
        assert_ne!(chain[1], chain_ids(&[b.clone(), b])[1]);
        assert!(chain_ids(&[]).is_empty());
    }

    proptest! {
        #[test]
        fn no_path_leaves_the_root_or_keeps_dots(path in proptest::collection::vec(
            prop_oneof![Just(b'.'), Just(b'/'), Just(b'w'), Just(b'h'), any::<u8>()], 0..64)) {
            use std::path::Component;
            match layer_entry(&path) {
                Ok(LayerEntry::Content(p) | LayerEntry::Whiteout(p)) => {
                    prop_assert!(p.components().count() > 0);
                    prop_assert!(p.components().all(|c| matches!(c, Component::Normal(_))));
                }
                Ok(LayerEntry::Opaque(p)) => {
                    prop_assert!(p.components().all(|c| matches!(c, Component::Normal(_))));
                }
                Ok(LayerEntry::Root | LayerEntry::Ignored) | Err(_) => {}
            }
        }
    }
}
