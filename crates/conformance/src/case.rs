//! What a case is, and how one ends.

use std::fmt;
use std::panic::Location;
use std::pin::Pin;

use tonic::{Code, Status};

use crate::context::Context;

/// How a case ends: it holds, or not for this reason.
pub type Verdict = Result<(), Stop>;

/// What a case runs: it borrows the context, and is on the heap because requests are large.
pub(crate) type Run = for<'a> fn(&'a Context) -> Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// How much of a node a case takes for granted. Each level has those before it in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// The calls and their answers alone: a runtime in memory can hold it.
    Api,
    /// Programs run: their output, their input and their ends. A shell that knows
    /// [`crate::SHELL`] is enough.
    Program,
    /// A Linux node: namespaces, mounts, cgroups, users and capabilities.
    Linux,
}

impl Level {
    /// All of them, the least first.
    pub const ALL: [Self; 3] = [Self::Api, Self::Program, Self::Linux];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Program => "program",
            Self::Linux => "linux",
        }
    }
}

/// Where a rule comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Basis {
    /// The comments of the CRI's own api.proto on what the case covers.
    Api,
    /// What the kubelet relies on, and the fields of a pod that it hands down.
    Kubelet,
    /// The meaning of gRPC's status codes, which the kubelet acts on.
    Codes,
    /// The format of Kubernetes' container logs (CRI logging design).
    Logs,
    /// Kubernetes' remote command and port-forward protocols.
    Streaming,
    /// The OCI image and distribution specifications.
    Oci,
    /// What Linux says of the thing itself (man pages).
    Linux,
}

impl Basis {
    /// The words for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Api => "CRI api.proto",
            Self::Kubelet => "what the kubelet relies on",
            Self::Codes => "gRPC status codes, as the kubelet reads them",
            Self::Logs => "Kubernetes container log format",
            Self::Streaming => "Kubernetes streaming protocols",
            Self::Oci => "OCI image and distribution specifications",
            Self::Linux => "Linux manual pages",
        }
    }
}

/// What a case cannot do without, beyond its level. Where it is missing the case is skipped, with the
/// reason that the runtime or the machine gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Pods have a network of their own, with an address.
    PodNetwork,
    /// The handler runs pods in user namespaces (`RuntimeHandlerFeatures.user_namespaces`).
    UserNamespaces,
    /// The handler has recursive read-only mounts.
    RecursiveReadOnly,
    /// The runtime follows `supplemental_groups_policy`.
    GroupsPolicy,
    /// The runtime follows `Mount.mount_options`.
    MountOptions,
    /// The suite was told how to restart the runtime.
    Restart,
    /// The registry is the suite's own, and misbehaves when it is told to.
    OwnRegistry,
    /// The suite runs as root of the node, and may mount.
    Root,
}

/// One rule, and the code that looks whether it is held.
#[derive(Clone, Copy)]
pub struct Case {
    /// `group/short-name`.
    pub name: &'static str,
    /// The rule, in a sentence.
    pub rule: &'static str,
    /// How much of a node it takes.
    pub level: Level,
    /// Where the rule comes from.
    pub basis: Basis,
    /// The calls, messages and fields that it is about, by their names in package `runtime.v1`; the
    /// call that it is mostly about comes first.
    pub covers: &'static [&'static str],
    /// What else it needs.
    pub needs: &'static [Need],
    pub(crate) run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Case {
    /// The part of its name before the slash.
    #[must_use]
    pub fn group(&self) -> &'static str {
        self.name.split('/').next().unwrap_or(self.name)
    }

    /// Whether it cannot share the runtime with other cases.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.needs.contains(&Need::Restart)
    }

    /// Whether a runtime may leave out what it is about. Calls that came later than the first
    /// version of the API, or that no kubelet makes unless it is told to.
    #[must_use]
    pub fn is_optional(&self) -> bool {
        self.covers.iter().any(|name| OPTIONAL.contains(name))
    }
}

/// Calls that a runtime may answer with Unimplemented: the kubelet does without them.
pub const OPTIONAL: [&str; 18] = [
    "StreamPodSandboxes",
    "StreamContainers",
    "StreamContainerStats",
    "StreamPodSandboxStats",
    "StreamPodSandboxMetrics",
    "StreamImages",
    "PodSandboxStats",
    "ListPodSandboxStats",
    "CheckpointContainer",
    "CheckpointPod",
    "RestorePod",
    "GetContainerEvents",
    "ListMetricDescriptors",
    "ListPodSandboxMetrics",
    "RuntimeConfig",
    "UpdatePodSandboxResources",
    "UpdateRuntimeConfig",
    "ReopenContainerLog",
];

/// Why a case ended before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The rule is not held.
    Failed {
        /// What is not as it should be.
        why: String,
        /// Where in the suite's source this was seen.
        at: String,
    },
    /// It cannot be tried here.
    Skipped(String),
    /// The runtime does not know the call. Whether that is allowed depends on the call.
    Unimplemented(String),
}

impl Stop {
    /// Not as it should be.
    #[must_use]
    #[track_caller]
    pub fn failed(why: impl Into<String>) -> Self {
        let place = Location::caller();
        let file = place.file().rsplit('/').next().unwrap_or_default();
        Self::Failed { why: why.into(), at: format!("{file}:{}", place.line()) }
    }
}

impl From<Status> for Stop {
    #[track_caller]
    fn from(status: Status) -> Self {
        if status.code() == Code::Unimplemented {
            return Self::Unimplemented(status.message().to_owned());
        }
        Self::failed(format!("the runtime answers {}", said(&status)))
    }
}

impl From<std::io::Error> for Stop {
    #[track_caller]
    fn from(error: std::io::Error) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<cri_streaming::client::ClientError> for Stop {
    #[track_caller]
    fn from(error: cri_streaming::client::ClientError) -> Self {
        let mut why = error.to_string();
        if let Some(source) = std::error::Error::source(&error) {
            why = format!("{why}: {source}");
        }
        Self::failed(why)
    }
}

/// A status in a line.
pub(crate) fn said(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// Ends the case as failed unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            return Err($crate::case::Stop::failed(format!($($why)+)));
        }
    };
}

/// Ends the case as failed unless both are equal.
macro_rules! same {
    ($what:expr, $found:expr, $wanted:expr) => {
        match (&$found, &$wanted) {
            (found, wanted) => {
                if found != wanted {
                    let why = format!("{} is {found:?}, not {wanted:?}", $what);
                    return Err($crate::case::Stop::failed(why));
                }
            }
        }
    };
}

/// Looks until there is a value, but not for ever: then the case has failed.
macro_rules! until {
    ($what:expr, $look:expr) => {{
        let deadline = tokio::time::Instant::now() + $crate::context::SOON;
        loop {
            if let Some(value) = $look {
                break value;
            }
            if tokio::time::Instant::now() >= deadline {
                let late = format!("not after {:?}: {}", $crate::context::SOON, $what);
                return Err($crate::case::Stop::failed(late));
            }
            tokio::time::sleep($crate::context::PAUSE).await;
        }
    }};
}

/// The table of a group: `"name" Level Basis [covers] needs [needs] "rule" => function(arguments);`.
/// The functions get the context first.
macro_rules! cases {
    ($group:literal: $($short:literal $level:ident $basis:ident [$($covers:literal),+]
        $(needs [$($need:ident),+])? $rule:literal => $run:ident($($arg:expr),*);)+) => {
        /// The cases of this file.
        pub(crate) const CASES: &[$crate::case::Case] = &[$($crate::case::Case {
            name: concat!($group, "/", $short),
            rule: $rule,
            level: $crate::case::Level::$level,
            basis: $crate::case::Basis::$basis,
            covers: &[$($covers),+],
            needs: &[$($($crate::case::Need::$need),+)?],
            run: |c| Box::pin($run(c $(, $arg)*)),
        }),+];
    };
}

pub(crate) use {cases, ensure, same, until};
