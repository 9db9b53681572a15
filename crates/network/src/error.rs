//! What can go wrong, and of which class it is.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use model::{Class, Classified, Protocol};
use store::StoreError;

/// A failure of a network operation.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The node's own network configuration cannot be used.
    #[error("network configuration: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// A sandbox asks for what no network can do.
    #[error("{reason}")]
    Request {
        /// What is wrong.
        reason: String,
    },
    /// A CNI configuration file cannot be used.
    #[error("CNI configuration {}{}: {reason}", path.display(), line.map(|l| format!(", line {l}")).unwrap_or_default())]
    ConfFile {
        /// The file.
        path: PathBuf,
        /// The line, where it is known.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// There is no usable network now.
    #[error("network is not ready: {message}")]
    NotReady {
        /// Why.
        message: String,
    },
    /// A plugin is in none of the directories.
    #[error("CNI plugin {plugin:?} is not in {}", paths(searched))]
    PluginMissing {
        /// The plugin's type.
        plugin: String,
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// A plugin said that it failed.
    #[error(
        "CNI plugin {plugin:?} of network {network:?} failed at {verb}: {msg} (code {code}){}",
        after_colon(details)
    )]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// The network.
        network: String,
        /// ADD, DEL and so on.
        verb: &'static str,
        /// The code, as the CNI specification numbers them.
        code: u32,
        /// Its message.
        msg: String,
        /// Its details.
        details: String,
    },
    /// A plugin did not behave as the CNI specification says.
    #[error("CNI plugin {plugin:?} of network {network:?} at {verb}: {how}{}", after_colon(stderr))]
    PluginBroken {
        /// The plugin's type.
        plugin: String,
        /// The network.
        network: String,
        /// ADD, DEL and so on.
        verb: &'static str,
        /// What it did.
        how: String,
        /// What it wrote to standard error, cut.
        stderr: String,
    },
    /// A plugin ran too long and was killed with its children.
    #[error("CNI plugin {plugin:?} of network {network:?} was killed at {verb} after {} s", after.as_secs())]
    PluginTimeout {
        /// The plugin's type.
        plugin: String,
        /// The network.
        network: String,
        /// ADD, DEL and so on.
        verb: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// A network namespace cannot be made, opened or removed.
    #[error("cannot {operation} the network namespace {}", path.display())]
    Netns {
        /// What was tried.
        operation: &'static str,
        /// The namespace's file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel refused a change to links, addresses, routes or rules.
    #[error("cannot {operation} {object}")]
    Kernel {
        /// What was tried.
        operation: &'static str,
        /// With what.
        object: String,
        /// Why it failed.
        source: io::Error,
    },
    /// No address is free.
    #[error("no free address in {pool} of network {network:?}: {used} are in use")]
    Exhausted {
        /// The network.
        network: String,
        /// The addresses it has.
        pool: String,
        /// How many sandboxes hold one.
        used: usize,
    },
    /// A host port is taken.
    #[error("host port {port}/{} is taken by {holder}", protocol.name())]
    PortTaken {
        /// The port.
        port: u16,
        /// Its transport.
        protocol: Protocol,
        /// Who has it.
        holder: String,
    },
    /// A link or table of the configured name belongs to somebody else.
    #[error("{object} is not ours: {reason}")]
    Foreign {
        /// The link or table.
        object: String,
        /// How that was found out.
        reason: String,
    },
    /// A sandbox has no record, and should have one.
    #[error("the network record of sandbox {sandbox} is lost")]
    NoRecord {
        /// The sandbox.
        sandbox: String,
    },
    /// A record cannot be read or written.
    #[error("network record")]
    Record(#[from] StoreError),
    /// A task of ours ended without an answer: a fault in this program.
    #[error("{operation} ended without an answer")]
    Lost {
        /// What it was doing.
        operation: &'static str,
    },
}

fn paths(all: &[PathBuf]) -> String {
    all.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

/// CNI error codes of the specification with a class of their own; plugins choose those from 100 on.
mod code {
    pub(super) const INCOMPATIBLE_VERSION: u32 = 1;
    pub(super) const UNSUPPORTED_FIELD: u32 = 2;
    pub(super) const UNKNOWN_CONTAINER: u32 = 3;
    pub(super) const TRY_AGAIN: u32 = 11;
    pub(super) const NOT_AVAILABLE: u32 = 50;
    pub(super) const LIMITED: u32 = 51;
}

fn class_of_plugin(code: u32, msg: &str) -> Class {
    match code {
        code::INCOMPATIBLE_VERSION | code::UNSUPPORTED_FIELD => Class::FailedPrecondition,
        code::UNKNOWN_CONTAINER => Class::NotFound,
        code::TRY_AGAIN | code::NOT_AVAILABLE | code::LIMITED => Class::Unavailable,
        // host-local has no code of its own for this; its words have not changed since 2016.
        _ if msg.contains("no IP addresses available") => Class::ResourceExhausted,
        _ => Class::Internal,
    }
}

impl Classified for NetworkError {
    fn class(&self) -> Class {
        match self {
            Self::Config { .. }
            | Self::ConfFile { .. }
            | Self::Foreign { .. }
            | Self::PortTaken { .. }
            | Self::PluginMissing { .. } => Class::FailedPrecondition,
            Self::Request { .. } => Class::InvalidArgument,
            Self::NotReady { .. } => Class::Unavailable,
            Self::Plugin { code, msg, .. } => class_of_plugin(*code, msg),
            Self::PluginBroken { .. } | Self::Lost { .. } => Class::Internal,
            Self::PluginTimeout { .. } => Class::DeadlineExceeded,
            Self::Netns { source, .. } | Self::Kernel { source, .. } => Class::of_io(source),
            Self::Exhausted { .. } => Class::ResourceExhausted,
            Self::NoRecord { .. } => Class::DataLoss,
            Self::Record(source) => source.class(),
        }
    }
}
