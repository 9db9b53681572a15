//! Whose configuration is judged, and what is wrong with it.
//!
//! Always: a check that depends on a key of which nobody knows what it says is not made, and that is told.

use std::path::{Path, PathBuf};

use cri_api::v1::StatusResponse;
use serde_json::{Map, Value};

use super::daemon::Asked;
use super::finding::Finding;
use crate::config::{self, DEFAULT_FILE, Looked};

/// The configuration that is judged.
#[derive(Debug)]
pub struct Subject {
    /// What could be read of it.
    pub looked: Looked,
    /// What was found on the way.
    pub findings: Vec<Finding>,
}

/// Of the daemon at `socket` where it tells and no `file` is named; else of the file on this machine.
pub fn subject(
    file: Option<&Path>,
    local: Looked,
    socket: Option<&Path>,
    asked: &Asked,
) -> Subject {
    let is_local = socket.is_none_or(|socket| local.config.socket.path == socket);
    if file.is_none()
        && let Some(socket) = socket
        && let Asked::Told(status) = asked
    {
        if let Some(looked) = of_daemon(status) {
            // What it runs with may be older than what it would read at its next start.
            let mut findings = if is_local { mistakes(&local) } else { Vec::new() };
            let (root, state) = (looked.config.root.display(), looked.config.state.display());
            let whose =
                format!("that of the daemon at {}: root {root}, state {state}", socket.display());
            let misfits = misfits(&looked);
            findings.push(Finding::good("configuration", whose));
            findings.extend(misfits);
            return Subject { looked, findings };
        }
        if !is_local {
            let said = format!(
                "what {} runs with is not known: {} is judged",
                socket.display(),
                sources(&local)
            );
            let advice =
                "name its configuration with --config; only the full socket of Isopod tells it";
            let mut findings = vec![Finding::warning("configuration", said, advice)];
            findings.extend(of_file(&local));
            return Subject { looked: local, findings };
        }
    }
    let mut findings = of_file(&local);
    if file.is_none() && !is_local && socket.is_some_and(Path::exists) {
        let said = format!("{} is judged, which is not for that socket", sources(&local));
        findings.push(Finding::warning("configuration", said, "name the right one with --config"));
    }
    Subject { looked: local, findings }
}

fn of_file(looked: &Looked) -> Vec<Finding> {
    let mut findings = mistakes(looked);
    findings.extend(misfits(looked));
    if findings.is_empty() {
        let said = format!("{}: no mistake, and all that it names is here", sources(looked));
        findings.push(Finding::good("configuration", said));
    }
    findings
}

/// Where the configuration comes from, for people.
fn sources(looked: &Looked) -> String {
    let files: Vec<String> =
        looked.entries.files.iter().map(|file: &PathBuf| file.display().to_string()).collect();
    match files.as_slice() {
        [] => format!("the configuration of defaults ({DEFAULT_FILE} is not there)"),
        files => files.join(", "),
    }
}

fn mistakes(looked: &Looked) -> Vec<Finding> {
    let advice = "mend it: the daemon does not start with it; `isopod config explain KEY` tells what is allowed";
    let told = looked.mistakes.iter();
    told.map(|one| Finding::bad("configuration", one.to_string(), advice)).collect()
}

/// What `isopod config check` finds beyond mistakes.
fn misfits(looked: &Looked) -> Vec<Finding> {
    let advice = "put it there, or change the key";
    let told = looked.misfits().into_iter();
    told.map(|one| Finding::bad("configuration", one, advice)).collect()
}

/// The configuration in the verbose part of a status; `None` where it is another runtime's, or there is none.
fn of_daemon(status: &StatusResponse) -> Option<Looked> {
    let shown: Map<String, Value> = serde_json::from_str(status.info.get("config")?).ok()?;
    let shown: Option<Vec<(&str, &str)>> =
        shown.iter().map(|(key, value)| Some((key.as_str(), value.as_str()?))).collect();
    let looked = config::shown_by_daemon(shown?.into_iter());
    looked.mistakes.is_empty().then_some(looked)
}

/// `check`, unless it depends on one of these keys and nobody knows what that says.
pub fn judge(
    looked: &Looked,
    about: &'static str,
    keys: &[&str],
    check: impl FnOnce() -> Vec<Finding>,
) -> Vec<Finding> {
    let is_unsure = |key: &&&str| looked.entries.is_unsure(&key.split('.').collect::<Vec<_>>());
    let said = if looked.entries.is_incomplete() {
        "not judged: the configuration cannot be read".to_owned()
    } else if let Some(key) = keys.iter().find(is_unsure) {
        format!("not judged: a mistake hides what the configuration says of `{key}`")
    } else {
        return check();
    };
    vec![Finding::warning(about, said, "mend the configuration, then look again")]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;
    use crate::config::{Flags, look};

    fn written(text: &str) -> (tempfile::TempDir, PathBuf, Looked) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        let looked = look(Some(&file), &Flags::default());
        (directory, file, looked)
    }

    fn said(looked: &Looked, keys: &[&str]) -> String {
        let good = || vec![Finding::good("x", "looked")];
        judge(looked, "x", keys, good).remove(0).said
    }

    #[test]
    fn what_a_mistake_hides_is_not_judged_and_the_rest_is() {
        let (_directory, _, looked) = written("root = 5\nstate = \"/s\"\nstrange = 1\n");
        assert!(said(&looked, &["state", "root"]).contains("`root`"));
        assert_eq!(said(&looked, &["state"]), "looked");
        let (_directory, _, broken) = written("root = [\n");
        assert!(said(&broken, &["state"]).contains("cannot be read"));
        let missing = look(Some(Path::new("/no/such.toml")), &Flags::default());
        assert!(said(&missing, &["network"]).contains("cannot be read"));
    }

    #[test]
    fn a_file_is_judged_with_what_it_names() {
        let text = "images.policy = \"/no/such/policy.json\"\n";
        let (_directory, file, looked) = written(text);
        let found = subject(Some(&file), looked, None, &Asked::Nobody).findings;
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].grade == Grade::Bad && found[0].said.starts_with("images.policy:"));
        let (_directory, file, looked) = written("root = \"/r\"\n");
        let found = subject(Some(&file), looked, None, &Asked::Nobody).findings;
        assert!(found[0].grade == Grade::Good && found[0].said.contains("c.toml"), "{found:?}");
    }

    #[test]
    fn a_daemons_own_configuration_is_judged_where_it_tells_it() {
        let local = || look(Some(Path::new("/dev/null")), &Flags::default());
        let status = |config: &str| {
            let info = [("config".to_owned(), config.to_owned())].into();
            Asked::Told(Box::new(StatusResponse { info, ..Default::default() }))
        };
        let socket = Some(Path::new("/mine/i.sock"));
        let told = r#"{"root":"\"/mine/root\"","images.credentials.r.password":"\"…\""}"#;
        let of_it = subject(None, local(), socket, &status(told));
        assert_eq!(of_it.looked.config.root, Path::new("/mine/root"));
        assert!(of_it.findings.iter().any(|one| one.said.contains("the daemon at /mine/i.sock")));
        for other in ["{\"containerd\":{}}", "{\"x\":\"1\"}", "no"] {
            let found = subject(None, local(), socket, &status(other)).findings;
            assert_eq!(found[0].grade, Grade::Warning, "{found:?}");
            assert!(
                found[0].said.contains("what /mine/i.sock runs with is not known"),
                "{found:?}"
            );
        }
    }
}
