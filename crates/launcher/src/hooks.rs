//! Programs that run at points of a container's life ("POSIX-platform Hooks" of the runtime specification).
//!
//! Owns: how one is run: its state on standard input, its time, what is told of its failure. Always: it blocks
//! for as long as they run, so whoever calls is a process that nobody else waits for; a hook has no
//! descriptor but its standard streams; it leads a group of its own, which ends with its time, and it does not
//! outlive whoever runs it. Callers: the container's own process for `startContainer`, errands (`points`) for the
//! others.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runtime_spec::Hook;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use serde::Serialize;

use crate::error::Failure;

/// How long a hook may run that says nothing of its own.
const LONGEST: Duration = Duration::from_secs(60);
/// No hook runs longer than this, whatever it says: a year.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The most that is told of what a failed hook has written.
const TOLD_MAX: u64 = 1024;

/// What hooks are told of their container, but for what changes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HookState {
    /// The container's id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Annotations of its spec.
    pub annotations: BTreeMap<String, String>,
}

/// The state as the specification writes it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    oci_version: &'static str,
    id: &'a str,
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    bundle: &'a std::path::Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

impl HookState {
    /// The state that hooks are given: `status` of the specification, and the process, where there is one.
    #[must_use]
    pub fn json(&self, status: &str, pid: Option<Pid>) -> Vec<u8> {
        let state = State {
            oci_version: runtime_spec::VERSION,
            id: &self.id,
            status,
            pid: pid.map(|pid| pid.as_raw_nonzero().get()),
            bundle: &self.bundle,
            annotations: &self.annotations,
        };
        // Texts, numbers and paths of ours: there is nothing in it that cannot be written.
        serde_json::to_vec(&state).unwrap_or_default()
    }
}

/// Runs `hooks` in order, each to its end, until one fails. `point` is the name of their list.
///
/// # Errors
/// Which one failed, and how.
pub(crate) fn run_hooks(point: &str, hooks: &[Hook], state: &[u8]) -> Result<(), Failure> {
    hooks.iter().try_for_each(|hook| run_at(point, hook, state))
}

/// Runs all of `hooks` in order, also those after one that fails.
///
/// # Errors
/// Which ones failed, and how.
pub(crate) fn run_all_hooks(point: &str, hooks: &[Hook], state: &[u8]) -> Result<(), String> {
    let failures = hooks.iter().filter_map(|hook| run_at(point, hook, state).err());
    let failures: Vec<String> = failures.map(|failure| failure.to_string()).collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// How long hooks may take together.
pub(crate) fn time_of<'a>(hooks: impl IntoIterator<Item = &'a Hook>) -> Duration {
    hooks.into_iter().map(patience).fold(Duration::ZERO, Duration::saturating_add)
}

fn patience(hook: &Hook) -> Duration {
    match hook.timeout {
        Some(seconds) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).min(FOREVER),
        None => LONGEST,
    }
}

fn run_at(point: &str, hook: &Hook, state: &[u8]) -> Result<(), Failure> {
    run(hook, state).map_err(Failure::at(format!("the {point} hook {}", hook.path.display())))
}

fn run(hook: &Hook, state: &[u8]) -> io::Result<()> {
    let mut said = memory("hook-output")?;
    let mut command = Command::new(&hook.path);
    if let Some((name, args)) = hook.args.split_first() {
        command.arg0(name).args(args);
    }
    let variables = hook.env.iter().filter_map(|variable| variable.split_once('='));
    sys::end_with_parent(&mut command);
    let mut child = command
        .process_group(0)
        .env_clear()
        .envs(variables)
        .stdin(Stdio::from(OwnedFd::from(with_content(state)?)))
        .stdout(Stdio::from(OwnedFd::from(said.try_clone()?)))
        .stderr(Stdio::from(OwnedFd::from(said.try_clone()?)))
        .spawn()?;
    let patience = patience(hook);
    let in_time = wait_until_ended(&child, patience);
    if !matches!(in_time, Ok(true)) {
        // All that it has started, too. The group's number is its own, which nobody has waited for.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        child.kill()?;
    }
    let status = child.wait()?;
    if !in_time? {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("killed after {} s", patience.as_secs()),
        ));
    }
    if status.success() {
        return Ok(());
    }
    let mut told = Vec::new();
    said.rewind()?;
    said.take(TOLD_MAX).read_to_end(&mut told)?;
    Err(io::Error::other(format!("{status}: {}", String::from_utf8_lossy(&told).trim())))
}

fn memory(name: &str) -> io::Result<File> {
    Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?))
}

fn with_content(content: &[u8]) -> io::Result<File> {
    let mut file = memory("hook-state")?;
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// Whether it ends within this time. It is not waited for here, so its number stays its own.
fn wait_until_ended(child: &Child, patience: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut ended = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    loop {
        match poll(&mut ended, Some(&timeout)) {
            // Signals that come here are rare, and a little more time does no harm.
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(args: &[&str], timeout: Option<i64>) -> Hook {
        Hook {
            path: args[0].into(),
            args: args.iter().map(ToString::to_string).collect(),
            env: vec!["SAID=in the environment".to_owned()],
            timeout,
        }
    }

    #[test]
    fn a_hook_is_given_the_state_and_its_own_environment_alone() {
        let dir = tempfile::tempdir().unwrap();
        let state = HookState { id: "c1".to_owned(), bundle: "/b".into(), ..HookState::default() };
        let json = state.json("creating", Pid::from_raw(7));
        let script = format!("cat > {0}/state; env > {0}/env", dir.path().display());
        run_hooks("createRuntime", &[hook(&["/bin/sh", "-c", &script], None)], &json).unwrap();
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let given: serde_json::Value = serde_json::from_str(&read("state")).unwrap();
        let expected = serde_json::json!({"ociVersion": runtime_spec::VERSION, "id": "c1",
            "status": "creating", "pid": 7, "bundle": "/b"});
        assert_eq!(given, expected);
        assert!(read("env").contains("SAID=in the environment") && !read("env").contains("CARGO"));
    }

    #[test]
    fn the_first_failure_ends_the_rest_where_it_counts_and_tells_what_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let after = format!("touch {}/after", dir.path().display());
        let failing = hook(&["/bin/sh", "-c", "echo no such card >&2; exit 3"], None);
        let hooks = [failing, hook(&["/bin/sh", "-c", &after], None)];
        let error = run_hooks("createRuntime", &hooks, b"{}").unwrap_err().to_string();
        for part in ["createRuntime", "/bin/sh", "3", "no such card"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!dir.path().join("after").exists());
        let error = run_all_hooks("poststop", &hooks, b"{}").unwrap_err();
        assert!(error.contains("the poststop hook /bin/sh"), "{error}");
        assert!(dir.path().join("after").exists(), "those after a failure run where nobody waits");
        let missing = run_hooks("poststop", &[hook(&["/no/such/hook"], None)], b"{}").unwrap_err();
        assert!(missing.to_string().contains("/no/such/hook"), "{missing}");
    }

    #[test]
    fn no_time_is_too_long_to_be_counted() {
        let hooks = [hook(&["/x"], Some(i64::MAX)), hook(&["/x"], None), hook(&["/x"], Some(5))];
        assert_eq!(time_of(&hooks), FOREVER + LONGEST + Duration::from_secs(5));
        run_hooks("poststart", &[hook(&["/bin/true"], Some(i64::MAX))], b"{}").unwrap();
    }

    #[test]
    fn a_hook_past_its_time_is_killed() {
        let error = run_hooks("poststart", &[hook(&["/bin/sleep", "1000"], Some(0))], b"{}");
        let error = error.unwrap_err().to_string();
        assert!(error.contains("killed after 0 s"), "{error}");
    }

    #[test]
    fn what_a_late_hook_has_started_ends_with_it() {
        let (read, write) = io::pipe().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let fd = std::os::fd::AsRawFd::as_raw_fd(&write);
        std::os::unix::fs::symlink(format!("/proc/{}/fd/{fd}", std::process::id()), &pipe).unwrap();
        let script = format!("(echo held; exec sleep 1000) > {} & exec sleep 1000", pipe.display());
        let error = run_hooks("poststart", &[hook(&["/bin/sh", "-c", &script], Some(1))], b"{}");
        assert!(error.unwrap_err().to_string().contains("killed after 1 s"));
        drop(write);
        let mut ended = [PollFd::new(&read, PollFlags::IN)];
        let mut read = &read;
        let patience = Timespec { tv_sec: 20, tv_nsec: 0 };
        while poll(&mut ended, Some(&patience)).unwrap() > 0 {
            if read.read(&mut [0; 16]).unwrap() == 0 {
                return;
            }
        }
        panic!("something of the hook lives on");
    }
}
