//! The table of all keys.
//!
//! Owns: names, kinds, defaults and what is said about each. Always: a name's `*` stands for a name that
//! the user chooses; defaults are written as TOML and are allowed by their own kind (a test says so).
//! Callers: `entries` (checking), `settings` (defaults), `command` (explain), the guide.

mod images;
mod network;
mod node;
mod pods;

use super::kind::Kind;

/// Whether a running daemon takes a new value up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// On reload.
    Reload,
    /// At its next start.
    Restart,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Its default, as TOML.
    pub default: &'static str,
    /// When a new value counts.
    pub takes: Takes,
    /// What it does.
    pub about: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, takes: Takes::Restart, about }
}

const fn live(name: &'static str, kind: Kind, default: &'static str, about: &'static str) -> Key {
    Key { name, kind, default, takes: Takes::Reload, about }
}

const LEVELS: Kind = Kind::Choice(&["error", "warn", "info", "debug", "trace"]);

/// All keys, in the order in which they are explained.
pub fn all() -> impl Iterator<Item = &'static Key> {
    [node::KEYS, images::KEYS, network::KEYS, pods::KEYS].into_iter().flatten()
}

impl Key {
    /// Whether `path` is this key, `*` matching anything.
    pub fn is(&self, path: &[String]) -> bool {
        let mut parts = self.name.split('.');
        let all = path.iter().all(|given| parts.next().is_some_and(|p| p == "*" || p == given));
        all && parts.next().is_none()
    }

    /// Whether `path` is a table above this key.
    pub fn is_below(&self, path: &[String]) -> bool {
        let mut parts = self.name.split('.');
        let all = path.iter().all(|given| parts.next().is_some_and(|p| p == "*" || p == given));
        all && parts.next().is_some()
    }
}

/// The key that `path` is.
pub fn find(path: &[String]) -> Option<&'static Key> {
    all().find(|key| key.is(path))
}

/// The name of a key that `path` was perhaps meant to be: the nearest one, if it is near.
pub fn near(path: &[String]) -> Option<String> {
    let given = path.join(".");
    let candidates = all().flat_map(|key| {
        let whole = with_names(key.name, path);
        // A table's name may be misspelled as well.
        let tables: Vec<String> =
            whole.match_indices('.').map(|(end, _)| whole[..end].to_owned()).collect();
        tables.into_iter().chain([whole.clone()])
    });
    let nearest = candidates.map(|name| (distance(&given, &name), name)).min()?;
    (nearest.0 <= 1 + given.len() / 6).then_some(nearest.1)
}

/// The key's name with the user's own names in place of `*`.
fn with_names(name: &str, path: &[String]) -> String {
    let parts: Vec<&str> = name
        .split('.')
        .enumerate()
        .map(|(index, part)| match path.get(index) {
            Some(own) if part == "*" => own.as_str(),
            Some(_) | None => part,
        })
        .collect();
    parts.join(".")
}

/// How many insertions, deletions, changes and swaps of neighbours lie between two texts.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let change = last[j] + usize::from(a[i] != b[j]);
            let mut least = change.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(dotted: &str) -> Vec<String> {
        dotted.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn names_are_unique_and_a_star_stands_for_one_name() {
        for (index, key) in all().enumerate() {
            assert!(all().take(index).all(|other| other.name != key.name), "{}", key.name);
            assert!(key.about.ends_with('.'), "{}", key.name);
        }
        assert_eq!(find(&path("handlers.crun.program")).unwrap().name, "handlers.*.program");
        assert!(find(&path("handlers.program")).is_none() && find(&path("socket")).is_none());
    }

    #[test]
    fn a_misspelled_key_has_a_neighbour_and_a_strange_one_has_none() {
        for (given, want) in [
            ("socket.pth", Some("socket.path")),
            ("sokcet.path", Some("socket.path")),
            ("handlers.crun.progam", Some("handlers.crun.program")),
            ("images.parallel_layer", Some("images.parallel_layers")),
            ("netwrok", Some("network")),
            ("plugins.io.containerd", None),
        ] {
            assert_eq!(near(&path(given)).as_deref(), want, "{given}");
        }
    }
}
