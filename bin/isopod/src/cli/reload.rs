//! `isopod reload`.

use std::io::Write as _;

use admin_api::v1::ReloadConfigRequest;
use serde_json::json;

use super::failure::{Doing, Outcome};
use super::node::Node;
use super::print::{self, Form};

/// Has the daemon read its configuration again, and shows what came of it. A configuration with a mistake
/// changes nothing.
pub async fn run(node: &Node, form: Form) -> Outcome {
    let answer = node.admin().reload_config(ReloadConfigRequest {}).await;
    let answer = answer.doing("reload the configuration")?.into_inner();
    if form != Form::Table {
        let value = json!({ "changed": answer.changed, "needsRestart": answer.needs_restart });
        print::value(&value, form)?;
        return Ok(0);
    }
    let mut text = String::new();
    for key in &answer.changed {
        text.push_str(&format!("{key}: changed\n"));
    }
    for key in &answer.needs_restart {
        text.push_str(&format!("{key}: counts from the next start of the daemon on\n"));
    }
    if text.is_empty() {
        text.push_str("nothing has changed\n");
    }
    // A reader that has gone needs no more.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(0)
}
