//! `isopod events`.
//!
//! Always: what happens is printed once, by an event or, where there was nobody to hear of it, by what has changed
//! between two lists; the latter is marked.

mod known;

use std::time::{Duration, Instant};

use cri_api::v1::{
    ContainerEventResponse, ContainerEventType, ContainerState, ContainerStatus,
    ContainerStatusRequest, GetEventsRequest, ListContainersRequest, ListPodSandboxRequest,
};
use tonic::{Status, Streaming};

use self::known::Known;
use super::failure::{Doing, Failure, Outcome};
use super::follow::is_away;
use super::node::Node;
use super::print::{self, Form};
use super::text::{moment, now, short};

/// How long a runtime may be away.
const AWAY: Duration = Duration::from_mins(1);
/// How often it is asked then.
const ASK: Duration = Duration::from_millis(500);

type Events = Streaming<ContainerEventResponse>;

/// Prints events from now on, a line each; what happens while the runtime is away has no event, and is found by listing.
pub async fn run(node: &Node, form: Form) -> Outcome {
    let (mut events, mut known) = subscribe(node).await.doing("watch events")?;
    loop {
        let why = print_all(&mut events, &mut known, form).await?;
        print::aside(&format!(
            "isopod: the stream of events has ended: {why}; subscribing anew, and what has changed meanwhile is \
             marked (found)"
        ));
        let (next, mut found) = again(node).await?;
        let at = now();
        let names = known.or(&found);
        for event in known.changes(&found, at) {
            let event = with_ends(node, event).await;
            show(&event, &names.object(&event), true, form)?;
        }
        found.since = Some(at);
        (events, known) = (next, found);
    }
}

/// Subscribes, then lists: so nothing is in neither.
async fn subscribe(node: &Node) -> Result<(Events, Known), Status> {
    let events = node.runtime().get_container_events(GetEventsRequest {}).await?.into_inner();
    let pods = node.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await?;
    let containers = node.runtime().list_containers(ListContainersRequest::default()).await?;
    Ok((events, Known::of(&pods.into_inner().items, &containers.into_inner().containers)))
}

/// An event that was found of an end, with how the container has ended: a list does not tell it, and of one that is gone
/// nobody does.
async fn with_ends(node: &Node, mut event: ContainerEventResponse) -> ContainerEventResponse {
    if event.container_event_type() != ContainerEventType::ContainerStoppedEvent {
        return event;
    }
    for status in &mut event.containers_statuses {
        let request = ContainerStatusRequest { container_id: status.id.clone(), verbose: false };
        let answer = node.runtime().container_status(request).await;
        if let Some(whole) = answer.ok().and_then(|answer| answer.into_inner().status) {
            *status = whole;
        }
    }
    event
}

/// The same of a runtime that has come back, or lets a reader begin anew that was too slow.
async fn again(node: &Node) -> Result<(Events, Known), Failure> {
    let gone = Instant::now();
    loop {
        tokio::time::sleep(ASK).await;
        let answer = subscribe(node).await;
        if is_away(&answer) && gone.elapsed() < AWAY {
            continue;
        }
        return answer.doing("watch events");
    }
}

/// Prints what comes until the stream ends, and tells why it did.
async fn print_all(events: &mut Events, known: &mut Known, form: Form) -> Result<String, Failure> {
    loop {
        match events.message().await {
            Ok(Some(event)) => {
                let object = known.object(&event);
                if known.happened(&event) {
                    show(&event, &object, false, form)?;
                }
            }
            Ok(None) => return Ok("the runtime has closed it".to_owned()),
            Err(status) => return Ok(status.message().to_owned()),
        }
    }
}

fn show(
    event: &ContainerEventResponse,
    object: &str,
    is_found: bool,
    form: Form,
) -> Result<(), Failure> {
    if form == Form::Table {
        return print::line(&for_people(event, object, is_found));
    }
    let mut value = print::json_of(event, "ContainerEventResponse")?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("object".to_owned(), object.into());
        if is_found {
            fields.insert("found".to_owned(), true.into());
        }
    }
    if form == Form::Json {
        return print::line(&value.to_string());
    }
    print::line("---")?;
    print::value(&value, form)
}

fn for_people(event: &ContainerEventResponse, object: &str, is_found: bool) -> String {
    let happened = match event.container_event_type() {
        ContainerEventType::ContainerCreatedEvent => "created",
        ContainerEventType::ContainerStartedEvent => "started",
        ContainerEventType::ContainerStoppedEvent => "stopped",
        ContainerEventType::ContainerDeletedEvent => "deleted",
    };
    let (at, id) = (moment(event.created_at), short(&event.container_id));
    let mark = if is_found { "  (found)" } else { "" };
    format!("{at}  {happened}  {id}  {object}{}{mark}", ended_with(event))
}

/// How the container has ended that the event is of, if it has and the event says so.
fn ended_with(event: &ContainerEventResponse) -> String {
    // One that is made of a list has no time of its end.
    let has_ended = |one: &&ContainerStatus| {
        one.id == event.container_id
            && one.state() == ContainerState::ContainerExited
            && one.finished_at > 0
    };
    match event.containers_statuses.iter().find(has_ended) {
        Some(status)
            if event.container_event_type() == ContainerEventType::ContainerStoppedEvent =>
        {
            let reason = match status.reason.as_str() {
                "" => String::new(),
                reason => format!(" ({reason})"),
            };
            format!("  exit code {}{reason}", status.exit_code)
        }
        Some(_) | None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_object_and_says_where_it_was_found() {
        let event = ContainerEventResponse {
            container_id: "0123456789abcdef".to_owned(),
            container_event_type: ContainerEventType::ContainerStoppedEvent.into(),
            created_at: 1_000_000_000,
            ..Default::default()
        };
        let line = for_people(&event, "container d/web/main", false);
        assert!(line.ends_with("  stopped  0123456789ab  container d/web/main"), "{line}");
        let found = for_people(&event, "container d/web/main", true);
        assert_eq!(found, format!("{line}  (found)"));
        let status = |id: &str, exit_code| ContainerStatus {
            id: id.to_owned(),
            state: ContainerState::ContainerExited.into(),
            exit_code,
            finished_at: 1,
            reason: "Error".to_owned(),
            ..Default::default()
        };
        let containers_statuses = vec![status("other", 1), status(&event.container_id, 7)];
        let told = ContainerEventResponse { containers_statuses, ..event.clone() };
        let told = for_people(&told, "container d/web/main", false);
        assert_eq!(told, format!("{line}  exit code 7 (Error)"));
        let mut listed = status(&event.container_id, 0);
        listed.finished_at = 0;
        let told = ContainerEventResponse { containers_statuses: vec![listed], ..event };
        assert_eq!(for_people(&told, "container d/web/main", false), line, "nobody knows how");
    }
}
