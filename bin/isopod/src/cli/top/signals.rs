//! Signals that end the program, or change the terminal's size.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that have come.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    resized: Signal,
}

impl Signals {
    /// From now on.
    pub fn watch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            resized: signal(SignalKind::window_change())?,
        })
    }

    /// The exit code to end with, as a shell tells a signal; `None` where only the size has changed.
    pub async fn next(&mut self) -> Option<u8> {
        tokio::select! {
            _ = self.interrupt.recv() => Some(130),
            _ = self.terminate.recv() => Some(143),
            _ = self.hang_up.recv() => Some(129),
            _ = self.resized.recv() => None,
        }
    }
}
