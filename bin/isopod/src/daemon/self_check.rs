//! Whether the daemon does its work: what the watchdog is fed by.
//!
//! Owns: the check. Always: it takes the way of a caller, through the socket, the front and a service, and
//! a thread that may block writes a file; so a daemon whose tasks or threads hang is not called well. A
//! full disk is no hang: it is said, the node is not ready, and a restart would not help.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cri_api::v1::VersionRequest;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::notify::Notify;

/// The file that is written.
const PROBE: &str = "self-check";

/// The check; it keeps its connection.
#[derive(Debug, Clone)]
pub struct SelfCheck {
    runtime: RuntimeServiceClient<Channel>,
    probe: PathBuf,
}

/// Why the daemon is not well.
#[derive(Debug, thiserror::Error)]
pub enum Unwell {
    /// Its own call was not answered as it should be.
    #[error("a call over its own socket: {0}")]
    Call(Box<tonic::Status>),
    /// No thread could be found that writes.
    #[error("no thread for a write: {0}")]
    Thread(#[from] tokio::task::JoinError),
    /// All of it took too long.
    #[error("not finished after {0:?}")]
    Late(Duration),
}

impl SelfCheck {
    /// Of the daemon that serves `socket` and has its records in `state`.
    pub fn new(socket: &Path, state: &Path) -> Self {
        let socket = socket.to_owned();
        let connect = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://isopod.invalid");
        let channel = endpoint.connect_with_connector_lazy(connect);
        Self { runtime: RuntimeServiceClient::new(channel), probe: state.join(PROBE) }
    }

    /// Whether the daemon is well, within `bound`.
    pub async fn run(&self, bound: Duration) -> Result<(), Unwell> {
        tokio::time::timeout(bound, self.look()).await.map_err(|_| Unwell::Late(bound))?
    }

    async fn look(&self) -> Result<(), Unwell> {
        let request = VersionRequest { version: "v1".to_owned() };
        match self.runtime.clone().version(request).await {
            Ok(_) => {}
            // Too much to do is not nothing done.
            Err(status) if status.code() == tonic::Code::ResourceExhausted => {}
            Err(status) => return Err(Unwell::Call(Box::new(status))),
        }
        let probe = self.probe.clone();
        if let Err(error) = tokio::task::spawn_blocking(move || write(&probe)).await? {
            tracing::error!(%error, path = ?self.probe, "records cannot be written");
        }
        Ok(())
    }
}

fn write(path: &Path) -> io::Result<()> {
    std::fs::write(path, b"well\n")?;
    std::fs::remove_file(path)
}

/// Feeds the watchdog, `every` so often, for as long as the daemon is well. One check that fails is said
/// and leaves time for another one.
pub async fn feed(notify: Notify, check: SelfCheck, every: Duration) {
    let mut tick = tokio::time::interval(every);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match check.run(every).await {
            Ok(()) => notify.say("WATCHDOG=1"),
            Err(error) => {
                tracing::error!(%error, "the daemon is not well; the watchdog is not fed")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_daemon_that_does_not_answer_is_not_well() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("i.sock");
        let check = SelfCheck::new(&socket, directory.path());
        let bound = Duration::from_secs(60);
        assert!(matches!(check.run(bound).await, Err(Unwell::Call(_))), "nobody is there");
        // Somebody listens, and never answers.
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let check = SelfCheck::new(&socket, directory.path());
        let late = check.run(Duration::from_millis(50)).await;
        assert!(matches!(late, Err(Unwell::Late(_))), "{late:?}");
    }
}
