//! Operations as the command line sees them.

use admin_api::v1;
use model::Span;
use operations::{Ended, OperationInfo, Origin};
use tonic::Response;

use super::waits;
use crate::code::code;
use crate::{PluginRun, Services};

pub(super) fn list(
    services: &Services,
    request: &v1::ListOperationsRequest,
) -> Response<v1::ListOperationsReply> {
    let plugins = services.host.plugins();
    let running = services.operations.list();
    let mut operations = Vec::new();
    if request.ended {
        operations.extend(services.operations.ended().iter().map(|one| ended(one)));
    }
    operations.extend(running.iter().map(|one| operation(one, &plugins)));
    operations.retain(|one| {
        let trace = one.caller.as_ref().map_or("", |caller| &caller.trace);
        request.trace.is_empty() || request.trace == trace
    });
    Response::new(v1::ListOperationsReply { operations })
}

/// One that runs.
pub(super) fn operation(given: &OperationInfo, plugins: &[PluginRun]) -> v1::Operation {
    let bound = given.phase_bound.map_or(0, |bound| bound.as_nanos());
    v1::Operation {
        id: given.id,
        kind: given.kind.to_owned(),
        object: given.object.clone(),
        phase: given.phase.to_owned(),
        started_at: given.started_at.0,
        phase_since: given.phase_since.0,
        callers: given.joined.saturating_add(1),
        caller: Some(caller(&given.origin)),
        phases: phases(&given.spans),
        phase_bound: i64::try_from(bound).unwrap_or(i64::MAX),
        waits_for: waits::waits_for(given.kind, given.phase, plugins),
        end: None,
    }
}

/// One that has ended.
pub(super) fn ended(given: &Ended) -> v1::Operation {
    let failure = given.failure.as_ref();
    v1::Operation {
        id: given.id,
        kind: given.kind.to_owned(),
        object: given.object.clone(),
        phase: String::new(),
        started_at: given.started_at.0,
        phase_since: given.started_at.0,
        callers: given.joined.saturating_add(1),
        caller: Some(caller(&given.origin)),
        phases: phases(&given.spans),
        phase_bound: 0,
        waits_for: String::new(),
        end: Some(v1::End {
            took: i64::try_from(given.took.as_nanos()).unwrap_or(i64::MAX),
            error: failure.map(|failure| failure.message.clone()).unwrap_or_default(),
            code: failure.map_or(0, |failure| code(failure.class).into()),
        }),
    }
}

/// Spans as phases.
pub(super) fn phases(spans: &[Span]) -> Vec<v1::Phase> {
    let phase = |span: &Span| v1::Phase {
        name: span.phase.clone().into_owned(),
        start_us: span.start_us,
        took_us: span.took_us,
    };
    spans.iter().map(phase).collect()
}

fn caller(origin: &Origin) -> v1::Caller {
    let hex = |bytes: [u8; 16]| bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    v1::Caller {
        pid: origin.pid.unwrap_or(0),
        uid: origin.uid.unwrap_or(0),
        program: origin.program.clone().unwrap_or_default(),
        trace: origin.trace.map(|context| hex(context.trace)).unwrap_or_default(),
        pod: origin.pod.clone().unwrap_or_default(),
    }
}
