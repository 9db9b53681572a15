//! `isopod operations`.

use admin_api::v1::ListOperationsRequest;
use serde_json::{Value, json};

use super::failure::{Doing, Outcome};
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{age, now};

/// Shows what the daemon is doing now, the oldest first.
pub async fn run(node: &Node, form: Form) -> Outcome {
    let answer = node.admin().list_operations(ListOperationsRequest {}).await;
    let operations = answer.doing("list operations")?.into_inner().operations;
    if form != Form::Table {
        let all: Vec<Value> = operations
            .iter()
            .map(|o| {
                json!({
                    "id": o.id,
                    "kind": o.kind,
                    "object": o.object,
                    "phase": o.phase,
                    "startedAt": o.started_at,
                    "phaseSince": o.phase_since,
                    "callers": o.callers,
                })
            })
            .collect();
        print::value(&Value::Array(all), form)?;
        return Ok(0);
    }
    let mut rows = Rows::new(&["ID", "KIND", "OBJECT", "PHASE", "IN PHASE", "IN ALL", "CALLERS"]);
    let now = now();
    for o in operations {
        let (in_phase, in_all) = (age(o.phase_since, now), age(o.started_at, now));
        rows.add([
            o.id.to_string(),
            o.kind,
            o.object,
            o.phase,
            in_phase,
            in_all,
            o.callers.to_string(),
        ]);
    }
    rows.print()?;
    Ok(0)
}
