//! An operation as spans: one for the whole, one for each phase.
//!
//! Always: pure but for the ids. A phase that the monitor carried out has the phase in which it did as its parent,
//! whatever that is called. The phase in which an operation failed has its error.

use model::Span as Phase;
use operations::{Ended, OperationFailure};

use super::otlp::{Kind, Span, Status, StatusCode, text, whole};

/// The spans of an operation; `random` gives new ids.
pub fn spans(ended: &Ended, mut random: impl FnMut(&mut [u8])) -> Vec<Span> {
    let mut id = |length: usize| {
        let mut bytes = vec![0; length];
        random(&mut bytes);
        bytes
    };
    let (trace_id, parent_span_id) = match ended.origin.trace {
        Some(context) => (context.trace.to_vec(), context.span.to_vec()),
        None => (id(16), Vec::new()),
    };
    let begin = u64::try_from(ended.started_at.0).unwrap_or(0);
    let took = u64::try_from(ended.took.as_nanos()).unwrap_or(u64::MAX);
    let mut attributes = vec![
        text("isopod.object", &ended.object),
        whole("isopod.operation", ended.id),
        whole("isopod.callers", u64::from(ended.joined) + 1),
    ];
    if let Some(program) = &ended.origin.program {
        attributes.push(text("isopod.caller", program));
    }
    if let Some(pod) = &ended.origin.pod {
        attributes.push(text("isopod.pod", pod));
    }
    let status = ended.failure.as_ref().map(failed);
    let trace_state = ended.origin.trace_state.clone().unwrap_or_default();
    let whole = Span {
        trace_id: trace_id.clone(),
        span_id: id(8),
        trace_state: trace_state.clone(),
        parent_span_id,
        name: ended.kind.to_owned(),
        kind: Kind::Server.into(),
        start_time_unix_nano: begin,
        end_time_unix_nano: begin.saturating_add(took),
        attributes,
        status,
    };
    let to_blame = blamed(ended);
    let mut all = vec![whole];
    for (at, phase) in ended.spans.iter().enumerate() {
        let start = begin.saturating_add(u64::from(phase.start_us) * 1000);
        // The first span is the operation's own, then they are in the order of the phases.
        let parent = around(&ended.spans, at).map_or(0, |parent| parent + 1);
        let parent_span_id = all.get(parent).unwrap_or(&all[0]).span_id.clone();
        all.push(Span {
            trace_id: trace_id.clone(),
            span_id: id(8),
            trace_state: trace_state.clone(),
            parent_span_id,
            name: phase.phase.clone().into_owned(),
            kind: Kind::Internal.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(u64::from(phase.took_us) * 1000),
            status: if to_blame == Some(at) { ended.failure.as_ref().map(failed) } else { None },
            ..Span::default()
        });
    }
    all
}

fn failed(failure: &OperationFailure) -> Status {
    Status { message: failure.message.clone(), code: StatusCode::Error.into() }
}

/// The phase in which the operation failed.
fn blamed(ended: &Ended) -> Option<usize> {
    let name = ended.failed_in.filter(|_| ended.failure.is_some())?;
    ended.spans.iter().rposition(|span| span.phase == name)
}

/// The phase of ours within which the monitor carried out the phase at `at`: the one that it lies in; of several, as
/// phases may overlap, the one that is called as it is, else the one that began last.
fn around(spans: &[Phase], at: usize) -> Option<usize> {
    let of = spans.get(at)?;
    let (prefix, _) = of.phase.split_once('/')?;
    let own = |span: &Phase| !span.phase.contains('/');
    let begun_before = |span: &Phase| own(span) && span.start_us <= of.start_us;
    let holds = |span: &Phase| begun_before(span) && end(span) >= end(of);
    let called = |span: &Phase| holds(span) && span.phase == prefix;
    let last = |is: &dyn Fn(&Phase) -> bool| spans.iter().rposition(is);
    last(&called).or_else(|| last(&holds)).or_else(|| last(&begun_before))
}

fn end(span: &Phase) -> u32 {
    span.start_us.saturating_add(span.took_us)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Timestamp;
    use operations::{Origin, TraceContext};

    use super::*;

    fn phase(name: &'static str, start_us: u32, took_us: u32) -> Phase {
        Phase { phase: name.into(), start_us, took_us }
    }

    fn count() -> impl FnMut(&mut [u8]) {
        let mut last = 0;
        move |bytes| {
            last += 1;
            bytes.fill(last);
        }
    }

    #[test]
    fn an_operation_has_a_span_and_one_for_each_phase_in_its_callers_trace() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::parse(header).unwrap();
        let failure = OperationFailure { class: model::Class::Internal, message: "no".to_owned() };
        let ended = Ended {
            kind: "RunPodSandbox",
            origin: Origin {
                trace: Some(trace),
                trace_state: Some("x=y".to_owned()),
                ..Origin::default()
            },
            started_at: Timestamp(1000),
            took: Duration::from_micros(9),
            failure: Some(failure),
            failed_in: Some("network"),
            spans: vec![phase("network", 0, 2), phase("monitor", 2, 6), phase("monitor/shm", 3, 1)],
            ..Ended::default()
        };
        let spans = spans(&ended, count());
        assert_eq!(spans.len(), 4);
        assert!(spans.iter().all(|span| span.trace_id == trace.trace && span.trace_state == "x=y"));
        assert_eq!(spans[0].parent_span_id, trace.span);
        assert_eq!(spans[0].status.as_ref().unwrap().message, "no");
        assert_eq!((spans[0].start_time_unix_nano, spans[0].end_time_unix_nano), (1000, 10_000));
        assert_eq!(spans[1].parent_span_id, spans[0].span_id);
        assert_eq!(spans[3].parent_span_id, spans[2].span_id, "within the monitor's phase");
        assert_eq!(spans[3].start_time_unix_nano, 4000);
        let failed: Vec<_> = spans.iter().filter(|one| one.status.is_some()).collect();
        assert_eq!(failed.len(), 2, "the operation and the phase in which it failed");
        assert_eq!(failed[1].name, "network");
        assert_eq!(failed[1].status.as_ref().unwrap().code, i32::from(StatusCode::Error));
    }

    #[test]
    fn a_phase_of_the_monitor_is_below_the_phase_in_which_it_was_whatever_that_is_called() {
        let of =
            |phases: &[Phase], at: usize| around(phases, at).map(|at| phases[at].phase.clone());
        let create = [
            phase("rootfs", 0, 5),
            phase("bundle", 5, 1),
            phase("create", 6, 10),
            phase("monitor/mounts", 6, 4),
            phase("monitor/hooks", 10, 6),
            phase("undo", 16, 3),
        ];
        assert_eq!(of(&create, 3).as_deref(), Some("create"));
        assert_eq!(of(&create, 4).as_deref(), Some("create"));
        assert_eq!(of(&create, 2), None);
        // Phases that overlap: the name tells, and without one the last that holds it.
        let run = [phase("monitor", 0, 20), phase("network", 2, 30), phase("monitor/shm", 3, 1)];
        assert_eq!(of(&run, 2).as_deref(), Some("monitor"));
        let other = [phase("long", 0, 20), phase("short", 2, 2), phase("monitor/shm", 3, 9)];
        assert_eq!(of(&other, 2).as_deref(), Some("long"));
        assert_eq!(of(&[phase("monitor/shm", 3, 9)], 0), None);
        // Spans are in the same places as phases, so the parent of the second is known by its id.
        let ended = Ended { spans: create.to_vec(), ..Ended::default() };
        let spans = spans(&ended, count());
        assert_eq!(spans[4].parent_span_id, spans[3].span_id);
        assert_eq!(spans[3].name, "create");
    }
}
