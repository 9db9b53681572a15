//! docs/fields.md against the compiled descriptors and against the tests that it names.

#![expect(clippy::unwrap_used, reason = "a test ends where something unforeseen happens")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Where a request begins; all messages in these are in the table, too.
const ROOTS: [&str; 4] = [
    "PodSandboxConfig",
    "ContainerConfig",
    "UpdateContainerResourcesRequest",
    "UpdatePodSandboxResourcesRequest",
];
const TABLE: &str = "docs/fields.md";

/// What may be done with a field, at the beginning of its row.
const DONE: [&str; 4] = ["honoured", "returned", "refused", "nothing to apply to"];

#[test]
fn every_field_has_a_row_and_no_row_is_of_another() {
    let wanted = fields();
    let found = rows();
    for (message, fields) in &wanted {
        let rows = found.get(message).unwrap_or_else(|| panic!("{TABLE} has no {message}"));
        let named: BTreeSet<&str> = rows.iter().map(|row| row.field.as_str()).collect();
        let fields: BTreeSet<&str> = fields.iter().map(String::as_str).collect();
        assert_eq!(named, fields, "fields of {message}");
        assert_eq!(named.len(), rows.len(), "{message} has a row twice");
    }
    let known: BTreeSet<&String> = wanted.keys().collect();
    assert_eq!(found.keys().collect::<BTreeSet<_>>(), known, "messages of {TABLE}");
}

#[test]
fn every_row_says_what_is_done_and_names_tests_that_are_there() {
    let tests = tests();
    for (message, rows) in rows() {
        for row in rows {
            let place = format!("{message}.{}", row.field);
            assert!(DONE.iter().any(|word| row.done.starts_with(word)), "{place}: {}", row.done);
            let is_message = row.done.contains("field by field");
            assert!(is_message || !row.tests.is_empty(), "{place} is shown by nothing");
            for test in &row.tests {
                assert!(tests.contains(test), "{place}: there is no test {test}");
            }
        }
    }
}

#[derive(Debug)]
struct Row {
    field: String,
    done: String,
    tests: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rows() -> BTreeMap<String, Vec<Row>> {
    let text = std::fs::read_to_string(root().join(TABLE)).unwrap();
    let mut all: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut message = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("## ") {
            name.clone_into(&mut message);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, field, done, tests, _] = cells.as_slice() else { continue };
        if *field == "field" || field.starts_with("---") {
            continue;
        }
        let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let row = Row { field: (*field).to_owned(), done: (*done).to_owned(), tests };
        all.entry(message.clone()).or_default().push(row);
    }
    all
}

/// All messages that can be reached, with the names of their fields. What is Windows' own is one refusal.
fn fields() -> BTreeMap<String, Vec<String>> {
    let set: FileDescriptorSet = prost::Message::decode(cri_api::FILE_DESCRIPTOR_SET).unwrap();
    let file: FileDescriptorProto = set.file.into_iter().next().unwrap();
    let mut all = BTreeMap::new();
    let mut next: VecDeque<String> = ROOTS.iter().map(ToString::to_string).collect();
    while let Some(name) = next.pop_front() {
        if all.contains_key(&name) || name.starts_with("Windows") {
            continue;
        }
        let message = file.message_type.iter().find(|m| m.name() == name);
        let message = message.unwrap_or_else(|| panic!("no message {name}"));
        for field in &message.field {
            let kind = field.type_name().rsplit('.').next().unwrap_or_default();
            if file.message_type.iter().any(|m| m.name() == kind) {
                next.push_back(kind.to_owned());
            }
        }
        all.insert(name, message.field.iter().map(|f| f.name().to_owned()).collect());
    }
    all
}

/// The names of all functions that are marked as tests, or that a test program of its own runs by name.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut next: Vec<PathBuf> =
        ["crates", "bin", "integration"].iter().map(|dir| root().join(dir)).collect();
    while let Some(directory) = next.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                next.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let of_own_program = path.components().any(|c| c.as_os_str() == "tests");
                names.extend(marked(&text, of_own_program));
            }
        }
    }
    names
}

fn marked(text: &str, of_own_program: bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let name = line.split("fn ").nth(1).and_then(|rest| rest.split('(').next());
        match name {
            Some(name) if line.contains("fn ") && (is_test || of_own_program) => {
                names.push(name.to_owned());
                is_test = false;
            }
            _ if line.starts_with("#[test]") || line.starts_with("#[tokio::test") => is_test = true,
            _ => {}
        }
    }
    names
}
