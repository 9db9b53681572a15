//! Command lines.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use runtime_spec::{ConsoleSize, Process, Spec};
use rustix::process::Pid;

/// Where runtimes look for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A runtime and where it keeps its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciRuntime {
    /// The program, absolute.
    pub program: PathBuf,
    /// Options before the command.
    pub options: Vec<String>,
    /// Directory of its own state (`--root`).
    pub root: PathBuf,
}

/// A command to run, and the files that tell how it went.
#[derive(Debug)]
pub struct Invocation {
    /// The command; its standard streams are the caller's to set.
    pub command: Command,
    /// Where the runtime writes its log.
    pub log: PathBuf,
    /// Where it writes the new process's id, for commands that make one.
    pub pid_file: PathBuf,
}

impl OciRuntime {
    /// Makes and starts the container of `bundle` and leaves it running: `run --detach`.
    #[must_use]
    pub fn run(&self, bundle: &Path, id: &str) -> Invocation {
        let mut invocation = self.invocation(bundle, "run");
        let Invocation { command, pid_file, .. } = &mut invocation;
        command
            .args(["run", "--detach", "--bundle"])
            .arg(bundle)
            .arg("--pid-file")
            .arg(pid_file)
            .arg(id);
        invocation
    }

    /// Runs the process in the file `process` inside the container: `exec --detach`. `name` tells this
    /// exec's files from others'.
    #[must_use]
    pub fn exec(&self, bundle: &Path, id: &str, process: &Path, name: &str) -> Invocation {
        let mut invocation = self.invocation(bundle, name);
        let Invocation { command, pid_file, .. } = &mut invocation;
        command
            .args(["exec", "--detach", "--process"])
            .arg(process)
            .arg("--pid-file")
            .arg(pid_file)
            .arg(id);
        invocation
    }

    /// Removes what the runtime keeps of the container, and kills what runs of it: `delete --force`.
    #[must_use]
    pub fn delete(&self, bundle: &Path, id: &str) -> Invocation {
        let mut invocation = self.invocation(bundle, "delete");
        invocation.command.args(["delete", "--force", id]);
        invocation
    }

    fn invocation(&self, bundle: &Path, name: &str) -> Invocation {
        let log = bundle.join(format!("{name}.log"));
        let mut command = Command::new(&self.program);
        command
            .args(&self.options)
            .arg("--root")
            .arg(&self.root)
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"]);
        command.current_dir(bundle).env_clear().env("PATH", PATH);
        Invocation { command, log, pid_file: bundle.join(format!("{name}.pid")) }
    }
}

impl Invocation {
    /// Lets the runtime hand the controlling end of a new terminal over through the socket `name` in the
    /// bundle; for commands that make a process with one.
    pub fn use_console(&mut self, name: &std::ffi::OsStr) {
        let Self { command, .. } = self;
        let directory = command.get_current_dir().unwrap_or(Path::new("/")).to_owned();
        let (program, args) =
            (command.get_program().to_owned(), command.get_args().map(std::ffi::OsStr::to_owned));
        let mut args: Vec<_> = args.collect();
        // Options of a command stand before the container's id.
        let before_id = args.len().saturating_sub(1);
        args.splice(before_id..before_id, ["--console-socket".into(), name.to_owned()]);
        let mut with_console = Command::new(program);
        with_console.args(args).current_dir(directory).env_clear().env("PATH", PATH);
        *command = with_console;
    }

    /// The process that the command has made.
    ///
    /// # Errors
    /// A file that is not there or holds no process id.
    pub fn new_pid(pid_file: &Path) -> io::Result<Pid> {
        let text = std::fs::read_to_string(pid_file)?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} has no process id", pid_file.display()),
            )
        })
    }
}

/// Writes the process of the container of `bundle` with another command and terminal, for `exec --process`.
/// Returns the file, and the score for the kernel's choice when memory lacks (proc_pid_oom_score_adj(5)).
///
/// # Errors
/// A bundle that cannot be read, or a directory that cannot be written.
pub fn process_file(
    bundle: &Path,
    name: &str,
    args: &[String],
    terminal: Option<ConsoleSize>,
) -> io::Result<(PathBuf, Option<i32>)> {
    let spec: Spec = serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?;
    let process = spec.process.ok_or_else(|| io::Error::other("config.json has no process"))?;
    let args = args.to_vec();
    let process = Process { args, terminal: terminal.is_some(), console_size: terminal, ..process };
    let path = bundle.join(format!("{name}.json"));
    std::fs::write(&path, serde_json::to_vec(&process)?)?;
    Ok((path, process.oom_score_adj))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &Command) -> String {
        let words = [command.get_program()].into_iter().chain(command.get_args());
        words.map(|w| w.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn command_lines_follow_the_runtimes_conventions() {
        let runtime = OciRuntime {
            program: "/usr/bin/crun".into(),
            options: vec!["--debug".into()],
            root: "/run/r".into(),
        };
        let bundle = Path::new("/b");
        let head = |name: &str| {
            format!("/usr/bin/crun --debug --root /run/r --log /b/{name}.log --log-format json")
        };
        assert_eq!(
            words(&runtime.run(bundle, "id").command),
            format!("{} run --detach --bundle /b --pid-file /b/run.pid id", head("run"))
        );
        assert_eq!(
            words(&runtime.exec(bundle, "id", Path::new("/b/exec-1.json"), "exec-1").command),
            format!(
                "{} exec --detach --process /b/exec-1.json --pid-file /b/exec-1.pid id",
                head("exec-1")
            )
        );
        assert_eq!(
            words(&runtime.delete(bundle, "id").command),
            format!("{} delete --force id", head("delete"))
        );
    }

    #[test]
    fn a_pid_file_without_a_process_id_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        assert!(Invocation::new_pid(&path).is_err());
        for (text, good) in [("12", true), ("12\n", true), ("", false), ("0", false), ("x", false)]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(Invocation::new_pid(&path).is_ok(), good, "{text:?}");
        }
    }
}
