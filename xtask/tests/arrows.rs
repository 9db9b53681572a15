//! The house stands as ARCHITECTURE.md draws it: a crate depends on no other than those that its
//! arrow names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cargo_metadata::{DependencyKind, MetadataCommand};

/// The map's block: lines of `names → names`, between a fence ```` ```arrows ```` and its end.
const OPEN: &str = "```arrows";
const CLOSE: &str = "```";
/// What the right side says for a crate that stands alone.
const NOTHING: &str = "nothing of ours";

type Arrows = BTreeMap<String, BTreeSet<String>>;

#[test]
fn crates_depend_only_as_the_map_allows() {
    let allowed = drawn();
    let (built, tested) = found();
    let mut wrong = Vec::new();
    for (from, targets) in &built {
        let Some(may) = allowed.get(from) else {
            wrong.push(format!("{from} is not on the map"));
            continue;
        };
        wrong.extend(targets.difference(may).map(|to| format!("{from} → {to}")));
    }
    // A test may use what builds test surroundings beside what its crate may use, and the clients of
    // what is served: the CRI's and the monitor's; nothing else, or the map would not tell how the
    // crates hang together.
    let for_tests: BTreeSet<String> =
        ["testkit", "cri-api", "monitor-client"].map(str::to_owned).into();
    for (from, targets) in &tested {
        let may = allowed.get(from).cloned().unwrap_or_default();
        let others = targets.iter().filter(|to| !may.contains(*to) && !for_tests.contains(*to));
        wrong.extend(others.map(|to| format!("{from} → {to} (of its tests)")));
    }
    assert!(wrong.is_empty(), "not among the arrows of ARCHITECTURE.md:\n{}", wrong.join("\n"));
}

#[test]
fn the_map_names_only_crates_that_are_there() {
    let (built, _) = found();
    for (from, targets) in drawn() {
        for name in targets.iter().chain([&from]) {
            assert!(built.contains_key(name), "ARCHITECTURE.md draws {name}, which is not there");
        }
    }
}

/// The arrows of ARCHITECTURE.md.
fn drawn() -> Arrows {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    let text = std::fs::read_to_string(&path).expect("ARCHITECTURE.md can be read");
    let lines = text.lines().skip_while(|line| *line != OPEN).skip(1);
    let mut arrows = Arrows::new();
    for line in lines.take_while(|line| *line != CLOSE) {
        let (from, to) = line.split_once(" → ").unwrap_or_else(|| panic!("no arrow in {line:?}"));
        let to: BTreeSet<String> = match to {
            NOTHING => BTreeSet::new(),
            names => names.split(", ").map(str::to_owned).collect(),
        };
        for name in from.split(", ") {
            let before = arrows.insert(name.to_owned(), to.clone());
            assert!(before.is_none(), "{name} stands twice on the map");
        }
    }
    assert!(!arrows.is_empty(), "ARCHITECTURE.md has no block {OPEN}");
    arrows
}

/// What the crates depend on in fact: to be built, and to be tested.
fn found() -> (Arrows, Arrows) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .expect("cargo metadata answers");
    let names: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let (mut built, mut tested) = (Arrows::new(), Arrows::new());
    for package in &metadata.packages {
        let name = package.name.to_string();
        for to in package.dependencies.iter().filter(|d| names.contains(d.name.as_str())) {
            let arrows = match to.kind {
                DependencyKind::Development => &mut tested,
                DependencyKind::Normal | DependencyKind::Build | DependencyKind::Unknown => {
                    &mut built
                }
            };
            arrows.entry(name.clone()).or_default().insert(to.name.clone());
        }
        built.entry(name).or_default();
    }
    (built, tested)
}
