//! What goes wrong with monitors.

use std::io;
use std::path::PathBuf;

use model::{Class, Classified};
use monitor_api::{BadFrame, Refusal};

/// A failure of a monitor, or on the way to it.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// It could not be started.
    #[error("cannot {what}")]
    Start {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// It cannot be reached.
    #[error("cannot reach the monitor at {}", socket.display())]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else answers at its socket.
    #[error("the process {found} answers at {}, where the monitor {expected} was", socket.display())]
    Impostor {
        /// Its socket.
        socket: PathBuf,
        /// The process that was expected.
        expected: i32,
        /// The one that is there.
        found: i32,
    },
    /// Nothing in the pod takes connections at a port.
    #[error("cannot connect to port {port} in the pod")]
    Dial {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The connection has ended.
    #[error("the connection to the monitor has ended")]
    Gone,
    /// It answers something that makes no sense.
    #[error("the monitor's answer makes no sense: {0}")]
    Nonsense(String),
    /// The request is too large to be sent.
    #[error("the request cannot be sent")]
    Frame(#[from] BadFrame),
    /// It will not do it, and says why.
    #[error("{}", shown(.0))]
    Refused(Refusal),
}

fn shown(refusal: &Refusal) -> String {
    match refusal.phase.as_str() {
        "" => refusal.message.clone(),
        phase => format!("{phase}: {}", refusal.message),
    }
}

impl Classified for MonitorError {
    fn class(&self) -> Class {
        match self {
            Self::Refused(refusal) => refusal.class,
            Self::Start { source, .. } => Class::of_io(source),
            Self::Unreachable { .. } | Self::Dial { .. } | Self::Gone => Class::Unavailable,
            Self::Impostor { .. } | Self::Nonsense(_) | Self::Frame(_) => Class::Internal,
        }
    }
}
