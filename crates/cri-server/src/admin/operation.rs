//! Operations as the command line sees them.

use std::collections::HashSet;

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
    if !request.trace.is_empty() {
        let is_of = |one: &v1::Operation| {
            one.caller.as_ref().is_some_and(|caller| caller.trace == request.trace)
        };
        keep_with_parts(&mut operations, is_of);
    }
    Response::new(v1::ListOperationsReply { operations })
}

/// Keeps those for which `is_of` holds and those that are parts of them: a part that another call has begun and
/// these have joined bears that one's trace, and the name of a layer, not of an image.
pub(super) fn keep_with_parts(
    operations: &mut Vec<v1::Operation>,
    is_of: impl Fn(&v1::Operation) -> bool,
) {
    let ids: HashSet<u64> = operations.iter().filter(|one| is_of(one)).map(|one| one.id).collect();
    operations
        .retain(|one| ids.contains(&one.id) || one.within.iter().any(|whole| ids.contains(whole)));
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
        waits_for: waits::waits_for(given.kind, given.phase, &given.at, plugins),
        end: None,
        asked: given.origin.asked.clone(),
        within: given.within.clone(),
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
        asked: given.origin.asked.clone(),
        within: given.within.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_what_is_meant_are_kept_whoever_began_them() {
        let operation = |id, object: &str, within: &[u64]| v1::Operation {
            id,
            object: object.to_owned(),
            within: within.to_vec(),
            ..Default::default()
        };
        let mut all = vec![
            operation(1, "image", &[]),
            operation(2, "other", &[]),
            operation(3, "layer", &[1]),
            operation(4, "layer of both", &[2, 1]),
            operation(5, "layer of the other", &[2]),
        ];
        keep_with_parts(&mut all, |one| one.object == "image");
        assert_eq!(all.iter().map(|one| one.id).collect::<Vec<_>>(), [1, 3, 4]);
    }
}
