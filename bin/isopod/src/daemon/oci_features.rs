//! What an OCI runtime says that it can do (`features` of the runtime specification, "features.md").
//!
//! Always: a runtime that does not answer in time, or has no such command, can do what every one can and no
//! more.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// How long a runtime may take to answer; the daemon waits for it at its start.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// What an OCI runtime can do beyond what all can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OciFeatures {
    /// Mounts that are read-only with all below them.
    pub recursive_read_only: bool,
}

impl OciFeatures {
    /// Those of `program`. Blocks, at most for [`PATIENCE`].
    pub fn ask(program: &Path, options: &[String]) -> Self {
        match answer(program, options).and_then(|text| Self::read(&text)) {
            Ok(features) => features,
            Err(error) => {
                let program = program.display();
                tracing::info!(%program, %error, "the runtime does not tell its features");
                Self::default()
            }
        }
    }

    fn read(text: &str) -> io::Result<Self> {
        let answer: serde_json::Value = serde_json::from_str(text)?;
        let options = answer["mountOptions"].as_array();
        let has = |option: &str| options.is_some_and(|all| all.iter().any(|known| known == option));
        Ok(Self { recursive_read_only: has("rro") })
    }
}

fn answer(program: &Path, options: &[String]) -> io::Result<String> {
    let mut said = File::from(memfd_create("features", MemfdFlags::CLOEXEC)?);
    let mut child = Command::new(program)
        .args(options)
        .arg("features")
        .stdin(Stdio::null())
        .stdout(Stdio::from(OwnedFd::from(said.try_clone()?)))
        .stderr(Stdio::null())
        .spawn()?;
    let in_time = wait_until_ended(&child);
    if !matches!(in_time, Ok(true)) {
        child.kill()?;
    }
    let status = child.wait()?;
    if !in_time? {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("not after {PATIENCE:?}")));
    }
    if !status.success() {
        return Err(io::Error::other(format!("`features`: {status}")));
    }
    let mut text = String::new();
    said.rewind()?;
    said.take(ANSWER_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// It is not waited for here, so its number stays its own.
fn wait_until_ended(child: &Child) -> io::Result<bool> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pidfd = pidfd_open(
        pid.ok_or_else(|| io::Error::other("it has no process id"))?,
        PidfdFlags::empty(),
    )?;
    let mut ended = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let timeout = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(5), tv_nsec: 0 };
    loop {
        match poll(&mut ended, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_runtime_is_asked_and_one_without_an_answer_can_do_nothing_special() {
        let dir = tempfile::tempdir().unwrap();
        for (name, script, expected) in [
            (
                "new",
                "test \"$1 $2\" = '--debug features' && echo '{\"mountOptions\": [\"ro\", \"rro\"]}'",
                true,
            ),
            ("old", "echo '{\"mountOptions\": [\"ro\"], \"more\": {}}'", false),
            ("none", "echo unknown command >&2; exit 1", false),
            ("nonsense", "echo hello", false),
        ] {
            let program = dir.path().join(name);
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let features = OciFeatures::ask(&program, &["--debug".to_owned()]);
            assert_eq!(features.recursive_read_only, expected, "{name}");
        }
        assert_eq!(OciFeatures::ask(Path::new("/no/such/runtime"), &[]), OciFeatures::default());
    }
}
