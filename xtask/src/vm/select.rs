//! Which tests run in the guest.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run::{output, top};

/// The programs with tests that depend on what the guest has: the daemon over its socket, cgroups, the
/// launcher.
const PROGRAMS: [&str; 3] = ["node", "kernel", "launch"];

/// Beginnings of what is run each time, in a few minutes: all that is about cgroups, and one story of each
/// other kind.
const SUBSET: [&str; 15] = [
    "node::guest::",
    "kernel::",
    "launch::",
    "node::oci::",
    "node::limits::",
    "node::security::",
    "node::restart::containers_run_and_log_while_the_daemon_is_dead",
    "node::handlers::with_",
    "node::exec::a_time_limit",
    "node::containers::",
    "node::mounts::",
    "node::network::",
    "node::sandboxes::",
    "node::streaming::",
    "node::logs::",
];

/// Tests of other people's programs, which see nothing of what the guest is for and are not in it.
const ELSEWHERE: [&str; 4] = [
    "node::conformance::the_monitor_as_it_is_shipped",
    "node::oci_podman::",
    "node::streaming_node::",
    "node::streaming_tmux::",
];

/// What of it all is wanted.
#[derive(Debug, Default)]
pub enum Choice {
    /// What is run each time.
    #[default]
    Subset,
    /// All but those of programs that the guest has not.
    All,
    /// Those with one of these texts in `PROGRAM::NAME`.
    Named(Vec<String>),
}

/// A test.
#[derive(Debug)]
pub struct Test {
    /// The file that has it.
    pub program: PathBuf,
    /// Its name there.
    pub name: String,
}

impl Test {
    /// The program's file, whose name no other has.
    pub fn file_name(&self) -> String {
        file_name(&self.program)
    }

    /// The program's name without what cargo adds.
    pub fn program_name(&self) -> String {
        plain_name(&self.program)
    }
}

/// The chosen ones of the tests of `executables`.
pub fn choose(executables: &[PathBuf], choice: &Choice) -> Result<Vec<Test>, String> {
    let mut chosen = Vec::new();
    for program in executables {
        let name = plain_name(program);
        if !PROGRAMS.contains(&name.as_str()) {
            continue;
        }
        let listed = output(Command::new(program).args(["--list", "--format", "terse"]))?;
        let ignored =
            Command::new(program).args(["--list", "--format", "terse", "--ignored"]).output();
        let ignored = ignored.map(|done| String::from_utf8_lossy(&done.stdout).into_owned());
        let ignored = ignored.map_err(|e| format!("cannot run {}: {e}", program.display()))?;
        for test in names(&listed) {
            let full = format!("{name}::{test}");
            let begins = |all: &[&str]| all.iter().any(|beginning| full.starts_with(beginning));
            let is_wanted = match choice {
                Choice::All => !begins(&ELSEWHERE),
                Choice::Subset => begins(&SUBSET),
                Choice::Named(texts) => texts.iter().any(|text| full.contains(text.as_str())),
            };
            // What is ignored elsewhere is for the guest; other ignored ones are part of other tests.
            let is_part = !test.starts_with("guest::") && names(&ignored).any(|i| i == test);
            if is_wanted && !is_part {
                chosen.push(Test { program: program.clone(), name: test.to_owned() });
            }
        }
    }
    // What the guest is there for comes first: a run may be out of time before its end.
    chosen.sort_by_key(|test| {
        let full = format!("{}::{}", test.program_name(), test.name);
        SUBSET.iter().position(|s| full.starts_with(s)).unwrap_or(SUBSET.len())
    });
    Ok(chosen)
}

fn names(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.strip_suffix(": test"))
}

/// The last part of a path.
pub fn file_name(program: &Path) -> String {
    program.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `node` for `…/deps/node-0123456789abcdef`.
pub fn plain_name(program: &Path) -> String {
    let file = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match file.rsplit_once('-') {
        Some((name, hash)) if hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            name.to_owned()
        }
        Some(_) | None => file,
    }
}

/// The programs that cargo says it has built: `Executable tests/node/main.rs (target/debug/deps/node-…)`.
pub fn executables(said: &str) -> Vec<PathBuf> {
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("Executable "));
    let paths = lines.filter_map(|line| line.rsplit_once('(')?.1.strip_suffix(')'));
    paths.map(|path| top().join(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_known_by_what_cargo_says() {
        let said = "   Compiling node v0.1.0\n  Executable tests/node/main.rs \
                    (target/debug/deps/node-0123456789abcdef)\n  Executable unittests src/lib.rs \
                    (/x/deps/isopod_monitor-fedcba9876543210)\n";
        let found = executables(said);
        let named: Vec<String> = found.iter().map(|path| plain_name(path)).collect();
        assert_eq!(named, ["node", "isopod_monitor"]);
        assert_eq!(found[1], Path::new("/x/deps/isopod_monitor-fedcba9876543210"));
        assert_eq!(plain_name(Path::new("/a/isopod-monitor")), "isopod-monitor");
    }

    #[test]
    fn names_are_those_of_tests() {
        let listed = "a::b: test\nc: benchmark\n\nd: test\n";
        assert_eq!(names(listed).collect::<Vec<_>>(), ["a::b", "d"]);
    }
}
