//! `isopod operations`.

use admin_api::v1::{ListOperationsRequest, Operation};
use serde_json::Value;

use super::explain::operation;
use super::failure::{Doing, Outcome};
use super::node::Node;
use super::print::{self, Form, Rows};
use super::text::{age, now};
use super::timeline::ms;

/// Arguments of the verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Also those that have ended, as far as the daemon remembers them
    #[arg(long, short)]
    all: bool,
}

/// Shows what the daemon is doing now, the oldest first.
pub async fn run(node: &Node, args: &Args, form: Form) -> Outcome {
    let request = ListOperationsRequest { ended: args.all, trace: String::new() };
    let answer = node.admin().list_operations(request).await;
    let operations = answer.doing("list operations")?.into_inner().operations;
    if form != Form::Table {
        let all: Vec<Value> = operations.iter().map(operation).collect();
        print::value(&Value::Array(all), form)?;
        return Ok(0);
    }
    let mut rows = Rows::new(&["ID", "KIND", "OBJECT", "PHASE", "IN PHASE", "IN ALL", "CALLERS"]);
    let now = now();
    operations.into_iter().for_each(|one| rows.add(row(one, now)));
    rows.print()?;
    Ok(0)
}

fn row(o: Operation, now: i64) -> [String; 7] {
    let (phase, in_phase, in_all) = match &o.end {
        None => (o.phase, age(o.phase_since, now), age(o.started_at, now)),
        Some(end) => {
            let how = if end.error.is_empty() { "(done)" } else { "(failed)" };
            let took = format!("{} ms", ms(u64::try_from(end.took).unwrap_or(0)));
            (how.to_owned(), "-".to_owned(), took)
        }
    };
    [o.id.to_string(), o.kind, o.object, phase, in_phase, in_all, o.callers.to_string()]
}
