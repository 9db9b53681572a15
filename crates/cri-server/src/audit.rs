//! Who went into which pod.
//!
//! Owns: what is written down of ExecSync, Exec, Attach and PortForward. Always: of a command its program
//! and its length, never an argument; a call that was refused, and one whose caller went away, are written
//! down as well. Callers: `runtime`.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use model::{ContainerId, SandboxId};
use pods::{ContainerFilter, SandboxFilter};
use serde::Serialize;
use tonic::{Code, Extensions, Response, Status};

use crate::front::Peer;
use crate::short_ids::To;
use crate::{Services, short_ids};

/// The most that is written of a program's name, and of an id that is none.
const NAME_BYTES: usize = 256;

/// Keeps records. Must not block.
pub trait Audit: fmt::Debug + Send + Sync {
    /// One call is over.
    fn record(&self, record: &AuditRecord);
}

/// One call.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct AuditRecord {
    /// The call's name.
    pub call: &'static str,
    /// Process at the other end of the socket.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: Option<u32>,
    /// The sandbox, where it is known.
    pub sandbox: Option<String>,
    /// Namespace and name of its pod.
    pub pod: Option<String>,
    /// The container as it was asked for.
    pub container: Option<String>,
    /// Its name.
    pub container_name: Option<String>,
    /// The program.
    pub program: Option<String>,
    /// How many bytes the whole command has.
    pub command_bytes: Option<usize>,
    /// The ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<i32>,
    /// How it ended: a gRPC code.
    pub result: String,
    /// The exit code of what was run to its end.
    pub exit_code: Option<i32>,
    /// How long it took.
    pub took_ms: u64,
}

/// A call that is being carried out.
#[derive(Debug)]
pub(crate) struct Audited(Option<Open>);

#[derive(Debug)]
struct Open {
    audit: Arc<dyn Audit>,
    record: AuditRecord,
    begun: Instant,
}

impl Audited {
    /// A call on a container.
    pub(crate) fn container(
        services: &Services,
        caller: &Extensions,
        call: &'static str,
        container: &str,
        command: &[String],
    ) -> Self {
        Self::begin(services, caller, call, |record| {
            record.container = Some(cut(container));
            record.program = command.first().map(|program| cut(program));
            if !command.is_empty() {
                record.command_bytes = Some(command.iter().map(String::len).sum());
            }
            let whole = short_ids::container(&services.pods, container, To::Look);
            let whole = whole.unwrap_or_else(|_| container.into());
            let Ok(id) = ContainerId::parse(&whole) else { return };
            let filter = ContainerFilter { id: Some(id), ..ContainerFilter::default() };
            let Some(found) = services.pods.list_containers(&filter).into_iter().next() else {
                return;
            };
            record.container_name = Some(found.config.metadata.name.clone());
            of_sandbox(services, record, &found.sandbox);
        })
    }

    /// A call on ports of a sandbox.
    pub(crate) fn ports(
        services: &Services,
        caller: &Extensions,
        call: &'static str,
        sandbox: &str,
        ports: &[i32],
    ) -> Self {
        Self::begin(services, caller, call, |record| {
            record.ports = ports.iter().take(NAME_BYTES).copied().collect();
            let whole = short_ids::sandbox(&services.pods, sandbox, To::Look);
            match SandboxId::parse(&whole.unwrap_or_else(|_| sandbox.into())) {
                Ok(id) => of_sandbox(services, record, &id),
                Err(_) => record.sandbox = Some(cut(sandbox)),
            }
        })
    }

    fn begin(
        services: &Services,
        caller: &Extensions,
        call: &'static str,
        fill: impl FnOnce(&mut AuditRecord),
    ) -> Self {
        let Some(audit) = services.audit.clone() else { return Self(None) };
        let peer = caller.get::<Peer>().cloned().unwrap_or_default();
        let (pid, uid) = (peer.pid, peer.uid);
        let mut record = AuditRecord { call, pid, uid, ..AuditRecord::default() };
        fill(&mut record);
        Self(Some(Open { audit, record, begun: Instant::now() }))
    }

    /// It has ended so; `exit_code` of what was run to its end.
    pub(crate) fn end<T>(
        mut self,
        answer: &Result<Response<T>, Status>,
        exit_code: impl FnOnce(&T) -> Option<i32>,
    ) {
        if let Some(open) = &mut self.0 {
            open.record.exit_code =
                answer.as_ref().ok().and_then(|answer| exit_code(answer.get_ref()));
        }
        self.write(answer.as_ref().map_or_else(Status::code, |_| Code::Ok));
    }

    fn write(&mut self, code: Code) {
        let Some(Open { audit, mut record, begun }) = self.0.take() else { return };
        record.result = format!("{code:?}");
        record.took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        audit.record(&record);
    }
}

impl Drop for Audited {
    fn drop(&mut self) {
        // The caller went away before there was an answer.
        self.write(Code::Cancelled);
    }
}

fn of_sandbox(services: &Services, record: &mut AuditRecord, id: &SandboxId) {
    record.sandbox = Some(id.to_string());
    let filter = SandboxFilter { id: Some(id.clone()), ..SandboxFilter::default() };
    let found = services.pods.list_sandboxes(&filter).into_iter().next();
    record.pod = found.map(|found| {
        let metadata = &found.config.metadata;
        format!("{}/{}", metadata.namespace, metadata.name)
    });
}

fn cut(text: &str) -> String {
    let end = (0..=text.len().min(NAME_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    text[..end.unwrap_or(0)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_between_characters() {
        assert_eq!(cut("sh"), "sh");
        assert_eq!(cut(&"ä".repeat(300)).len(), NAME_BYTES);
        assert_eq!(cut(&format!("x{}", "ä".repeat(300))).len(), NAME_BYTES - 1);
    }
}
