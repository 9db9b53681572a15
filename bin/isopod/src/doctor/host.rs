//! The machine's files, or those of a test.

use std::path::{Path, PathBuf};

/// Below which directory `/proc`, `/sys` and the rest are.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

impl Host {
    /// This machine.
    pub fn this() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A machine whose files are below `root`.
    #[cfg(test)]
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where an absolute path is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Whether it is there.
    pub fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// A file's text without the white space at its ends; empty where it cannot be read.
    pub fn text(&self, path: &str) -> String {
        let text = std::fs::read_to_string(self.path(path)).unwrap_or_default();
        text.trim().to_owned()
    }

    /// A file's number.
    pub fn number(&self, path: &str) -> Option<u64> {
        self.text(path).parse().ok()
    }
}

/// Whether a program of this name is in one of the usual places.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    let places = path.split(':').filter(|place| !place.is_empty()).chain(usual);
    places.map(|place| Path::new(place).join(name)).find(|file| file.is_file())
}
