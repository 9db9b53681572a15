//! `isopod status` and `isopod version`.

use cri_api::v1::{RuntimeHandler, StatusRequest, StatusResponse, VersionRequest};
use serde_json::json;

use super::failure::{Doing, Failure, Outcome};
use super::node::Node;
use super::print::{self, Form, Rows};

/// Shows whether the runtime can run pods; exit code 1 where it cannot.
pub async fn status(node: &Node, form: Form) -> Outcome {
    let request = StatusRequest { verbose: form != Form::Table };
    let answer = node.runtime().status(request).await.doing("read the status")?.into_inner();
    let conditions = answer.status.as_ref().map_or(&[][..], |status| &status.conditions);
    let ready = conditions.iter().all(|condition| condition.status);
    if form == Form::Table {
        let mut rows = Rows::new(&["CONDITION", "TRUE", "REASON", "MESSAGE"]);
        for condition in conditions {
            let fields = [&condition.r#type, &condition.reason, &condition.message];
            let [kind, reason, message] = fields.map(|text| text.replace('\n', " "));
            rows.add([kind, condition.status.to_string(), reason, message]);
        }
        rows.print()?;
        print::line(&format!("\nhandlers: {}", handlers(&answer.runtime_handlers)))?;
    } else {
        let info = print::opened(&answer.info);
        let bare = StatusResponse { info: std::collections::BTreeMap::new(), ..answer };
        let mut value = print::json_of(&bare, "StatusResponse")?;
        value["info"] = info;
        print::value(&value, form)?;
    }
    Ok(u8::from(!ready))
}

/// The names of handlers, with what each can do.
fn handlers(all: &[RuntimeHandler]) -> String {
    let shown = all.iter().map(|handler| {
        let name = if handler.name.is_empty() { "(default)" } else { &handler.name };
        let features = handler.features.unwrap_or_default();
        let can = [
            (features.user_namespaces, "user namespaces"),
            (features.recursive_read_only_mounts, "recursive read-only mounts"),
        ];
        let can: Vec<&str> =
            can.into_iter().filter(|(has, _)| *has).map(|(_, what)| what).collect();
        if can.is_empty() { name.to_owned() } else { format!("{name} with {}", can.join(" and ")) }
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// Shows the versions of this program and, where one can be reached, of the runtime.
pub async fn version(node: Result<Node, Failure>, form: Form) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let runtime = match node {
        Ok(node) => {
            let request = VersionRequest { version: cri_api::API_VERSION.to_owned() };
            let answer = node.runtime().version(request).await;
            Ok((node, answer.doing("ask the runtime for its version")?.into_inner()))
        }
        Err(failure) => Err(failure),
    };
    if form == Form::Table {
        print::line(&format!("isopod   {own}"))?;
        let (node, answer) = runtime?;
        let name = &answer.runtime_name;
        print::line(&format!("runtime  {name} {}", answer.runtime_version))?;
        print::line(&format!("api      {}", answer.runtime_api_version))?;
        print::line(&format!("socket   {}", node.socket().display()))?;
    } else {
        let (node, answer) = runtime?;
        let runtime = print::json_of(&answer, "VersionResponse")?;
        let socket = node.socket().display().to_string();
        print::value(&json!({ "version": own, "runtime": runtime, "socket": socket }), form)?;
    }
    Ok(0)
}
