//! What goes wrong with pods: the operation, its object, the phase and the cause.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use model::{Class, Classified, ContainerId, SandboxId};
use monitor_client::MonitorError;
use operations::{Lost, PhaseError};

/// A failure of an operation on a pod or a container.
#[derive(Debug, thiserror::Error)]
pub enum PodsError {
    /// There is no such sandbox.
    #[error("sandbox {id} does not exist")]
    NoSandbox {
        /// As it was asked for.
        id: SandboxId,
    },
    /// There is no such container.
    #[error("container {id} does not exist")]
    NoContainer {
        /// As it was asked for.
        id: ContainerId,
    },
    /// The object is in a state that does not allow the operation.
    #[error("{operation} {object}: {problem}")]
    State {
        /// What was asked for.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why not.
        problem: String,
    },
    /// The request contradicts itself, or this node.
    #[error("{operation} {object}: {problem}")]
    Invalid {
        /// What was asked for.
        operation: &'static str,
        /// On what.
        object: String,
        /// Why not.
        problem: String,
    },
    /// There are too many already.
    #[error("{operation} {object}: {problem}")]
    TooMany {
        /// What was asked for.
        operation: &'static str,
        /// On what.
        object: String,
        /// Of what, and how many there may be.
        problem: String,
    },
    /// A phase failed. What the operation had done is undone, or is on the list of what is owed.
    #[error("{operation} {object}: {phase}")]
    Failed {
        /// What was asked for.
        operation: &'static str,
        /// On what.
        object: String,
        /// Where.
        phase: &'static str,
        /// Why.
        source: Box<Cause>,
    },
    /// A process of an exec was killed because its time was over.
    #[error("ExecSync {object}: its command was killed when its time of {seconds} s was over")]
    ExecTimeout {
        /// In which container, by its names.
        object: String,
        /// How long it had.
        seconds: u64,
    },
    /// The records of pods cannot be opened.
    #[error("open the records of pods")]
    Open(#[source] store::StoreError),
    /// There are no cgroups here that could be used.
    #[error("find the cgroup hierarchies")]
    Cgroups(#[source] cgroups::CgroupError),
    /// An operation ended without an answer.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// The failure of an operation that others wait for too.
    #[error(transparent)]
    Shared(#[from] Arc<PodsError>),
}

/// Why a phase failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It took too long.
    #[error(transparent)]
    Deadline(#[from] PhaseError),
    /// A record could not be written or removed.
    #[error(transparent)]
    Record(#[from] store::StoreError),
    /// The network.
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    /// A cgroup.
    #[error(transparent)]
    Cgroup(#[from] cgroups::CgroupError),
    /// The image, or the container's root file system.
    #[error(transparent)]
    Image(#[from] image_store::ImageStoreError),
    /// The request, the image and the host do not make a container.
    #[error(transparent)]
    Spec(#[from] specgen::SpecError),
    /// Devices that vendors describe.
    #[error(transparent)]
    Cdi(#[from] cdi::CdiError),
    /// The monitor.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// A file of ours, or a path of the host.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was attempted.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Something else, of this class.
    #[error("{}{message}", reason.map(|word| format!("{word}: ")).unwrap_or_default())]
    Other {
        /// Of which kind it is.
        class: Class,
        /// The word that the kubelet looks for, if there is one for it.
        reason: Option<&'static str>,
        /// What is wrong.
        message: String,
    },
}

impl Cause {
    pub(crate) fn other(class: Class, message: impl Into<String>) -> Self {
        Self::Other { class, reason: None, message: message.into() }
    }

    /// The same for whoever names `phase` before it.
    pub(crate) fn within(mut self, phase: &str) -> Self {
        match &mut self {
            Self::Deadline(late) if late.phase == phase => late.phase = "",
            Self::Monitor(MonitorError::Refused(refusal)) if refusal.phase == phase => {
                refusal.phase.clear();
            }
            Self::Deadline(_)
            | Self::Record(_)
            | Self::Network(_)
            | Self::Cgroup(_)
            | Self::Image(_)
            | Self::Spec(_)
            | Self::Cdi(_)
            | Self::Monitor(_)
            | Self::File { .. }
            | Self::Other { .. } => {}
        }
        self
    }

    /// Pipes that could not be made.
    pub(crate) fn pipes(source: io::Error) -> Self {
        Self::File { what: "make a pipe below", path: PathBuf::from("/proc/self/fd"), source }
    }

    /// A phase's task that panicked.
    pub(crate) fn panicked(error: &tokio::task::JoinError) -> Self {
        Self::other(Class::Internal, format!("a task of this phase did not end well: {error}"))
    }
}

impl Classified for PodsError {
    fn class(&self) -> Class {
        match self {
            Self::NoSandbox { .. } | Self::NoContainer { .. } => Class::NotFound,
            Self::State { .. } => Class::FailedPrecondition,
            Self::Invalid { .. } => Class::InvalidArgument,
            Self::TooMany { .. } => Class::ResourceExhausted,
            Self::Failed { source, .. } => source.class(),
            Self::ExecTimeout { .. } => Class::DeadlineExceeded,
            Self::Open(source) => source.class(),
            Self::Cgroups(source) => source.class(),
            Self::Lost(lost) => lost.class(),
            Self::Shared(inner) => inner.class(),
        }
    }
}

impl Classified for Cause {
    fn class(&self) -> Class {
        match self {
            Self::Deadline(source) => source.class(),
            Self::Record(source) => source.class(),
            Self::Network(source) => source.class(),
            Self::Cgroup(source) => source.class(),
            Self::Image(source) => source.class(),
            Self::Spec(source) => source.class(),
            Self::Cdi(source) => source.class(),
            Self::Monitor(source) => source.class(),
            Self::File { source, .. } => Class::of_io(source),
            Self::Other { class, .. } => *class,
        }
    }
}
