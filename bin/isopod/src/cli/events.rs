//! `isopod events`.

use cri_api::v1::{ContainerEventResponse, ContainerEventType, GetEventsRequest};

use super::failure::{Doing, Failure, Outcome};
use super::node::Node;
use super::print::{self, Form};
use super::text::{moment, short};

/// Prints events from now on, a line each, until the runtime ends the stream.
pub async fn run(node: &Node, form: Form) -> Outcome {
    let answer = node.runtime().get_container_events(GetEventsRequest {}).await;
    let mut events = answer.doing("watch events")?.into_inner();
    while let Some(event) = events.message().await.doing("watch events")? {
        match form {
            Form::Table => print::line(&for_people(&event))?,
            Form::Json => {
                let value = print::json_of(&event, "ContainerEventResponse")?;
                print::line(&value.to_string())?;
            }
            Form::Yaml => {
                print::line("---")?;
                print::value(&print::json_of(&event, "ContainerEventResponse")?, form)?;
            }
        }
    }
    Err(Failure::new("watch events", "the runtime has ended the stream")
        .advise("it does so when it stops, or when we read too slowly; list again and go on"))
}

fn for_people(event: &ContainerEventResponse) -> String {
    let happened = match event.container_event_type() {
        ContainerEventType::ContainerCreatedEvent => "created",
        ContainerEventType::ContainerStartedEvent => "started",
        ContainerEventType::ContainerStoppedEvent => "stopped",
        ContainerEventType::ContainerDeletedEvent => "deleted",
    };
    let sandbox = event.pod_sandbox_status.as_ref();
    let pod = sandbox.and_then(|s| s.metadata.as_ref()).map_or("", |m| m.name.as_str());
    let of_pod = sandbox.is_some_and(|s| s.id == event.container_id);
    let container = event.containers_statuses.iter().find(|c| c.id == event.container_id);
    let name = container.and_then(|c| c.metadata.as_ref()).map_or("", |m| m.name.as_str());
    let what = if of_pod { format!("pod {pod}") } else { format!("container {pod}/{name}") };
    format!("{}  {happened}  {}  {what}", moment(event.created_at), short(&event.container_id))
}
