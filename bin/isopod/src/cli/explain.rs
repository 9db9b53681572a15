//! `isopod explain`: why something is as it is.

use std::fmt::Write as _;

use admin_api::v1::{Caller, ExplainReply, ExplainRequest, Operation, Phase};
use serde_json::{Value, json};

use super::failure::{Doing, Failure, Outcome};
use super::find;
use super::node::Node;
use super::print::{self, Form};
use super::text::{age, moment, now, short};
use super::timeline::{bars, ms};

/// Earlier operations that are shown where all went well, the last ones.
const SHOWN: usize = 8;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A pod or container by id or name, the number of an operation, or an image that is pulled
    #[arg(value_name = "OBJECT")]
    object: String,
}

/// Shows what was asked, by whom, where it waits and on what, what failed, and what was logged.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let object = meant(node, &args.object).await?;
    let answer = node.admin().explain(ExplainRequest { object }).await;
    let reply = answer.doing(format!("explain {}", args.object))?.into_inner();
    if form == Form::Table {
        print::line(for_people(&reply, now()).trim_end())?;
    } else {
        print::value(&for_programs(&reply), form)?;
    }
    Ok(0)
}

/// The id of what a person means; what is no pod and no container is left to the daemon: it knows the
/// operations on what is not there yet.
async fn meant(node: &Node, text: &str) -> Result<String, Failure> {
    let is_number = text.len() < 12 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number {
        return Ok(text.to_owned());
    }
    if let Ok(sandbox) = find::sandbox(node, text).await {
        return Ok(sandbox.id);
    }
    if let Ok(container) = find::container(node, text).await {
        return Ok(container.id);
    }
    Ok(text.to_owned())
}

fn for_people(reply: &ExplainReply, now: i64) -> String {
    let mut text = String::new();
    if reply.kind == "operation" {
        let _ = writeln!(text, "operations on {}", reply.id);
    } else {
        let (kind, name, id) = (&reply.kind, &reply.name, short(&reply.id));
        let _ = writeln!(text, "{kind} {name} ({id}): {}", reply.state);
        let _ = writeln!(text, "asked for {} ago", age(reply.created_at, now));
    }
    if let Some(first) = reply.ended.iter().chain(&reply.operations).find_map(|o| o.caller.as_ref())
    {
        let _ = writeln!(text, "asked for by {}", who(first));
    }
    if !reply.phases.is_empty() {
        let _ =
            writeln!(text, "\nwhere the time of its creation went:\n{}", bars(&reply.phases, 0));
    }
    text.push_str(&running(&reply.operations, now));
    text.push_str(&ended(&reply.ended, now));
    if !reply.log.is_empty() {
        let _ = writeln!(text, "\nthe daemon's log of it:");
        reply.log.iter().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
    }
    text
}

fn running(operations: &[Operation], now: i64) -> String {
    if operations.is_empty() {
        return "nothing is being done to it now\n".to_owned();
    }
    let mut text = "what is being done now:\n".to_owned();
    for o in operations {
        let by = o.caller.as_ref().map(who).unwrap_or_default();
        let for_how_long = age(o.started_at, now);
        let _ = writeln!(text, "  {} {} {}, for {for_how_long}, by {by}", o.id, o.kind, o.object);
        let bound = if o.phase_bound > 0 {
            format!(" of at most {}s", o.phase_bound / 1_000_000_000)
        } else {
            String::new()
        };
        let phase = if o.phase.is_empty() { "its beginning" } else { &o.phase };
        let _ = writeln!(text, "    it is at: {phase}, since {}{bound}", age(o.phase_since, now));
        if !o.waits_for.is_empty() {
            let _ = writeln!(text, "    it waits for {}", o.waits_for);
        }
        text.push_str(&indented(&bars(&o.phases, 0)));
    }
    text
}

fn ended(operations: &[Operation], now: i64) -> String {
    let failed = |o: &&Operation| o.end.as_ref().is_some_and(|end| !end.error.is_empty());
    let mut text = String::new();
    let failures: Vec<&Operation> = operations.iter().filter(failed).collect();
    if !failures.is_empty() {
        text.push_str("\nwhat failed of late:\n");
        for o in failures {
            let end = o.end.clone().unwrap_or_default();
            let at = age(o.started_at, now);
            let took = ms(u64::try_from(end.took).unwrap_or(0));
            let _ = writeln!(text, "  {at} ago {} {} {}, after {took} ms:", o.id, o.kind, o.object);
            let _ = writeln!(text, "    {}", end.error);
        }
    }
    if !operations.is_empty() {
        text.push_str("\nwhat was done of late:\n");
    }
    for o in operations.iter().skip(operations.len().saturating_sub(SHOWN)) {
        let end = o.end.clone().unwrap_or_default();
        let how = if end.error.is_empty() { "done" } else { "failed" };
        let took = ms(u64::try_from(end.took).unwrap_or(0));
        let at = moment(o.started_at);
        let _ = writeln!(text, "  {at} {} {} {}: {how} in {took} ms", o.id, o.kind, o.object);
    }
    text
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Whoever asked, for people.
fn who(caller: &Caller) -> String {
    if caller.pid == 0 && caller.program.is_empty() {
        return "the daemon itself".to_owned();
    }
    let program = if caller.program.is_empty() { "a process" } else { &caller.program };
    let pod = if caller.pod.is_empty() { String::new() } else { format!(" for {}", caller.pod) };
    format!("{program} (pid {}, uid {}){pod}", caller.pid, caller.uid)
}

fn for_programs(reply: &ExplainReply) -> Value {
    json!({
        "id": reply.id,
        "kind": reply.kind,
        "name": reply.name,
        "state": reply.state,
        "createdAt": reply.created_at,
        "phases": phases(&reply.phases),
        "operations": reply.operations.iter().map(operation).collect::<Vec<_>>(),
        "ended": reply.ended.iter().map(operation).collect::<Vec<_>>(),
        "log": reply.log,
        "status": serde_json::from_str::<Value>(&reply.json).unwrap_or(Value::Null),
    })
}

fn phases(phases: &[Phase]) -> Vec<Value> {
    let phase = |p: &Phase| json!({ "phase": p.name, "startUs": p.start_us, "tookUs": p.took_us });
    phases.iter().map(phase).collect()
}

/// An operation, for programs.
pub fn operation(o: &Operation) -> Value {
    let caller = o.caller.clone().unwrap_or_default();
    json!({
        "id": o.id,
        "kind": o.kind,
        "object": o.object,
        "phase": o.phase,
        "startedAt": o.started_at,
        "phaseSince": o.phase_since,
        "phaseBound": o.phase_bound,
        "waitsFor": o.waits_for,
        "callers": o.callers,
        "caller": {
            "pid": caller.pid,
            "uid": caller.uid,
            "program": caller.program,
            "trace": caller.trace,
            "pod": caller.pod,
        },
        "phases": phases(&o.phases),
        "end": o.end.as_ref().map(|end| json!({
            "took": end.took,
            "error": end.error,
            "code": end.code,
        })),
    })
}

#[cfg(test)]
mod tests {
    use admin_api::v1::End;

    use super::*;

    #[test]
    fn a_stuck_pod_says_where_it_waits_and_what_failed_before() {
        let caller = Caller { pid: 812, program: "kubelet".into(), ..Caller::default() };
        let second = 1_000_000_000;
        let stuck = Operation {
            id: 9,
            kind: "RunPodSandbox".into(),
            object: "default/web".into(),
            phase: "network".into(),
            started_at: 90 * second,
            phase_since: 91 * second,
            phase_bound: 90 * second,
            waits_for: "CNI plugins, of which these run: bridge ADD".into(),
            caller: Some(caller),
            ..Operation::default()
        };
        let failed = Operation {
            id: 4,
            end: Some(End { took: 5_000_000, error: "no free address".into(), code: 8 }),
            started_at: 60 * second,
            phase: String::new(),
            ..stuck.clone()
        };
        let reply = ExplainReply {
            id: "default/web".into(),
            kind: "operation".into(),
            operations: vec![stuck],
            ended: vec![failed],
            log: vec!["a line".into()],
            ..ExplainReply::default()
        };
        let text = for_people(&reply, 100 * second);
        for part in [
            "asked for by kubelet (pid 812, uid 0)",
            "it is at: network, since 9s of at most 90s",
            "it waits for CNI plugins, of which these run: bridge ADD",
            "40s ago 4 RunPodSandbox default/web, after 5.000 ms:\n    no free address",
            "  a line",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert_eq!(for_programs(&reply)["ended"][0]["end"]["error"], "no free address");
    }
}
