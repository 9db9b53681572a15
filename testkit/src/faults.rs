//! Arming the points at which a daemon, or one of its monitors, can be ended or made to fail.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// The faults of one daemon and its monitors; only those built for tests have any.
#[derive(Debug, Clone)]
pub struct Faults(PathBuf);

impl Faults {
    pub(crate) fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).expect("a directory");
        Self(directory)
    }

    /// Arms one fault: the `nth` time, from 1, that a process comes to `point`, `action` is done, once:
    /// `kill`, `enospc`, `eio` or `pause`. One that was armed before is not any more.
    ///
    /// # Panics
    /// Where files cannot be written.
    pub fn arm(&self, point: &str, nth: usize, action: &str) {
        self.disarm();
        let new = self.0.join("new");
        fs::write(&new, format!("{point} {nth} {action}")).expect("a file");
        // Nobody reads half of it.
        fs::rename(new, self.0.join("armed")).expect("a file");
    }

    /// Whether the armed fault has struck.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        self.0.join("struck").exists()
    }

    /// Disarms what has not struck, and forgets what has; a process that is held goes on.
    pub fn disarm(&self) {
        for name in ["armed", "struck"] {
            // Most of the time it is not there.
            let _ = fs::remove_file(self.0.join(name));
        }
    }

    /// Begins to write down which points are reached.
    ///
    /// # Panics
    /// Where files cannot be written.
    pub fn trace(&self) {
        fs::write(self.0.join("trace"), "").expect("a file");
    }

    /// Ends that, and gives how often each point was reached.
    ///
    /// # Panics
    /// Where nothing was written down: the daemon was built without points.
    #[must_use]
    pub fn traced(&self) -> BTreeMap<String, usize> {
        let path = self.0.join("trace");
        let text = fs::read_to_string(&path).expect("a file");
        fs::remove_file(path).expect("a file");
        let mut points = BTreeMap::new();
        text.lines().for_each(|line| *points.entry(line.to_owned()).or_default() += 1);
        assert!(!points.is_empty(), "no points: `cargo xtask test` builds a daemon that has some");
        points
    }
}
