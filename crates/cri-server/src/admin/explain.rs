//! Explain: what is known of a sandbox, a container or an operation.
//!
//! Always: what is still being made has no id that anybody knows, so operations are found by the names of
//! what they work on, too.

use admin_api::v1;
use model::{ContainerId, SandboxId, SandboxState, State};
use pods::{ContainerFilter, ContainerStatus, SandboxFilter, SandboxStatus};
use tonic::{Response, Status};

use super::named::{self, Named};
use super::operation::{self, keep_with_parts, phases};
use crate::runtime::container::info;
use crate::{Services, asked, code, render};

/// Digits of an id by which it is known in logs and in the names of objects.
const SHORT: usize = 12;
/// Operations that have ended of which is told, the last ones; parts of others come on top.
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
    // In this order what ends meanwhile is in both lists, not in none; it has ended then.
    let running = services.operations.list();
    let ended = services.operations.ended();
    let ended = ended.iter().map(|one| operation::ended(one));
    let mut all: Vec<_> = ended.collect();
    let is_over = |id: u64, all: &[v1::Operation]| all.iter().any(|one| one.id == id);
    let running: Vec<_> = running.iter().filter(|one| !is_over(one.id, &all)).collect();
    all.extend(running.into_iter().map(|one| operation::operation(one, &plugins)));
    keep_with_parts(&mut all, is_of);
    (reply.ended, reply.operations) = all.into_iter().partition(|one| one.end.is_some());
    let wholes: Vec<u64> =
        reply.ended.iter().filter(|one| one.within.is_empty()).map(|one| one.id).collect();
    let first = wholes.len().checked_sub(ENDED_TOLD).map_or(0, |at| wholes[at]);
    reply.ended.retain(|one| one.id >= first);
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
        asked_by: status.asked_by.clone(),
        asked: asked::sandbox(&status.config),
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
        asked_by: status.asked_by.clone(),
        asked: asked::container(&status.config),
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
    if object.len() < SHORT && object.parse().is_ok_and(|number| is_operation(services, number)) {
        return Ok(Found::Operations);
    }
    let sandboxes = services.pods.list_sandboxes(&SandboxFilter::default());
    let containers = services.pods.list_containers(&ContainerFilter::default());
    let pods: Vec<Named> = sandboxes.iter().map(|one| pod_named(one)).collect();
    let is_known = |id: &str| sandboxes.iter().any(|one| one.id.as_str() == id);
    if !is_known(object)
        && let Some(at) = named::chosen(object, &pods).map_err(Status::invalid_argument)?
    {
        return Ok(Found::Sandbox(sandboxes[at].id.clone()));
    }
    let named: Vec<Named> = containers
        .iter()
        .map(|one| {
            let pod = sandboxes.iter().find(|pod| pod.id == one.sandbox);
            container_named(one, pod.map(|pod| &**pod))
        })
        .collect();
    let is_known = |id: &str| is_known(id) || containers.iter().any(|one| one.id.as_str() == id);
    if !is_known(object)
        && let Some(at) = named::chosen(object, &named).map_err(Status::invalid_argument)?
    {
        return Ok(Found::Container(containers[at].id.clone()));
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

fn is_operation(services: &Services, number: u64) -> bool {
    services.operations.list().iter().any(|one| one.id == number)
        || services.operations.ended().iter().any(|one| one.id == number)
}

fn pod_named(pod: &SandboxStatus) -> Named {
    let metadata = &pod.config.metadata;
    Named {
        id: pod.id.short().to_owned(),
        names: vec![metadata.to_string(), metadata.name.clone()],
        rank: (u8::from(pod.state == SandboxState::Ready), metadata.attempt),
        made: pod.created_at.0,
    }
}

/// A container by its name alone, below its pod's, and below its pod's with the namespace.
fn container_named(container: &ContainerStatus, pod: Option<&SandboxStatus>) -> Named {
    let (name, attempt) = (&container.config.metadata.name, container.config.metadata.attempt);
    let mut names = Vec::new();
    if let Some(pod) = pod {
        let metadata = &pod.config.metadata;
        names.extend([format!("{metadata}/{name}"), format!("{}/{name}", metadata.name)]);
    }
    names.push(name.clone());
    let state = match container.state {
        State::Running { .. } => 2,
        State::Created => 1,
        State::Exited { .. } => 0,
    };
    let (id, made) = (container.id.short().to_owned(), container.created_at.0);
    Named { id, names, rank: (state, attempt), made }
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
