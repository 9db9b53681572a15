//! What is said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{
    Class, ContainerId, Exit, IdMapping, Rootfs, SandboxId, Span, State, Stdio, Timestamp,
};
use serde::{Deserialize, Serialize};

/// From the daemon: a request and the number that its reply will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToMonitor {
    /// Chosen by the daemon, unique on the connection.
    pub id: u64,
    /// How many descriptors come with it. Said outside of the request, so that those of a request that is
    /// not understood can be told from the next one's.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fds: u32,
    /// What is asked.
    pub request: Request,
}

/// What the daemon asks.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First on every connection: who are you, what have you got? Answered with [`Reply::Welcome`].
    Hello {
        /// The daemon's [`crate::PROTOCOL`].
        protocol: u32,
    },
    /// Once in a monitor's life: make the pod's namespaces. With the descriptor of a listening socket for
    /// daemons to come, and of the network namespace if the pod has one that exists already. Answered with
    /// [`Reply::Ready`].
    Setup(Setup),
    /// Set a container up to the point where it waits for its start. Answered with [`Reply::Created`].
    Create(Box<Create>),
    /// Start a container that was created. Answered with [`Reply::Started`].
    Start {
        /// Which.
        container: ContainerId,
    },
    /// Send a signal. Answered with [`Reply::Done`]; a container that has ended is no error.
    Kill {
        /// Which.
        container: ContainerId,
        /// The signal's number.
        signal: i32,
        /// To whom.
        scope: KillScope,
    },
    /// Close the log and open it again under its name. Answered with [`Reply::Done`].
    ReopenLog {
        /// Which.
        container: ContainerId,
    },
    /// Run one more process in a container, with three descriptors: its standard streams; with none if it
    /// is to have a terminal. Answered with [`Reply::ExecStarted`] once it runs; [`Event::ExecEnded`]
    /// follows. The process is killed when this connection ends.
    Exec(Exec),
    /// Kill the process of an exec and all that came of it. Answered with [`Reply::Done`].
    KillExec {
        /// Which.
        exec: u64,
    },
    /// Tell the process of an exec that its terminal is lost: SIGHUP to it and to its process group.
    /// Answered with [`Reply::Done`]; one that has ended is no error. For one without a terminal: closing
    /// the last copy of a terminal does the same.
    HangUp {
        /// Which.
        exec: u64,
    },
    /// Take part in a container's standard streams. Answered with [`Reply::Attached`];
    /// [`Event::AttachEnded`] follows, unless the daemon ends it. The container is not touched by its end,
    /// but for a standard input that is meant for one attach.
    Attach(Attach),
    /// End an attach. Answered with [`Reply::Done`]; one that has ended is no error.
    Detach {
        /// Which.
        attach: u64,
    },
    /// Close the monitor's own end of a container's standard input: it ends for the container when no
    /// attach holds it any more. Answered with [`Reply::Done`].
    CloseStdin {
        /// Which.
        container: ContainerId,
    },
    /// Change the size of a container's terminal. Answered with [`Reply::Done`]. The terminal of an exec is
    /// in the hands of whoever asked for it.
    Resize {
        /// Which.
        container: ContainerId,
        /// The new size.
        size: TerminalSize,
    },
    /// Make TCP sockets in the pod's network namespace, to be connected by whoever asks. Answered with
    /// [`Reply::Sockets`].
    Sockets,
    /// Forget a container that has ended, with its cgroup and its mounts. Answered with [`Reply::Done`];
    /// one that is not known is no error.
    Remove {
        /// Which.
        container: ContainerId,
    },
    /// End, with everything that still runs. Answered with [`Reply::Done`] before the end.
    Shutdown,
}

/// The pod that a monitor is to hold.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Setup {
    /// Who it is.
    pub sandbox: SandboxId,
    /// Whether the pod has a network namespace of its own. Its descriptor comes behind the listener's; if
    /// it does not come, the monitor makes one, and its descriptor comes with the answer.
    pub own_network: bool,
    /// Host name in a UTS namespace of the pod's own; `None` for the host's.
    pub hostname: Option<String>,
    /// Whether the pod has an IPC namespace of its own, with a /dev/shm.
    pub own_ipc: bool,
    /// Whether its containers share a PID namespace of the pod.
    pub shared_pid: bool,
    /// Kernel parameters of its namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// Its directory: the monitor mounts below it and writes exit records there.
    pub directory: PathBuf,
    /// Size of /dev/shm in bytes.
    pub shm_size: u64,
    /// The user namespace of the pod; `None` for the host's. With one, a network namespace of the pod's own
    /// should be left to the monitor to make: only then it belongs to the pod's users, who can bind low
    /// ports in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<Users>,
}

/// Whom the ids inside of a user namespace stand for outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

/// A container to set up.
#[derive(Debug, Serialize, Deserialize)]
pub struct Create {
    /// Who it is.
    pub container: ContainerId,
    /// Directory with `config.json`, and with `seccomp.bpf` if there is a filter.
    pub bundle: PathBuf,
    /// The root file system to mount.
    pub rootfs: Rootfs,
    /// The log file, absolute.
    pub log: Option<PathBuf>,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Who launches it.
    pub runtime: Runtime,
    /// Its PID namespace.
    pub pid: PidChoice,
    /// Read-only trees for its mounts to bind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// How much it may log.
    #[serde(default)]
    pub log_limits: LogLimits,
}

/// A tree of an image to mount, read-only, where only the pod's mount namespace sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where: below the pod's directory, made if it is missing. The spec binds it from there.
    pub place: PathBuf,
    /// What.
    pub rootfs: Rootfs,
    /// The part of it to mount, resolved inside of it; empty for all.
    #[serde(default)]
    pub sub_path: PathBuf,
    /// The mount that it is for and the image, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shown: String,
}

/// How much a container may log. What is beyond is dropped line by line and counted; the container never
/// waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLimits {
    /// Bytes in a second, with a burst of as much.
    pub bytes_per_second: Option<u64>,
    /// Bytes in all, over every rotation.
    pub total_bytes: Option<u64>,
}

/// Who launches a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// The launcher in the monitor.
    Own,
    /// An OCI runtime by its command line.
    External {
        /// The program, absolute.
        program: PathBuf,
        /// Options before the command.
        options: Vec<String>,
        /// Directory for the runtime's own state.
        root: PathBuf,
    },
}

/// Whose process ids a container sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PidChoice {
    /// What its spec says: its own, or the host's.
    Spec,
    /// The pod's.
    Pod,
    /// Another container's.
    Target(ContainerId),
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KillScope {
    /// The container's first process.
    First,
    /// Everything in its cgroup; only with SIGKILL.
    All,
}

/// A process to add to a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// Where.
    pub container: ContainerId,
    /// Chosen by the daemon, unique on the connection.
    pub exec: u64,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// The size of the terminal that it is to have; `None` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A part in a container's standard streams.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attach {
    /// Which.
    pub container: ContainerId,
    /// Chosen by the daemon, unique on the connection.
    pub attach: u64,
    /// Whether to write its standard input.
    pub stdin: bool,
    /// Whether to read copies of its standard output.
    pub stdout: bool,
    /// Whether to read copies of its standard error. A terminal has none.
    pub stderr: bool,
}

/// From the monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromMonitor {
    /// The answer to a request.
    Reply {
        /// The request's number.
        id: u64,
        /// How many descriptors come with it.
        #[serde(default, skip_serializing_if = "is_zero")]
        fds: u32,
        /// The answer.
        result: Result<Reply, Refusal>,
    },
    /// Something happened.
    Event(Event),
}

/// A good answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Welcome(Welcome),
    /// To [`Request::Setup`]. With the descriptor of the network namespace if the monitor has made it.
    Ready {
        /// Where the time went.
        spans: Vec<Span>,
    },
    /// To [`Request::Create`].
    Created(Created),
    /// To [`Request::Start`].
    Started {
        /// When.
        at: Timestamp,
    },
    /// To [`Request::Exec`]. With the descriptor of the controlling end if it has a terminal: whoever
    /// closes the last copy of it hangs up.
    ExecStarted {
        /// The process, as the host sees it.
        pid: i32,
    },
    /// To [`Request::Attach`]. With a descriptor for each stream that is there, in this order.
    Attached {
        /// Standard input can be written: a pipe's end, or the controlling end of the terminal.
        stdin: bool,
        /// Copies of standard output can be read from a pipe.
        stdout: bool,
        /// Copies of standard error can be read from a pipe.
        stderr: bool,
    },
    /// To [`Request::Sockets`]. With one or two descriptors: stream sockets that do not block and are not
    /// connected, one of IPv4, and one of IPv6 where the kernel has it.
    Sockets,
    /// To everything else.
    Done,
}

/// Who a monitor is and what it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcome {
    /// The version of the protocol that the connection will have: the lower of the two.
    pub protocol: u32,
    /// The monitor's own version.
    pub version: String,
    /// The monitor's process id.
    pub pid: i32,
    /// The pod that it holds; `None` before [`Request::Setup`].
    pub sandbox: Option<SandboxId>,
    /// Its containers.
    pub containers: Vec<ContainerReport>,
    /// What all containers have logged that it ever had; `None` from one that does not count yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_totals: Option<LogTotals>,
}

/// Records of containers, counted since the monitor began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LogTotals {
    /// Were written.
    pub lines: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Could not be written.
    pub lost: u64,
    /// Were over a container's limits.
    pub dropped: u64,
}

/// A container as its monitor knows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Which.
    pub container: ContainerId,
    /// Where it is in its life.
    pub state: State,
    /// Its first process, while that lives.
    pub pid: Option<i32>,
    /// Log lines that could not be written.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// Log lines that were over the container's limits.
    #[serde(default)]
    pub log_lines_dropped: u64,
}

/// A container that waits for its start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Created {
    /// Its first process, as the host sees it; an external runtime makes it at the start.
    pub pid: Option<i32>,
    /// Where the time went.
    pub spans: Vec<Span>,
    /// What could not be done and was not essential.
    pub warnings: Vec<String>,
}

/// Why a request was not carried out. Nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What kind of failure.
    pub class: Class,
    /// In which phase; empty if none had begun.
    #[serde(default)]
    pub phase: String,
    /// What failed and why.
    pub message: String,
}

/// Something that happened without being asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A container has ended; its exit record is written.
    Exited {
        /// Which.
        container: ContainerId,
        /// How.
        exit: Exit,
    },
    /// A process of an exec has ended. Told on the connection that asked for it.
    ExecEnded {
        /// Which.
        exec: u64,
        /// Its exit code; 128 + n for signal n.
        code: i32,
    },
    /// An attach has ended. Told on the connection that asked for it.
    AttachEnded {
        /// Which.
        attach: u64,
        /// Why.
        why: AttachEnd,
    },
}

/// Why an attach has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachEnd {
    /// The container has closed its streams, or has ended.
    Ended,
    /// The reader was too slow: the log and the container wait for nobody.
    TooSlow,
    /// The reader has closed its end.
    Closed,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that serde asks for")]
const fn is_zero(n: &u32) -> bool {
    *n == 0
}
