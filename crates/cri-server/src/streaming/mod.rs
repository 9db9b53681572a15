//! Between pods, which hand out descriptors, and the streaming server, which has clients.
//!
//! Owns: the bytes on their way from one to the other. Always: memory for a stream is bounded and an idle
//! one has little; a client that reads slowly stops the process, never the log; a client that leaves takes
//! nothing with it but its exec. Callers: the daemon, which serves what [`streams`] makes.

mod attach;
mod carry;
mod exec;

use std::any::Any;
use std::io;
use std::sync::Arc;

use cri_streaming::Outcome;
use cri_streaming::server::{
    Attach, Caller, Exec, Io, Limits, Port, PortForward, Refused, Runtime, Server,
};
use cri_streaming::server::{Size, Streams};
use model::{Class, Classified as _, ContainerId, SandboxId};
use operations::{OperationFailure, Origin};
use pods::{Pods, PodsError, TerminalSize};
use tonic::Status;

use crate::code::{code, message};
use crate::front;
use crate::{AttachStreams, ExecStreams, PortStreams, Streaming};

/// Carries streams of these pods.
#[derive(Debug)]
pub struct Carrier {
    pods: Pods,
}

/// A server whose URLs begin with `base_url` and lead to the streams of `pods`.
#[must_use]
pub fn streams(pods: Pods, base_url: String, limits: Limits) -> Arc<Server<Carrier>> {
    Server::new(Arc::new(Carrier { pods }), base_url, limits)
}

impl Runtime for Carrier {
    async fn exec(&self, request: Exec, io: Io) -> Outcome {
        let Exec { container, command, streams } = request;
        match ContainerId::parse(&container) {
            Ok(id) => {
                let note = self.pods.note_call("Exec", &id);
                let phases = note.phases();
                let work = exec::exec(&self.pods, &id, command, streams, io, phases);
                let outcome = Box::pin(work).await;
                note.end(failure(&outcome));
                outcome
            }
            Err(bad) => Outcome::Failed(bad.to_string()),
        }
    }

    async fn attach(&self, request: Attach, io: Io) -> Outcome {
        match ContainerId::parse(&request.container) {
            Ok(id) => {
                let note = self.pods.note_call("Attach", &id);
                let phases = note.phases();
                let work = attach::attach(&self.pods, &id, request.streams, io, phases);
                let outcome = Box::pin(work).await;
                note.end(failure(&outcome));
                outcome
            }
            Err(bad) => Outcome::Failed(bad.to_string()),
        }
    }

    async fn connect(&self, sandbox: &str, port: u16) -> io::Result<Port> {
        let id = SandboxId::parse(sandbox).map_err(io::Error::other)?;
        let note = self.pods.note_call_of_sandbox("PortForward", &id);
        let connected = self.pods.connect(&id, port, note.phases()).await;
        note.end(connected.as_ref().err().map(OperationFailure::of));
        let socket = connected.map_err(|error| io::Error::other(message(&error)))?;
        // What a person types through it must not wait for more.
        let _ = socket.set_nodelay(true);
        Ok(socket.into())
    }

    /// Who has asked for the URL: what is done for it belongs to that call's trace.
    fn caller(&self) -> Option<Caller> {
        Some(Arc::new(Origin::current()))
    }

    async fn for_caller<F>(&self, caller: Option<Caller>, work: F) -> F::Output
    where
        F: Future<Output: Send> + Send,
    {
        let origin = caller.as_deref().and_then(<dyn Any + Send + Sync>::downcast_ref::<Origin>);
        operations::asked_by(origin.cloned().unwrap_or_default(), work).await
    }
}

/// Why a stream's work did not come to its end; a command's own code is no failure of ours.
fn failure(outcome: &Outcome) -> Option<OperationFailure> {
    match outcome {
        Outcome::Success | Outcome::ExitCode(_) => None,
        Outcome::Failed(why) => {
            Some(OperationFailure { class: Class::Internal, message: why.clone() })
        }
    }
}

impl Streaming for Server<Carrier> {
    fn exec(&self, what: ExecStreams) -> Result<String, Status> {
        let ExecStreams { container, command, tty, stdin, stdout, stderr } = what;
        let streams = Streams { tty, stdin, stdout, stderr };
        let container = container.to_string();
        self.exec_url(Exec { container, command, streams }).map_err(refusal)
    }

    fn attach(&self, what: AttachStreams) -> Result<String, Status> {
        let AttachStreams { container, tty, stdin, stdout, stderr } = what;
        let streams = Streams { tty, stdin, stdout, stderr };
        self.attach_url(Attach { container: container.to_string(), streams }).map_err(refusal)
    }

    fn port_forward(&self, what: PortStreams) -> Result<String, Status> {
        let PortStreams { sandbox, ports } = what;
        let request = PortForward { sandbox: sandbox.to_string(), ports };
        self.port_forward_url(request).map_err(refusal)
    }
}

fn refusal(refused: Refused) -> Status {
    match refused {
        Refused::Invalid(why) => Status::invalid_argument(why),
        Refused::NoToken(why) => Status::resource_exhausted(why.to_string()),
    }
}

/// What the client of a stream that could not begin is told; where a call's failure would be in the log, it is.
fn failed(method: &'static str, error: &PodsError) -> String {
    let (code, message) = (code(error.class()), message(error));
    if front::is_for_the_log(method, code) {
        tracing::warn!(method, ?code, "stream failed: {message}");
    }
    message
}

const fn terminal_size(size: Size) -> TerminalSize {
    TerminalSize { width: size.width, height: size.height }
}
