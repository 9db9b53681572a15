//! Running a plugin: bounded in time and in what it prints, and alone no longer than we live.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::result::read_error;
use crate::error::NetworkError;

/// The most that a plugin may print; a result has some hundred bytes.
pub(crate) const MOST_OUTPUT: usize = 512 * 1024;
/// How much of its complaints goes into an error.
const MOST_COMPLAINT: usize = 2 * 1024;
/// How long the pipes of a plugin that has ended may stay open in the hands of its children.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a plugin that was killed is waited for.
const DIES_WITHIN: Duration = Duration::from_secs(5);
/// A network pod may be writing the program just now (ETXTBSY).
const BUSY_RETRIES: u32 = 10;
const BUSY_WAIT: Duration = Duration::from_millis(200);
/// Variables that speak to the daemon and must not reach others.
const DAEMON_ONLY: [&str; 6] = [
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// A call of a plugin.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The plugin's type.
    pub(crate) plugin: &'a str,
    /// The network.
    pub(crate) network: &'a str,
    /// ADD, DEL and so on.
    pub(crate) verb: &'static str,
    /// The program.
    pub(crate) program: &'a Path,
    /// The `CNI_` variables but the command.
    pub(crate) env: &'a [(&'static str, String)],
    /// Its configuration.
    pub(crate) stdin: &'a [u8],
    /// How long it may run.
    pub(crate) timeout: Duration,
}

impl Call<'_> {
    /// An error that says that the plugin does not behave.
    pub(crate) fn broken(&self, how: impl Into<String>, stderr: &[u8]) -> NetworkError {
        let kept = &stderr[..stderr.len().min(MOST_COMPLAINT)];
        NetworkError::PluginBroken {
            plugin: self.plugin.to_owned(),
            network: self.network.to_owned(),
            verb: self.verb,
            how: how.into(),
            stderr: String::from_utf8_lossy(kept).trim().to_owned(),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        for name in DAEMON_ONLY {
            command.env_remove(name);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CNI_")) {
                command.env_remove(name);
            }
        }
        command.env("CNI_COMMAND", self.verb).envs(self.env.iter().map(|(k, v)| (k, v)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.current_dir("/").process_group(0).kill_on_drop(true);
        command
    }

    async fn spawn(&self) -> Result<Child, NetworkError> {
        let mut tries = 0;
        loop {
            match self.command().spawn() {
                Ok(child) => return Ok(child),
                Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_RETRIES => {
                    tries += 1;
                    sleep(BUSY_WAIT).await;
                }
                Err(e) => {
                    let program = self.program.display();
                    return Err(self.broken(format!("{program} cannot be started: {e}"), &[]));
                }
            }
        }
    }

    /// What the plugin printed, if it succeeded.
    pub(crate) async fn run(&self) -> Result<Vec<u8>, NetworkError> {
        let deadline = Instant::now() + self.timeout;
        let mut child = self.spawn().await?;
        let group = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut output, mut complaint) = (Vec::new(), Vec::new());
        let status = {
            let talk = async {
                let write = async {
                    if let Some(mut stdin) = stdin {
                        // A plugin that does not read its configuration fails in its own way.
                        let _ = stdin.write_all(self.stdin).await;
                    }
                };
                tokio::join!(
                    write,
                    collect(stdout, &mut output, MOST_OUTPUT + 1),
                    collect(stderr, &mut complaint, MOST_COMPLAINT)
                );
            };
            tokio::pin!(talk);
            let mut talking = true;
            let mut ended: Option<(ExitStatus, Instant)> = None;
            loop {
                let until = ended.map_or(deadline, |(_, at)| deadline.min(at + DRAIN));
                tokio::select! {
                    () = &mut talk, if talking => talking = false,
                    status = child.wait(), if ended.is_none() => match status {
                        Ok(status) => ended = Some((status, Instant::now())),
                        Err(e) => return Err(self.broken(format!("it cannot be waited for: {e}"), &[])),
                    },
                    () = sleep_until(until) => match ended {
                        Some((status, _)) => break status,
                        None => {
                            self.kill(group, &mut child).await;
                            return Err(NetworkError::PluginTimeout {
                                plugin: self.plugin.to_owned(),
                                network: self.network.to_owned(),
                                verb: self.verb,
                                after: self.timeout,
                            });
                        }
                    },
                }
                if let Some((status, _)) = ended
                    && !talking
                {
                    break status;
                }
            }
        };
        self.judge(status, output, &complaint)
    }

    /// Ends the plugin and the children that stayed in its process group.
    async fn kill(&self, group: Option<Pid>, child: &mut Child) {
        // The plugin has not been waited for, so the number is still its group's.
        if let Some(group) = group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::warn!(plugin = self.plugin, %error, "a plugin past its deadline could not be killed");
        }
        // One that hangs in the kernel dies when it comes back; the runtime reaps it then. Nobody waits for it here:
        // this call's place and its locks are others'.
        if timeout(DIES_WITHIN, child.wait()).await.is_err() {
            tracing::warn!(plugin = self.plugin, "a plugin that was killed has not ended yet");
        }
    }

    fn judge(
        &self,
        status: ExitStatus,
        output: Vec<u8>,
        complaint: &[u8],
    ) -> Result<Vec<u8>, NetworkError> {
        if output.len() > MOST_OUTPUT {
            return Err(
                self.broken(format!("it printed more than {} KiB", MOST_OUTPUT / 1024), complaint)
            );
        }
        if status.success() {
            return Ok(output);
        }
        if let Some(error) = read_error(&output) {
            return Err(NetworkError::Plugin {
                plugin: self.plugin.to_owned(),
                network: self.network.to_owned(),
                verb: self.verb,
                code: error.code,
                msg: error.msg,
                details: error.details,
            });
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("it ended with exit code {code} and printed no error"),
            (None, Some(signal)) => format!("it was ended by signal {signal}"),
            (None, None) => "it ended in an unknown way".to_owned(),
        };
        Err(self.broken(how, complaint))
    }
}

/// Reads to the end, keeping at most `most` bytes.
async fn collect(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>, most: usize) {
    let Some(mut pipe) = pipe else { return };
    let mut piece = vec![0; 8192];
    while let Ok(length) = pipe.read(&mut piece).await {
        if length == 0 {
            return;
        }
        let room = most.saturating_sub(kept.len()).min(length);
        kept.extend_from_slice(&piece[..room]);
    }
}

/// The program of a plugin.
pub(crate) fn locate(kind: &str, dirs: &[PathBuf]) -> Result<PathBuf, NetworkError> {
    dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file()).ok_or_else(|| {
        NetworkError::PluginMissing { plugin: kind.to_owned(), searched: dirs.to_vec() }
    })
}
