//! A Docker `config.json` on disk, read anew while the daemon runs, and the credential helpers in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use model::Secret;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::credentials::{Credentials, NodeCredentials, is_hub};
use crate::hosts_dir;

/// How long a helper may take.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// The most bytes of a helper's answer.
const MAX_ANSWER: u64 = 1 << 20;
/// What helpers call Docker Hub.
const HUB_SERVER: &str = "https://index.docker.io/v1/";

/// Which helper knows which server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Helpers {
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

/// What the files say.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuthFiles {
    pub credentials: NodeCredentials,
    helpers: Vec<Helpers>,
}

impl AuthFiles {
    /// Reads `files`; those that do not exist say nothing. A later one goes before an earlier one.
    ///
    /// # Errors
    /// What is wrong with a file, in words, none of which are its own.
    pub fn read(files: &[PathBuf]) -> Result<Self, String> {
        let mut all = Self::default();
        for file in files {
            all.add(file)?;
        }
        Ok(all)
    }

    fn add(&mut self, file: &Path) -> Result<(), String> {
        let shown = file.display();
        let text = match hosts_dir::read(file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(format!("cannot read {shown}: {e}")),
        };
        self.credentials.add_docker_config(&text).map_err(|e| format!("{shown}: {e}"))?;
        // It was parsed just now, with the fields that matter more.
        let helpers: Helpers = serde_json::from_slice(&text)
            .map_err(|_| format!("{shown}: credHelpers is not a table of texts"))?;
        self.helpers.push(helpers);
        Ok(())
    }

    /// Pairs of a helper and the server to ask it for, for `hosts`.
    pub fn questions(&self, hosts: &[&str]) -> BTreeSet<(String, String)> {
        let mut all = BTreeSet::new();
        for host in hosts {
            let server = if is_hub(host) { HUB_SERVER } else { host };
            for helpers in &self.helpers {
                let own = helpers.cred_helpers.iter().find(|(s, _)| {
                    s.as_str() == *host || s.as_str() == server || (is_hub(s) && is_hub(host))
                });
                let helper = own.map(|(_, helper)| helper).or(helpers.creds_store.as_ref());
                all.extend(helper.filter(|h| is_name(h)).map(|h| (h.clone(), server.to_owned())));
            }
        }
        all
    }
}

fn is_name(helper: &str) -> bool {
    !helper.is_empty()
        && helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: Secret<String>,
}

/// What `docker-credential-HELPER` knows of `server`; nothing where it knows nothing, or fails, which is
/// logged.
pub(crate) async fn ask(helper: &str, server: &str) -> Option<Credentials> {
    let program = Command::new(format!("docker-credential-{helper}"));
    match tokio::time::timeout(HELPER_TIME, run(program, helper, server)).await {
        Ok(Ok(found)) => found,
        Ok(Err(problem)) => {
            tracing::warn!(helper, server, problem, "a credential helper failed");
            None
        }
        Err(_) => {
            tracing::warn!(helper, server, "a credential helper was killed: it took too long");
            None
        }
    }
}

async fn run(
    mut program: Command,
    helper: &str,
    server: &str,
) -> Result<Option<Credentials>, String> {
    let say = |e: std::io::Error| e.to_string();
    let mut child = program
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // What it says there may repeat a secret.
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(say)?;
    if let Some(mut input) = child.stdin.take() {
        // One that does not read will not answer either.
        let _ = input.write_all(server.as_bytes()).await;
    }
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        // One byte more tells that there is more. Whoever says more is killed with `child`.
        output.take(MAX_ANSWER + 1).read_to_end(&mut said).await.map_err(say)?;
    }
    if said.len() as u64 > MAX_ANSWER {
        return Err("its answer is too long".to_owned());
    }
    let status = child.wait().await.map_err(say)?;
    if !status.success() {
        // This is how a helper says that it has nothing.
        tracing::debug!(helper, server, %status, "a credential helper has nothing");
        return Ok(None);
    }
    let answer: Answer = serde_json::from_slice(&said)
        .map_err(|_| "its answer is not of the form of credential helpers".to_owned())?;
    Ok(Some(Credentials::basic(&answer.username, answer.secret.expose())))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said_by(script: &str) -> Result<Option<Credentials>, String> {
        let mut program = Command::new("sh");
        program.args(["-c", script]);
        run(program, "test", "r.example").await
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_waited_for() {
        // It never ends by itself: only the bound ends the reading of it.
        let error = said_by("exec yes").await.unwrap_err();
        assert_eq!(error, "its answer is too long");
    }

    #[tokio::test]
    async fn a_helper_is_told_the_server_and_asked_for_a_user_and_a_secret() {
        // `get` is the script's name here.
        let script = r#"read server; printf '{"Username":"%s","Secret":"%s"}' "$server" "$0""#;
        let Ok(Some(Credentials::Basic { user, password })) = said_by(script).await else {
            unreachable!("the helper answers");
        };
        assert_eq!((user.as_str(), password.expose().as_str()), ("r.example", "get"));
        assert!(matches!(said_by("exit 1").await, Ok(None)));
        assert!(said_by("echo no").await.unwrap_err().contains("not of the form"));
    }
}
