//! A container and where it is in its life.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use launcher::{Control, Filter, HookPlan, ProcessPlan, RdtGroup};
use model::{ContainerId, Exit, ExitReason, Span, State, Stdio, Timestamp};
use monitor_api::ContainerReport;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::time::{ClockId, clock_gettime};
use sys::HandOver;

use crate::cgroup::ContainerCgroup;
use crate::external::ExternalContainer;
use crate::output::Output;
use crate::poller::Key;

/// Where a reply goes.
#[derive(Debug, Clone, Copy)]
pub struct ReplyTo {
    pub connection: Key,
    pub id: u64,
}

/// A process and its descriptor.
#[derive(Debug)]
pub struct Process {
    pub pid: Pid,
    pub pidfd: OwnedFd,
}

impl Process {
    /// The process that another one handed its place to, if it did, and if it is a child of this one and
    /// so has not been waited for by anybody.
    pub fn heir(note: &HandOver) -> Option<Self> {
        let pid = note.heir()?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), options).ok()?;
        Some(Self { pid, pidfd })
    }
}

/// What a launch is at.
#[derive(Debug)]
pub enum Stage {
    /// Its process sets itself up.
    SettingUp { reply: ReplyTo, control: Control, spans: Vec<Span> },
    /// It waits for its start; an external runtime has no process for it yet.
    Waiting { control: Option<Control> },
    /// It was told to become its program.
    Starting { reply: ReplyTo, control: Control, at: Timestamp },
    /// An external runtime's command makes and starts it.
    StartingOutside,
    /// It runs.
    Running,
    /// It has ended.
    Ended,
}

/// Who launched it, and what an exec needs to know.
#[derive(Debug)]
pub enum Launcher {
    /// This monitor.
    Own(Box<Identity>),
    /// An OCI runtime.
    External(Box<ExternalContainer>),
}

/// What an exec takes over from its container.
#[derive(Debug)]
pub struct Identity {
    pub process: ProcessPlan,
    pub filter: Option<StoredFilter>,
}

/// A filter, shared by the containers that have the same.
#[derive(Debug, Clone)]
pub struct StoredFilter {
    pub program: Rc<[u8]>,
    pub flags: u32,
}

impl StoredFilter {
    pub fn as_filter(&self) -> Filter<'_> {
        Filter { program: &self.program, flags: self.flags }
    }
}

/// A container.
#[derive(Debug)]
pub struct Container {
    pub id: ContainerId,
    pub stage: Stage,
    pub state: State,
    pub process: Option<Process>,
    pub launcher: Launcher,
    pub cgroup: ContainerCgroup,
    pub output: Output,
    /// What its standard streams are.
    pub stdio: Stdio,
    /// The other end of its standard input, kept open for an attach to come.
    pub stdin: Option<OwnedFd>,
    /// Its terminal.
    pub terminal: Option<Terminal>,
    /// Whom its process will hand its place to.
    pub hand_over: Option<HandOver>,
    /// Whether the end of its first process is the end of all in its PID namespace.
    pub has_own_pids: bool,
    /// Where trees of images are mounted for it.
    pub volumes: Vec<PathBuf>,
    /// Programs to run at points of its life, if this monitor is to run any.
    pub hooks: Option<Box<HookPlan>>,
    /// Its class of caches and memory bandwidth, if it has one.
    pub rdt: Option<RdtGroup>,
}

/// A container's terminal.
#[derive(Debug)]
pub struct Terminal {
    /// The controlling end.
    pub controller: OwnedFd,
    /// The end inside, held open so that a container may close it and open it again.
    pub _inside: Option<OwnedFd>,
}

impl Container {
    /// What a daemon is told of it.
    pub fn report(&self) -> ContainerReport {
        ContainerReport {
            container: self.id.clone(),
            state: self.state.clone(),
            pid: self.process.as_ref().map(|p| p.pid.as_raw_nonzero().get()),
            log_lines_lost: self.output.log.totals.lost,
            log_lines_dropped: self.output.log.totals.dropped,
        }
    }

    /// If its process has handed its place over, its process is the heir from now on.
    pub fn promote(&mut self) {
        if let Some(heir) = self.hand_over.as_ref().and_then(Process::heir) {
            self.process = Some(heir);
            self.hand_over = None;
        }
    }

    /// Whether something in it may have the power to trace what it sees.
    pub fn may_trace(&self) -> bool {
        match &self.launcher {
            Launcher::Own(identity) => identity.process.may_trace(),
            Launcher::External(_) => true,
        }
    }

    /// When it was started; 0 if it was not.
    pub fn started_at(&self) -> Timestamp {
        match self.state {
            State::Created => Timestamp(0),
            State::Running { started_at } | State::Exited { started_at, .. } => started_at,
        }
    }
}

/// The end of a process that was started.
pub fn exit_of(code: i32, killed_for_memory: bool) -> Exit {
    let (reason, message) = match code {
        0 => (ExitReason::Completed, String::new()),
        _ if killed_for_memory => (
            ExitReason::OOMKilled,
            "a process was killed at the container's memory limit".to_owned(),
        ),
        _ => (ExitReason::Error, String::new()),
    };
    Exit { code, finished_at: now(), reason, message }
}

/// The end of a process that could not be started.
pub fn start_error(message: String) -> Exit {
    Exit { code: 128, finished_at: now(), reason: ExitReason::StartError, message }
}

/// The time.
pub fn now() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    Timestamp(now.tv_sec * 1_000_000_000 + now.tv_nsec)
}
