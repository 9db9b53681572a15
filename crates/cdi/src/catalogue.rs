//! The devices that this node's files describe.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::apply::Edits;
use crate::error::CdiError;
use crate::file::{File, Language, parse};
use crate::name::DeviceName;

/// The longest file that is read, in bytes.
const FILE_MAX: u64 = 4 << 20;
/// Files of one directory that are read at most.
const FILES_MAX: usize = 1024;
/// Files whose mistakes are told of a device that is not found.
const TOLD_MAX: usize = 3;

/// All files, as they are now. It is read again for each container that asks for devices, so a file that
/// has changed counts at once; nobody else pays for it.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    files: Vec<Known>,
    /// What was left out: paths, and why. A device may be described there as its vendor wants it by now.
    left_out: Vec<(PathBuf, String)>,
}

#[derive(Debug, Clone)]
struct Known {
    path: PathBuf,
    /// Number of its directory: a later one's files come before those of an earlier one.
    directory: usize,
    file: File,
}

impl Catalogue {
    /// Reads `directories`. One that is not there has no files; a file that cannot be read or is no spec counts as
    /// one that is not there, and so do those of a directory beyond the most that are read: see
    /// [`Catalogue::left_out`]. Blocks.
    ///
    /// # Errors
    /// [`CdiError::Read`].
    pub fn read(directories: &[PathBuf]) -> Result<Self, CdiError> {
        let mut all = Self::default();
        for (number, directory) in directories.iter().enumerate() {
            let mut paths = spec_files(directory)
                .map_err(|source| CdiError::Read { path: directory.clone(), source })?;
            if paths.len() > FILES_MAX {
                let problem = format!("has {} specs, and {FILES_MAX} are read", paths.len());
                all.left_out.push((directory.clone(), problem));
                paths.truncate(FILES_MAX);
            }
            for path in paths {
                let read = content(&path).map_err(|e| e.to_string());
                let language = Language::of(&path).unwrap_or(Language::Json);
                match read.and_then(|text| parse(&text, language)) {
                    Ok(file) => all.files.push(Known { path, directory: number, file }),
                    Err(problem) => {
                        all.left_out.push((path, format!("is no spec: {problem}")));
                    }
                }
            }
        }
        Ok(all)
    }

    /// What the one file `path` says, whose content is `text`. No I/O.
    ///
    /// # Errors
    /// Why it is no spec.
    pub fn of_file(path: &Path, text: &str) -> Result<Self, String> {
        let language = Language::of(path).ok_or("its name does not end in .json or .yaml")?;
        let known = Known { path: path.to_owned(), directory: 0, file: parse(text, language)? };
        Ok(Self { files: vec![known], left_out: Vec::new() })
    }

    /// The names of all devices that are described.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.files.iter().flat_map(|Known { file, .. }| {
            file.devices.iter().map(|device| format!("{}={}", file.kind, device.name))
        })
    }

    /// What `devices` change, each named once: first what their files say for all devices of theirs, then
    /// what is said of each.
    ///
    /// # Errors
    /// [`CdiError::Unknown`], [`CdiError::Conflict`].
    pub fn edits(&self, devices: &[DeviceName]) -> Result<Edits, CdiError> {
        let mut edits = Edits::default();
        let mut files: Vec<&Path> = Vec::new();
        let mut named: Vec<&DeviceName> = Vec::new();
        for name in devices {
            if named.contains(&name) {
                continue;
            }
            named.push(name);
            let known = self.find(name)?;
            if !files.contains(&known.path.as_path()) {
                files.push(&known.path);
                let general = known.file.container_edits.clone();
                edits.add(known.file.kind.clone(), &known.path, general);
            }
            let device = known.file.devices.iter().find(|d| d.name == name.device());
            if let Some(device) = device {
                edits.add(name.to_string(), &known.path, device.container_edits.clone());
            }
        }
        Ok(edits)
    }

    fn find(&self, name: &DeviceName) -> Result<&Known, CdiError> {
        let has = |known: &&Known| {
            known.file.kind == name.kind()
                && known.file.devices.iter().any(|d| d.name == name.device())
        };
        let mut found: Option<&Known> = None;
        let mut rival: Option<&Known> = None;
        for known in self.files.iter().filter(has) {
            match found {
                Some(before) if before.directory == known.directory => rival = Some(before),
                Some(_) | None => rival = None,
            }
            found = Some(known);
        }
        match (found, rival) {
            (None, _) => Err(CdiError::Unknown { name: name.to_string(), hint: self.hint() }),
            (Some(one), Some(other)) => Err(CdiError::Conflict {
                name: name.to_string(),
                first: other.path.clone(),
                second: one.path.clone(),
            }),
            (Some(known), None) => Ok(known),
        }
    }

    /// What of the directories was left out, each with the reason. A device that is found all the same may be
    /// described there too, and newer; so whoever uses this says it.
    pub fn left_out(&self) -> impl Iterator<Item = String> {
        self.left_out.iter().map(|(path, problem)| format!("{} {problem}", path.display()))
    }

    fn hint(&self) -> String {
        self.left_out().take(TOLD_MAX).map(|problem| format!("; {problem}")).collect()
    }
}

/// The names of a directory's specs, sorted; none where there is no directory.
fn spec_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let listing = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut paths = Vec::new();
    for entry in listing {
        let path = entry?.path();
        if Language::of(&path).is_some() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn content(path: &Path) -> io::Result<String> {
    // A pipe or a device under such a name must not keep anybody waiting.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("longer than {FILE_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str, devices: &[&str], env: &str) -> String {
        let devices: Vec<String> = devices
            .iter()
            .map(|name| format!(r#"{{"name": "{name}", "containerEdits": {{"env": ["{env}"]}}}}"#))
            .collect();
        format!(
            r#"{{"cdiVersion": "0.6.0", "kind": "{kind}", "devices": [{}]}}"#,
            devices.join(",")
        )
    }

    fn names(texts: &[&str]) -> Vec<DeviceName> {
        texts.iter().map(|text| DeviceName::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_later_directory_comes_first_and_two_files_of_one_are_a_conflict() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, run) = (dir.path().join("etc"), dir.path().join("run"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&run).unwrap();
        fs::write(etc.join("a.json"), spec("v/c", &["0", "1"], "FROM=etc")).unwrap();
        fs::write(etc.join("b.json"), spec("v/c", &["1"], "FROM=b")).unwrap();
        fs::write(run.join("a.json"), spec("v/c", &["0"], "FROM=run")).unwrap();
        fs::write(run.join("note.txt"), "nothing").unwrap();
        let all = [etc, run, dir.path().join("missing")];
        let catalogue = Catalogue::read(&all).unwrap();
        let edits = catalogue.edits(&names(&["v/c=0", "v/c=0"])).unwrap();
        assert_eq!(edits.environment(), ["FROM=run"]);
        let error = catalogue.edits(&names(&["v/c=1"])).unwrap_err();
        assert!(matches!(&error, CdiError::Conflict { .. }), "{error}");
        assert!(error.to_string().contains("a.json") && error.to_string().contains("b.json"));
        // The same device in a directory that comes first settles it.
        fs::write(all[1].join("b.json"), spec("v/c", &["1"], "FROM=b")).unwrap();
        let catalogue = Catalogue::read(&all).unwrap();
        assert_eq!(catalogue.edits(&names(&["v/c=1"])).unwrap().environment(), ["FROM=b"]);
    }

    #[test]
    fn an_unknown_device_is_an_error_that_tells_of_broken_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.yaml"), "kind: [").unwrap();
        let catalogue = Catalogue::read(&[dir.path().to_owned()]).unwrap();
        let error = catalogue.edits(&names(&["v/c=0"])).unwrap_err().to_string();
        assert!(error.contains("v/c=0") && error.contains("a.yaml"), "{error}");
        assert!(Catalogue::default().edits(&[]).unwrap().environment().is_empty());
    }

    #[test]
    fn what_is_left_out_is_told_also_of_a_device_that_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let (etc, run) = (dir.path().join("etc"), dir.path().join("run"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&run).unwrap();
        fs::write(etc.join("card.json"), spec("v/c", &["0"], "FROM=etc")).unwrap();
        fs::write(run.join("card.json"), "{ half a file").unwrap();
        for number in 0..FILES_MAX {
            fs::write(
                etc.join(format!("more-{number:04}.json")),
                spec("v/m", &[&number.to_string()], "A=b"),
            )
            .unwrap();
        }
        let catalogue = Catalogue::read(&[etc.clone(), run.clone()]).unwrap();
        assert_eq!(catalogue.edits(&names(&["v/c=0"])).unwrap().environment(), ["FROM=etc"]);
        let told: Vec<String> = catalogue.left_out().collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with(&format!("{} has 1025 specs", etc.display())), "{told:?}");
        assert!(told[1].starts_with(&run.join("card.json").display().to_string()), "{told:?}");
    }
}
