//! What the services ask of the daemon around them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use model::{ContainerId, HandlerName, SandboxId, Timestamp};

/// One of the node's conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Whether it holds.
    pub holds: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why, for people; empty if there is nothing to add.
    pub message: String,
}

/// Who makes cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupDriver {
    /// systemd.
    Systemd,
    /// The file system.
    Cgroupfs,
}

/// A runtime handler and what it can do here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandlerFeatures {
    /// Its name; empty for the default.
    pub name: HandlerName,
    /// Mounts that are read-only all the way down.
    pub recursive_read_only_mounts: bool,
    /// User namespaces of the pod's own.
    pub user_namespaces: bool,
}

/// What a reload of the configuration did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reloaded {
    /// Keys that have a new value now.
    pub changed: Vec<String>,
    /// Keys whose new value needs a restart.
    pub needs_restart: Vec<String>,
}

/// The answer of the host to a change.
pub type HostAnswer<'a> = Pin<Box<dyn Future<Output = Result<(), tonic::Status>> + Send + 'a>>;

/// A text that takes a moment.
pub type MetricsText<'a> = Pin<Box<dyn Future<Output = String> + Send + 'a>>;

/// A CNI plugin that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRun {
    /// Its type.
    pub plugin: String,
    /// ADD, DEL and so on.
    pub verb: &'static str,
    /// For which sandbox.
    pub sandbox: String,
    /// When it began.
    pub since: Timestamp,
}

/// The node around the services. Nothing here waits, but for [`Host::set_pod_cidrs`] and [`Host::metrics`].
pub trait Host: fmt::Debug + Send + Sync {
    /// Whether pods can be run.
    fn runtime(&self) -> Condition;
    /// Whether pods can have a network.
    fn network(&self) -> Condition;
    /// The handlers, the default first.
    fn handlers(&self) -> Vec<HandlerFeatures>;
    /// Who makes cgroups.
    fn cgroup_driver(&self) -> CgroupDriver;
    /// The configuration in use, for people; without secrets.
    fn configuration(&self) -> serde_json::Value;
    /// The node's ranges of pod addresses, as the kubelet tells them: separated by commas.
    fn set_pod_cidrs(&self, cidrs: String) -> HostAnswer<'_>;
    /// What the daemon has logged of late that has one of these words in it, the oldest first.
    fn log_lines(&self, about: &[String]) -> Vec<String>;
    /// CNI plugins that run now.
    fn plugins(&self) -> Vec<PluginRun>;
    /// The daemon's own metrics, in Prometheus' text format.
    fn metrics(&self) -> MetricsText<'_>;
    /// Reads the configuration again.
    ///
    /// # Errors
    /// Every mistake of it; nothing has changed then.
    fn reload(&self) -> Result<Reloaded, tonic::Status>;
}

/// A process to be run in a container, its streams to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecStreams {
    /// Where.
    pub container: ContainerId,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is wanted.
    pub stdin: bool,
    /// Whether its standard output is wanted.
    pub stdout: bool,
    /// Whether its standard error is wanted; never with a terminal.
    pub stderr: bool,
}

/// A container's own streams to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachStreams {
    /// Which.
    pub container: ContainerId,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its standard input is wanted.
    pub stdin: bool,
    /// Whether its standard output is wanted.
    pub stdout: bool,
    /// Whether its standard error is wanted; never with a terminal.
    pub stderr: bool,
}

/// Ports of a pod to be carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortStreams {
    /// Of which sandbox.
    pub sandbox: SandboxId,
    /// Which; empty where the caller's own requests say it.
    pub ports: Vec<u16>,
}

/// Who carries streams. Each answer is a URL that serves once.
pub trait Streaming: fmt::Debug + Send + Sync {
    /// The URL of an exec.
    ///
    /// # Errors
    /// The answer to the caller, for example when too many URLs wait for their use.
    fn exec(&self, what: ExecStreams) -> Result<String, tonic::Status>;
    /// The URL of an attach.
    ///
    /// # Errors
    /// The same.
    fn attach(&self, what: AttachStreams) -> Result<String, tonic::Status>;
    /// The URL of a port-forward.
    ///
    /// # Errors
    /// The same.
    fn port_forward(&self, what: PortStreams) -> Result<String, tonic::Status>;
}
