//! Explain: what is known of a sandbox, a container or an operation.
//!
//! Always: what is still being made has no id that anybody knows, so operations are found by the names of
//! what they work on, too.

use admin_api::v1;
use model::{ContainerId, SandboxId, SandboxState, State};
use pods::{ContainerFilter, SandboxFilter};
use tonic::{Response, Status};

use super::operation::{self, phases};
use crate::runtime::container::info;
use crate::{Services, code, render};

/// Digits of an id by which it is known in logs and in the names of objects.
const SHORT: usize = 12;
/// Operations that have ended of which is told, the last ones.
const ENDED_TOLD: usize = 32;

enum Found {
    Sandbox(SandboxId),
    Container(ContainerId),
    /// Operations, by their number or by words of their object.
    Operations,
}

pub(super) async fn explain(
    services: &Services,
    object: &str,
) -> Result<Response<v1::ExplainReply>, Status> {
    if object.is_empty() {
        return Err(Status::invalid_argument("object is missing: it is required"));
    }
    let (mut reply, about) = match find(services, object)? {
        Found::Sandbox(id) => sandbox(services, &id).await?,
        Found::Container(id) => container(services, &id).await?,
        Found::Operations => {
            let reply = v1::ExplainReply {
                id: object.to_owned(),
                kind: "operation".to_owned(),
                ..Default::default()
            };
            (reply, About::default())
        }
    };
    let about = if reply.kind == "operation" { About::words(object) } else { about };
    add_operations(services, &about, &mut reply);
    if reply.kind == "operation" && reply.operations.is_empty() && reply.ended.is_empty() {
        let message = format!("no sandbox, container or operation is known as {object:?}");
        return Err(Status::not_found(message));
    }
    let mut words = about.words;
    if reply.kind == "operation" {
        // A number says nothing in a log; what it works on does.
        let all = reply.operations.iter().chain(&reply.ended);
        words = all.map(|operation| operation.object.clone()).collect();
    }
    words.retain(|word| !word.is_empty());
    reply.log = services.host.log_lines(&words);
    Ok(Response::new(reply))
}

/// By what an object's operations are known.
#[derive(Debug, Default, PartialEq, Eq)]
struct About {
    number: Option<u64>,
    words: Vec<String>,
    name: String,
}

impl About {
    fn words(text: &str) -> Self {
        Self { number: text.parse().ok(), words: vec![text.to_owned()], name: text.to_owned() }
    }

    fn named(id: &str, name: String) -> Self {
        let words = vec![id[..SHORT.min(id.len())].to_owned(), name.clone()];
        Self { number: None, words, name }
    }

    fn is_of(&self, id: u64, object: &str, pod: &str) -> bool {
        if self.number.is_some() {
            return self.number == Some(id);
        }
        let below = |text: &str| {
            let rest = text.strip_prefix(self.name.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let short_name = || object.split('/').any(|part| part == self.name);
        below(object)
            || (!pod.is_empty() && below(pod))
            || short_name()
            || self.words.iter().any(|word| self.is_id(word) && object.contains(word.as_str()))
    }

    /// Whether a word is the beginning of an id: one in a text is no accident, a name may begin another.
    fn is_id(&self, word: &str) -> bool {
        !word.is_empty() && word != self.name
    }
}

fn add_operations(services: &Services, about: &About, reply: &mut v1::ExplainReply) {
    let plugins = services.host.plugins();
    let is_of = |one: &v1::Operation| {
        about.is_of(one.id, &one.object, one.caller.as_ref().map_or("", |caller| &caller.pod))
    };
    let running = services.operations.list();
    let running = running.iter().map(|one| operation::operation(one, &plugins));
    reply.operations = running.filter(is_of).collect();
    let ended = services.operations.ended();
    let mut ended: Vec<_> = ended.iter().map(|one| operation::ended(one)).filter(is_of).collect();
    reply.ended = ended.split_off(ended.len().saturating_sub(ENDED_TOLD));
}

async fn sandbox(services: &Services, id: &SandboxId) -> Result<(v1::ExplainReply, About), Status> {
    let asked = services.pods.sandbox_status(id).await;
    let (status, containers) = asked.map_err(|error| code::status(&error))?;
    let name = status.config.metadata.to_string();
    let state = match status.state {
        SandboxState::Ready => "Ready",
        SandboxState::NotReady => "NotReady",
    };
    let mut state = state.to_owned();
    for container in &containers {
        let of_it = container_state(&container.state);
        state.push_str(&format!("; {} {of_it}", container.config.metadata.name));
    }
    let reply = v1::ExplainReply {
        id: id.to_string(),
        kind: "sandbox".to_owned(),
        json: render::sandbox_info(&status),
        name: name.clone(),
        state,
        created_at: status.created_at.0,
        phases: phases(&status.spans),
        ..Default::default()
    };
    Ok((reply, About::named(id.as_str(), name)))
}

async fn container(
    services: &Services,
    id: &ContainerId,
) -> Result<(v1::ExplainReply, About), Status> {
    let asked = services.pods.container_status(id).await;
    let status = asked.map_err(|error| code::status(&error))?;
    let name = container_name(services, &status.sandbox, &status.config.metadata.name);
    let mut state = container_state(&status.state);
    for warning in &status.warnings {
        state.push_str(&format!("; warning: {warning}"));
    }
    let reply = v1::ExplainReply {
        id: id.to_string(),
        kind: "container".to_owned(),
        json: info(services, &status).await,
        name: name.clone(),
        state,
        created_at: status.created_at.0,
        phases: phases(&status.spans),
        ..Default::default()
    };
    Ok((reply, About::named(id.as_str(), name)))
}

fn container_state(state: &State) -> String {
    match state {
        State::Created => "Created".to_owned(),
        State::Running { .. } => "Running".to_owned(),
        State::Exited { exit, .. } => {
            let said = if exit.message.is_empty() { "" } else { ": " };
            format!("Exited ({}, {}{said}{})", exit.code, exit.reason.as_str(), exit.message)
        }
    }
}

/// As operations name it.
fn container_name(services: &Services, sandbox: &SandboxId, name: &str) -> String {
    let filter = SandboxFilter { id: Some(sandbox.clone()), ..SandboxFilter::default() };
    let pod = services.pods.list_sandboxes(&filter).into_iter().next();
    pod.map_or_else(|| name.to_owned(), |pod| format!("{}/{name}", pod.config.metadata))
}

/// The one object that is meant: by its id, by its name, by the beginning of an id; else operations.
fn find(services: &Services, object: &str) -> Result<Found, Status> {
    let number = object.parse::<u64>();
    if number.is_ok() && object.len() < SHORT {
        return Ok(Found::Operations);
    }
    let sandboxes = services.pods.list_sandboxes(&SandboxFilter::default());
    let named = |name: &str| {
        let mut all = sandboxes.iter().filter(|one| one.config.metadata.to_string() == name);
        // The newest attempt.
        all.next_back().map(|one| one.id.clone())
    };
    if let Some(id) = named(object) {
        return Ok(Found::Sandbox(id));
    }
    if let Some((pod, name)) = object.rsplit_once('/')
        && let Some(sandbox) = named(pod)
    {
        let filter = ContainerFilter { sandbox: Some(sandbox), ..ContainerFilter::default() };
        let of_it = services.pods.list_containers(&filter);
        let mut of_it = of_it.iter().filter(|one| one.config.metadata.name == name);
        if let Some(container) = of_it.next_back() {
            return Ok(Found::Container(container.id.clone()));
        }
    }
    let sandboxes = services.pods.find_sandboxes(object).into_iter().map(Found::Sandbox);
    let containers = services.pods.find_containers(object).into_iter().map(Found::Container);
    let mut found = sandboxes.chain(containers);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Ok(Found::Operations),
        (Some(_), Some(_)) => {
            Err(Status::invalid_argument(format!("{object:?} is the beginning of several ids")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_found_by_number_name_id_and_the_pod_they_are_for() {
        let pod = About::named(&"ab".repeat(32), "default/web".to_owned());
        for (object, of_pod, want) in [
            ("default/web", "", true),
            ("default/web/main", "", true),
            ("default/web-2", "", false),
            ("abababababab", "", true),
            ("docker.io/library/busybox:1", "default/web", true),
            ("docker.io/library/busybox:1", "default/db", false),
        ] {
            assert_eq!(pod.is_of(3, object, of_pod), want, "{object}");
        }
        let number = About::words("42");
        assert!(number.is_of(42, "x", "") && !number.is_of(43, "42", ""));
        let word = About::words("web");
        assert!(word.is_of(1, "default/web", ""));
    }
}
