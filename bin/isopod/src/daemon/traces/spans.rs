//! An operation as spans: one for the whole, one for each phase.
//!
//! Always: pure but for the ids. A phase that the monitor carried out has the phase in which it did as its
//! parent, where that is known.

use operations::Ended;

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
    let status = ended
        .failure
        .as_ref()
        .map(|failure| Status { message: failure.message.clone(), code: StatusCode::Error.into() });
    let whole = Span {
        trace_id: trace_id.clone(),
        span_id: id(8),
        parent_span_id,
        name: ended.kind.to_owned(),
        kind: Kind::Server.into(),
        start_time_unix_nano: begin,
        end_time_unix_nano: begin.saturating_add(took),
        attributes,
        status,
    };
    let mut all = vec![whole];
    for phase in &ended.spans {
        let start = begin.saturating_add(u64::from(phase.start_us) * 1000);
        let parent = phase.phase.split_once('/').and_then(|(prefix, _)| {
            let is_around = |one: &&Span| one.name == prefix && one.start_time_unix_nano <= start;
            all.iter().skip(1).rfind(is_around)
        });
        let parent_span_id = parent.unwrap_or(&all[0]).span_id.clone();
        all.push(Span {
            trace_id: trace_id.clone(),
            span_id: id(8),
            parent_span_id,
            name: phase.phase.clone().into_owned(),
            kind: Kind::Internal.into(),
            start_time_unix_nano: start,
            end_time_unix_nano: start.saturating_add(u64::from(phase.took_us) * 1000),
            ..Span::default()
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::Timestamp;
    use operations::{OperationFailure, Origin, TraceContext};

    use super::*;

    #[test]
    fn an_operation_has_a_span_and_one_for_each_phase_in_its_callers_trace() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::parse(header).unwrap();
        let phase = |name: &'static str, start_us, took_us| model::Span {
            phase: name.into(),
            start_us,
            took_us,
        };
        let failure = OperationFailure { class: model::Class::Internal, message: "no".to_owned() };
        let ended = Ended {
            kind: "RunPodSandbox",
            origin: Origin { trace: Some(trace), ..Origin::default() },
            started_at: Timestamp(1000),
            took: Duration::from_micros(9),
            failure: Some(failure),
            spans: vec![phase("network", 0, 2), phase("monitor", 2, 6), phase("monitor/shm", 3, 1)],
            ..Ended::default()
        };
        let mut last = 0;
        let spans = spans(&ended, |bytes| {
            last += 1;
            bytes.fill(last);
        });
        assert_eq!(spans.len(), 4);
        assert!(spans.iter().all(|span| span.trace_id == trace.trace));
        assert_eq!(spans[0].parent_span_id, trace.span);
        assert_eq!(spans[0].status.as_ref().unwrap().message, "no");
        assert_eq!((spans[0].start_time_unix_nano, spans[0].end_time_unix_nano), (1000, 10_000));
        assert_eq!(spans[1].parent_span_id, spans[0].span_id);
        assert_eq!(spans[3].parent_span_id, spans[2].span_id, "within the monitor's phase");
        assert_eq!(spans[3].start_time_unix_nano, 4000);
    }
}
