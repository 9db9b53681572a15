//! `isopod explain`: why something is as it is.

use std::fmt::Write as _;

use admin_api::v1::{Caller, ExplainReply, ExplainRequest, Operation, Phase};
use serde_json::{Value, json};

use super::failure::{Doing, Outcome};
use super::node::Node;
use super::print::{self, Form};
use super::text::{age, moment, now, short};
use super::timeline::{all_of, bars, ms};

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
    // The daemon knows what is meant: also what is not there yet, and which of several has the name.
    let answer = node.admin().explain(ExplainRequest { object: args.object.clone() }).await;
    let reply = answer.doing(format!("explain {}", args.object))?.into_inner();
    if form == Form::Table {
        print::line(for_people(&reply, now()).trim_end())?;
    } else {
        print::value(&for_programs(&reply), form)?;
    }
    Ok(0)
}

fn for_people(reply: &ExplainReply, now: i64) -> String {
    let mut text = String::new();
    if reply.kind == "operation" {
        let _ = writeln!(text, "operations on {}", reply.id);
    } else {
        let (kind, name, id) = (&reply.kind, &reply.name, short(&reply.id));
        let _ = writeln!(text, "{kind} {name} ({id}): {}", reply.state);
        let _ = writeln!(text, "asked for {} ago", age(reply.created_at, now));
        let by = match reply.asked_by.as_str() {
            "" => "not known: an earlier version of the daemon made it",
            by => by,
        };
        let _ = writeln!(text, "asked for by {by}");
        let _ = writeln!(text, "what was asked: {}", reply.asked);
        if reply.kind == "sandbox" {
            let _ =
                writeln!(text, "of one of its containers alone: isopod explain {name}/CONTAINER");
        }
    }
    if !reply.phases.is_empty() {
        let _ =
            writeln!(text, "\nwhere the time of its creation went:\n{}", bars(&reply.phases, 0));
    }
    text.push_str(&running(&reply.operations, now));
    text.push_str(&failed(&reply.ended, now));
    text.push_str(&ended(&reply.ended));
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
        let for_how_long = age(o.started_at, now);
        let _ = writeln!(text, "  {}, for {for_how_long}, {}", called(o), by(o));
        text.push_str(&asked(o));
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

fn failed(operations: &[Operation], now: i64) -> String {
    let failed = |o: &&Operation| o.end.as_ref().is_some_and(|end| !end.error.is_empty());
    let failures: Vec<&Operation> = operations.iter().filter(failed).collect();
    if failures.is_empty() {
        return String::new();
    }
    let mut text = "\nwhat failed of late:\n".to_owned();
    for o in failures {
        let end = o.end.clone().unwrap_or_default();
        // Of what has ended, its end is the news.
        let at = age(o.started_at.saturating_add(end.took), now);
        let _ = writeln!(text, "  {}, failed {at} ago after {}, {}:", called(o), took(o), by(o));
        let _ = writeln!(text, "    {}", end.error);
        text.push_str(&asked(o));
        text.push_str(&indented(&bars(&o.phases, all_of(o))));
    }
    text
}

/// What has ended, the last ones; what is a part of another stands below that.
fn ended(operations: &[Operation]) -> String {
    if operations.is_empty() {
        return String::new();
    }
    let is_whole = |id: &u64| operations.iter().any(|o| o.id == *id);
    let is_part = |o: &&Operation| o.within.iter().any(is_whole);
    let wholes: Vec<&Operation> = operations.iter().filter(|o| !is_part(o)).collect();
    let mut text = "\nwhat was done of late:\n".to_owned();
    for whole in wholes.iter().skip(wholes.len().saturating_sub(SHOWN)) {
        let _ = writeln!(text, "  {} {}, {}", moment(whole.started_at), done(whole), by(whole));
        text.push_str(&asked(whole));
        text.push_str(&where_it_went(whole, "    "));
        for part in operations.iter().filter(|o| o.within.contains(&whole.id)) {
            let _ = writeln!(text, "    {}", done(part));
            text.push_str(&where_it_went(part, "      "));
        }
    }
    text
}

/// Phases in one line: of what went well that is enough, and what failed has had its bars.
fn where_it_went(o: &Operation, margin: &str) -> String {
    let phase = |p: &Phase| format!("{} {}", p.name, ms(u64::from(p.took_us) * 1000));
    let phases: Vec<String> = o.phases.iter().map(phase).collect();
    if phases.is_empty() {
        return String::new();
    }
    format!("{margin}in ms: {}\n", phases.join(", "))
}

/// Which one it is.
fn called(o: &Operation) -> String {
    let wholes: Vec<String> = o.within.iter().map(u64::to_string).collect();
    let part =
        if wholes.is_empty() { String::new() } else { format!(" (of {})", wholes.join(", ")) };
    format!("{} {} {}{part}", o.id, o.kind, o.object)
}

/// Which one it is and how it ended.
fn done(o: &Operation) -> String {
    let is_good = o.end.as_ref().is_some_and(|end| end.error.is_empty());
    let how = if is_good { "done in" } else { "failed after" };
    format!("{} {} {}: {how} {}", o.id, o.kind, o.object, took(o))
}

fn took(o: &Operation) -> String {
    let took = o.end.as_ref().map_or(0, |end| end.took);
    format!("{} ms", ms(u64::try_from(took).unwrap_or(0)))
}

fn asked(o: &Operation) -> String {
    if o.asked.is_empty() { String::new() } else { format!("    asked: {}\n", o.asked) }
}

fn by(o: &Operation) -> String {
    format!("by {}", who(&o.caller.clone().unwrap_or_default()))
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
        "askedBy": reply.asked_by,
        "asked": reply.asked,
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
        "asked": o.asked,
        "within": o.within,
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

    const SECOND: i64 = 1_000_000_000;

    fn caller(program: &str, pid: i32) -> Option<Caller> {
        Some(Caller { pid, program: program.into(), ..Caller::default() })
    }

    fn all_in(text: &str, parts: &[&str]) {
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn a_stuck_pod_says_where_it_waits_and_what_failed_before() {
        let stuck = Operation {
            id: 9,
            kind: "RunPodSandbox".into(),
            object: "default/web".into(),
            phase: "network".into(),
            started_at: 90 * SECOND,
            phase_since: 91 * SECOND,
            phase_bound: 90 * SECOND,
            waits_for: "CNI plugins, of which these run: bridge ADD".into(),
            caller: caller("kubelet", 812),
            asked: "a network of its own".into(),
            ..Operation::default()
        };
        let phase =
            |name: &str, start_us| Phase { name: name.into(), start_us, took_us: 9_000_000 };
        let failed = Operation {
            id: 4,
            end: Some(End { took: 18 * SECOND, error: "no free address".into(), code: 8 }),
            started_at: 60 * SECOND,
            phase: String::new(),
            caller: caller("crictl", 7),
            phases: vec![phase("netns", 0), phase("network", 9_000_000)],
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
        let text = for_people(&reply, 100 * SECOND);
        all_in(
            &text,
            &[
                "  9 RunPodSandbox default/web, for 10s, by kubelet (pid 812, uid 0)\n",
                "    asked: a network of its own\n",
                "it is at: network, since 9s of at most 90s",
                "it waits for CNI plugins, of which these run: bridge ADD",
                "  4 RunPodSandbox default/web, failed 22s ago after 18000.000 ms, by crictl (pid 7, \
                 uid 0):\n    no free address\n",
                " ms  network\n",
                "  a line",
            ],
        );
        assert!(!text.contains("asked for by"), "each has its own caller\n{text}");
        assert_eq!(for_programs(&reply)["ended"][0]["end"]["error"], "no free address");
    }

    #[test]
    fn who_asked_for_the_object_is_not_who_asked_for_something_in_it() {
        let later = Operation {
            id: 31,
            kind: "CreateContainer".into(),
            object: "d/b1/c1".into(),
            caller: caller("crictl", 9396),
            end: Some(End::default()),
            ..Operation::default()
        };
        let mut reply = ExplainReply {
            id: "ab".repeat(32),
            kind: "sandbox".into(),
            name: "d/b1".into(),
            asked_by: "crictl (pid 2170, uid 0)".into(),
            asked: "the default handler".into(),
            ended: vec![later],
            ..ExplainReply::default()
        };
        let text = for_people(&reply, SECOND);
        all_in(
            &text,
            &[
                "asked for by crictl (pid 2170, uid 0)\nwhat was asked: the default handler\n",
                "31 CreateContainer d/b1/c1: done in 0.000 ms, by crictl (pid 9396, uid 0)",
            ],
        );
        reply.asked_by.clear();
        assert!(for_people(&reply, SECOND).contains("asked for by not known: "));
    }

    #[test]
    fn the_layers_of_a_pull_stand_below_it_with_their_phases() {
        let pull = |id, within: &[u64], kind: &str, object: &str, phase: &str| Operation {
            id,
            kind: kind.into(),
            object: object.into(),
            within: within.to_vec(),
            phases: vec![Phase { name: phase.into(), start_us: 0, took_us: 1500 }],
            end: Some(End { took: 2_000_000, ..End::default() }),
            ..Operation::default()
        };
        let mut ended = vec![pull(12, &[], "PullImage", "busybox", "resolve")];
        // More than are shown of others.
        ended.extend((13..33).map(|id| pull(id, &[12], "PullLayer", "sha256:1", "connect")));
        let kind = "operation".to_owned();
        let reply = ExplainReply { kind, ended, ..ExplainReply::default() };
        let text = for_people(&reply, SECOND);
        all_in(
            &text,
            &[
                " 12 PullImage busybox: done in 2.000 ms, by the daemon itself\n    in ms: resolve 1.500\n",
                "    13 PullLayer sha256:1: done in 2.000 ms\n      in ms: connect 1.500\n",
                "    32 PullLayer",
            ],
        );
    }
}
