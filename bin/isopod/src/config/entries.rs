//! The merged files and flags, each value with where it comes from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::Secret;

use super::keys::{self, Key};
use super::kind::{Given, Value};
use super::mistake::{Mistake, Origin};
use super::{DEFAULT_FILE, document, drop_ins};

/// What the daemon's command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Values by key; they win over every file.
    pub values: Vec<(&'static str, String)>,
}

/// A value and where it comes from.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The value.
    pub value: Value,
    /// As it was written.
    pub shown: String,
    /// Where.
    pub origin: Origin,
}

impl Entry {
    /// What may be printed of it.
    pub fn printable(&self) -> &str {
        if matches!(self.value, Value::Secret(_)) { "\"…\"" } else { &self.shown }
    }
}

/// What was said, by key. What was not said has the default of the table.
#[derive(Debug, Clone, Default)]
pub struct Entries {
    said: BTreeMap<Vec<String>, Entry>,
    /// Keys and tables of which a mistake hides what was meant.
    unsure: Vec<Vec<String>>,
    /// Whether there is a file of which nothing is known.
    is_incomplete: bool,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
}

/// Reads `file`, or the default one if it is there, then its drop-ins by name, then `flags`: what could be read, and
/// what is wrong with the rest.
pub fn read(file: Option<&Path>, flags: &Flags) -> (Entries, Vec<Mistake>) {
    let mut mistakes = Vec::new();
    let mut entries = Entries::default();
    let main = file.unwrap_or_else(|| Path::new(DEFAULT_FILE));
    match std::fs::read_to_string(main) {
        Ok(text) => entries.take(main, &text, &mut mistakes),
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => entries.miss(unreadable(main, &error), &mut mistakes),
    }
    match drop_in_files(&drop_ins(main)) {
        Ok(files) => {
            for path in files {
                match std::fs::read_to_string(&path) {
                    Ok(text) => entries.take(&path, &text, &mut mistakes),
                    Err(error) => entries.miss(unreadable(&path, &error), &mut mistakes),
                }
            }
        }
        Err(error) => entries.miss(unreadable(&drop_ins(main), &error), &mut mistakes),
    }
    for (name, text) in &flags.values {
        entries.take_flag(name, text, &mut mistakes);
    }
    (entries, mistakes)
}

fn unreadable(path: &Path, error: &io::Error) -> Mistake {
    let origin = Origin::File { path: path.to_owned(), line: 1 };
    Mistake { origin, problem: format!("cannot be read: {error}") }
}

fn drop_in_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = match std::fs::read_dir(directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    for entry in listing {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Entries {
    /// Takes the keys of one more file; they replace earlier ones.
    pub fn take(&mut self, file: &Path, text: &str, mistakes: &mut Vec<Mistake>) {
        let document::Document { items, unsure, is_broken } = document::read(file, text, mistakes);
        for document::Item { path, value, shown, origin } in items {
            self.said.insert(path, Entry { value, shown, origin });
        }
        self.unsure.extend(unsure);
        self.is_incomplete |= is_broken;
        self.files.push(file.to_owned());
    }

    /// A file cannot be read.
    fn miss(&mut self, mistake: Mistake, mistakes: &mut Vec<Mistake>) {
        self.is_incomplete = true;
        mistakes.push(mistake);
    }

    /// Whether there is a file of which nothing is known: any key may have been meant to be other than it is here.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Whether a mistake hides what was meant for this key, or for one in this table.
    pub fn is_unsure(&self, path: &[&str]) -> bool {
        self.unsure.iter().any(|bad| {
            let common = bad.iter().zip(path).take_while(|(a, b)| a == b).count();
            // One lies in the other.
            let contains = common == bad.len().min(path.len());
            // Keys of the tables that users name, and of a few others, count together.
            let are_together = common >= 2 || bad.first().is_some_and(|table| table == "streaming");
            contains || (are_together && bad.len() == path.len() && common + 1 == bad.len())
        })
    }

    fn take_flag(&mut self, name: &'static str, text: &str, mistakes: &mut Vec<Mistake>) {
        let path: Vec<String> = name.split('.').map(str::to_owned).collect();
        let read = keys::find(&path)
            .ok_or_else(|| "a key of the table".to_owned())
            .and_then(|key| key.kind.read(&Given::Text(text.to_owned())));
        match read {
            Ok(value) => {
                let entry = Entry { value, shown: format!("{text:?}"), origin: Origin::Flag };
                self.said.insert(path, entry);
            }
            Err(expected) => {
                let problem = format!("`{name}` is {text:?}: {expected} is needed");
                self.unsure.push(path);
                self.mistake_at(Origin::Flag, problem, mistakes);
            }
        }
    }

    fn mistake_at(&self, origin: Origin, problem: String, mistakes: &mut Vec<Mistake>) {
        mistakes.push(Mistake { origin, problem });
    }

    /// The entry of `path`: what was said, else the default.
    pub fn entry(&self, path: &[String]) -> Option<Entry> {
        if let Some(said) = self.said.get(path) {
            return Some(said.clone());
        }
        let key = keys::find(path)?;
        let given = document::value(key.default)?;
        let value = key.kind.read(&given).ok()?;
        Some(Entry { value, shown: key.default.to_owned(), origin: Origin::Default })
    }

    /// Every key with its entry, in the table's order; a key with a `*` once for each name that was said.
    pub fn all(&self) -> Vec<(&'static Key, String, Option<Entry>)> {
        let mut all = Vec::new();
        for key in keys::all() {
            if key.name.contains('*') {
                let said = self.said.iter().filter(|(path, _)| key.is(path));
                let before = all.len();
                all.extend(said.map(|(path, entry)| (key, dotted(path), Some(entry.clone()))));
                if all.len() == before {
                    all.push((key, key.name.to_owned(), None));
                }
            } else {
                let path: Vec<String> = key.name.split('.').map(str::to_owned).collect();
                all.push((key, key.name.to_owned(), self.entry(&path)));
            }
        }
        all
    }

    /// The names that were said in place of the `*` of `table.*`, for example of handlers.
    pub fn names(&self, table: &str) -> Vec<String> {
        let above: Vec<&str> = table.split('.').collect();
        let mut names: Vec<String> = self
            .said
            .keys()
            .chain(&self.unsure)
            .filter(|path| path.len() > above.len() && path.iter().zip(&above).all(|(a, b)| a == b))
            .map(|path| path[above.len()].clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Where the key was said.
    pub fn origin(&self, path: &[&str]) -> Origin {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.said.get(&path).map_or(Origin::Default, |entry| entry.origin.clone())
    }

    /// A text, path, choice or address.
    pub fn text(&self, path: &[&str]) -> String {
        match self.value(path) {
            Some(Value::Text(text)) => text,
            Some(Value::Whole(_) | Value::Time(_) | Value::Texts(_) | Value::Secret(_)) | None => {
                String::new()
            }
        }
    }

    /// A path, or nothing where the text is empty.
    pub fn path(&self, path: &[&str]) -> Option<PathBuf> {
        Some(self.text(path)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// A number, size or mode.
    pub fn whole(&self, path: &[&str]) -> u64 {
        match self.value(path) {
            Some(Value::Whole(number)) => number,
            Some(Value::Text(_) | Value::Time(_) | Value::Texts(_) | Value::Secret(_)) | None => 0,
        }
    }

    /// A time.
    pub fn time(&self, path: &[&str]) -> Duration {
        match self.value(path) {
            Some(Value::Time(time)) => time,
            Some(Value::Text(_) | Value::Whole(_) | Value::Texts(_) | Value::Secret(_)) | None => {
                Duration::ZERO
            }
        }
    }

    /// A list.
    pub fn texts(&self, path: &[&str]) -> Vec<String> {
        match self.value(path) {
            Some(Value::Texts(texts)) => texts,
            Some(Value::Text(_) | Value::Whole(_) | Value::Time(_) | Value::Secret(_)) | None => {
                Vec::new()
            }
        }
    }

    /// A secret, or nothing where it is empty.
    pub fn secret(&self, path: &[&str]) -> Option<Secret<String>> {
        match self.value(path) {
            Some(Value::Secret(secret)) => Some(secret).filter(|s| !s.expose().is_empty()),
            Some(Value::Text(_) | Value::Whole(_) | Value::Time(_) | Value::Texts(_)) | None => {
                None
            }
        }
    }

    fn value(&self, path: &[&str]) -> Option<Value> {
        let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        self.entry(&path).map(|entry| entry.value)
    }

    /// Keys whose values differ between `self` and `newer`.
    pub fn changed(&self, newer: &Self) -> Vec<(&'static Key, String)> {
        let mut paths: Vec<&Vec<String>> = self.said.keys().chain(newer.said.keys()).collect();
        paths.sort();
        paths.dedup();
        let differs = |path: &[String]| {
            self.entry(path).map(|entry| entry.value) != newer.entry(path).map(|entry| entry.value)
        };
        paths
            .into_iter()
            .filter(|path| differs(path))
            .filter_map(|path| keys::find(path).map(|key| (key, dotted(path))))
            .collect()
    }
}

/// A path as TOML spells it: parts that hold a dot are quoted.
fn dotted(path: &[String]) -> String {
    let bare = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    let parts: Vec<String> = path
        .iter()
        .map(|part| if bare(part) { part.clone() } else { format!("{part:?}") })
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(files: &[(&str, &str)]) -> (Entries, Vec<String>) {
        let (mut entries, mut mistakes) = (Entries::default(), Vec::new());
        for (name, text) in files {
            entries.take(Path::new(name), text, &mut mistakes);
        }
        (entries, mistakes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_default_is_allowed_by_its_own_kind() {
        for key in keys::all() {
            let given = document::value(key.default);
            let given = given.unwrap_or_else(|| panic!("the default of {} is no TOML", key.name));
            assert!(key.kind.read(&given).is_ok(), "the default of {} is not allowed", key.name);
        }
    }

    #[test]
    fn a_drop_in_replaces_single_keys_and_keeps_the_rest_of_a_table() {
        let (entries, mistakes) = taken(&[
            ("a.toml", "[socket]\nmode = \"0600\"\ngroup = \"isopod\"\n"),
            ("b.toml", "socket.mode = \"0660\"\n"),
        ]);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(entries.whole(&["socket", "mode"]), 0o660);
        assert_eq!(entries.text(&["socket", "group"]), "isopod");
        assert_eq!(entries.origin(&["socket", "mode"]).to_string(), "b.toml:1");
        assert_eq!(entries.origin(&["socket", "group"]).to_string(), "a.toml:3");
    }

    #[test]
    fn every_mistake_is_told_with_its_line() {
        let text = "root = 5\n[socket]\npth = \"/x\"\nmode = \"9\"\n[images.credentials.\"r.example\"]\npassword = 7\n[strange.table]\nx = 1\n";
        let (_, mistakes) = taken(&[("c.toml", text)]);
        let want = [
            "c.toml:6: `images.credentials.r.example.password` is …: a text is needed",
            "c.toml:1: `root` is 5: an absolute path is needed",
            "c.toml:4: `socket.mode` is \"9\": a file mode in octal, such as \"0660\" is needed",
            "c.toml:3: unknown key `socket.pth` (did you mean `socket.path`?)",
            "c.toml:7: unknown key `strange`",
        ];
        let mut mistakes = mistakes;
        let mut want = want.map(str::to_owned).to_vec();
        mistakes.sort();
        want.sort();
        assert_eq!(mistakes, want);
    }

    #[test]
    fn what_a_mistake_hides_is_known() {
        let text = "root = 5\nsokcet.path = \"/s\"\n[handlers.crun]\nkind = \"oic\"\n";
        let (entries, _) = taken(&[("c.toml", text)]);
        for hidden in [&["root"][..], &["socket", "path"], &["handlers", "crun", "program"]] {
            assert!(entries.is_unsure(hidden), "{hidden:?}");
        }
        for known in [&["state"][..], &["network"], &["handlers", "runc", "program"]] {
            assert!(!entries.is_unsure(known), "{known:?}");
        }
        assert!(!entries.is_incomplete());
        assert_eq!(entries.names("handlers"), ["crun"], "it is named, if only by a mistake");
        assert!(taken(&[("c.toml", "root = [\n")]).0.is_incomplete());
    }

    #[test]
    fn a_file_that_is_no_toml_is_a_mistake_with_a_line() {
        let (_, mistakes) = taken(&[("c.toml", "root = \"/x\"\nsocket = [\n")]);
        assert_eq!(mistakes.len(), 1);
        assert!(mistakes[0].starts_with("c.toml:"), "{mistakes:?}");
    }

    #[test]
    fn names_that_the_user_chose_are_found() {
        let (entries, mistakes) = taken(&[(
            "a.toml",
            "[handlers.crun]\nkind = \"oci\"\nprogram = \"/usr/bin/crun\"\n[handlers.runc]\nkind = \"oci\"\n",
        )]);
        assert!(mistakes.is_empty(), "{mistakes:?}");
        assert_eq!(entries.names("handlers"), ["crun", "runc"]);
        assert_eq!(entries.text(&["handlers", "crun", "program"]), "/usr/bin/crun");
        assert_eq!(entries.text(&["handlers", "runc", "program"]), "");
    }

    #[test]
    fn what_changed_is_found_by_value() {
        let (old, _) = taken(&[("a.toml", "log.level = \"info\"\nroot = \"/a\"\n")]);
        let (new, _) = taken(&[("a.toml", "log.level = \"debug\"\n\nroot = \"/a\"\n")]);
        let changed: Vec<String> = old.changed(&new).into_iter().map(|(_, name)| name).collect();
        assert_eq!(changed, ["log.level"]);
    }
}
