//! What only the layers below can tell about a layer.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Left over after unpacking, because layers are unpacked in any order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Pending {
    /// Directories that the archive has no entry for; they look as they do in the layers below. The
    /// root is the empty path.
    pub implied: BTreeSet<PathBuf>,
    /// What is hidden, if it is there at all.
    pub whiteouts: BTreeSet<PathBuf>,
    /// Everything below is hidden, which overlayfs cannot say of a root.
    pub is_root_opaque: bool,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.implied.is_empty() && self.whiteouts.is_empty() && !self.is_root_opaque
    }

    /// Forgets `path` and what is below it.
    pub fn forget(&mut self, path: &Path) {
        self.implied.retain(|p| !p.starts_with(path));
        self.whiteouts.retain(|p| !p.starts_with(path));
    }

    /// One letter and a path each, every one ended by a NUL, which no path has.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |letter: u8, path: &Path| {
            out.push(letter);
            out.extend_from_slice(path.as_os_str().as_bytes());
            out.push(0);
        };
        for path in &self.implied {
            put(b'D', path);
        }
        for path in &self.whiteouts {
            put(b'W', path);
        }
        if self.is_root_opaque {
            put(b'O', Path::new(""));
        }
        out
    }

    /// What [`Pending::to_bytes`] made; `None` for anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut pending = Self::default();
        let mut rest = bytes;
        while let Some((letter, after)) = rest.split_first() {
            let end = after.iter().position(|b| *b == 0)?;
            let path = PathBuf::from(OsStr::from_bytes(&after[..end]));
            match letter {
                b'D' => drop(pending.implied.insert(path)),
                b'W' => drop(pending.whiteouts.insert(path)),
                b'O' => pending.is_root_opaque = true,
                _ => return None,
            }
            rest = &after[end + 1..];
        }
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_survives_its_bytes() {
        let mut pending = Pending { is_root_opaque: true, ..Pending::default() };
        pending.implied.extend(["", "a\nb", "c/d"].map(PathBuf::from));
        pending.whiteouts.insert(PathBuf::from(OsStr::from_bytes(b"\xff/x")));
        assert_eq!(Pending::from_bytes(&pending.to_bytes()), Some(pending));
        assert_eq!(Pending::from_bytes(b"Da"), None);
        assert_eq!(Pending::from_bytes(b"Xa\0"), None);
    }
}
