//! What is said.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::{Class, ContainerId, Exit, Rootfs, SandboxId, Span, State, Stdio, Timestamp};
use serde::{Deserialize, Serialize};

/// From the daemon: a request and the number that its reply will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct ToMonitor {
    /// Chosen by the daemon, unique on the connection.
    pub id: u64,
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
    /// daemons to come, and of the network namespace if the pod has one. Answered with [`Reply::Ready`].
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
    /// Run one more process in a container, with three descriptors: its standard streams. Answered with
    /// [`Reply::ExecStarted`] once it runs; [`Event::ExecEnded`] follows. The process is killed when
    /// this connection ends.
    Exec(Exec),
    /// Kill the process of an exec and all that came of it. Answered with [`Reply::Done`].
    KillExec {
        /// Which.
        exec: u64,
    },
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
    /// Whether the pod has a network namespace of its own, whose descriptor comes behind the listener's.
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
}

/// From the monitor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromMonitor {
    /// The answer to a request.
    Reply {
        /// The request's number.
        id: u64,
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
    /// To [`Request::Setup`].
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
    /// To [`Request::Exec`].
    ExecStarted {
        /// The process, as the host sees it.
        pid: i32,
    },
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
}
