//! `isopod events`.

use std::time::{Duration, Instant};

use cri_api::v1::{ContainerEventResponse, ContainerEventType, GetEventsRequest};
use tonic::Streaming;

use super::failure::{Doing, Failure, Outcome};
use super::follow::is_away;
use super::node::Node;
use super::print::{self, Form};
use super::text::{moment, short};

/// How long a runtime may be away.
const AWAY: Duration = Duration::from_mins(1);
/// How often it is asked then.
const ASK: Duration = Duration::from_millis(500);

/// Prints events from now on, a line each; what happens while the runtime is away has no event, and that is said.
pub async fn run(node: &Node, form: Form) -> Outcome {
    let answer = node.runtime().get_container_events(GetEventsRequest {}).await;
    let mut events = answer.doing("watch events")?.into_inner();
    loop {
        print_all(&mut events, form).await?;
        print::aside(
            "isopod: the runtime has ended the stream; `isopod ps -a` shows what is true now",
        );
        events = again(node).await?;
    }
}

/// The events of a runtime that has come back, or lets a reader begin anew that was too slow.
async fn again(node: &Node) -> Result<Streaming<ContainerEventResponse>, Failure> {
    let gone = Instant::now();
    loop {
        tokio::time::sleep(ASK).await;
        let answer = node.runtime().get_container_events(GetEventsRequest {}).await;
        if is_away(&answer) && gone.elapsed() < AWAY {
            continue;
        }
        return Ok(answer.doing("watch events")?.into_inner());
    }
}

/// Prints what comes until the stream ends, however it does.
async fn print_all(
    events: &mut Streaming<ContainerEventResponse>,
    form: Form,
) -> Result<(), Failure> {
    while let Ok(Some(event)) = events.message().await {
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
    Ok(())
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
