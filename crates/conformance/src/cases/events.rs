//! GetContainerEvents.

use std::time::Duration;

use cri_api::v1::*;
use tonic::Streaming;

use crate::case::{Stop, Verdict, cases, ensure, same};
use crate::context::{Context, SOON};

cases! { "events":
    "created" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.container_event_type",
            "ContainerEventResponse.container_id"]
        "A container that is created is told." => told(ContainerEventType::ContainerCreatedEvent);
    "started" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.container_event_type"]
        "A container that is started is told." => told(ContainerEventType::ContainerStartedEvent);
    "stopped" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.container_event_type"]
        "A container that ends is told." => told(ContainerEventType::ContainerStoppedEvent);
    "deleted" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.container_event_type"]
        "A container that is removed is told." => told(ContainerEventType::ContainerDeletedEvent);
    "in-order" Api Kubelet ["GetContainerEvents"]
        "What happens to a container is told in its order, each once." => in_order();
    "of-the-pod" Api Kubelet ["GetContainerEvents"]
        "What happens to a sandbox is told too." => of_pod();
    "with-the-pod" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.pod_sandbox_status"]
        "An event has the status of its sandbox." => with_pod();
    "with-statuses" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.containers_statuses"]
        "An event has the statuses of the sandbox's containers at that time." => with_statuses();
    "with-the-exit-code" Program Kubelet ["GetContainerEvents",
            "ContainerEventResponse.containers_statuses"]
        "The event of an end has the exit code." => with_code();
    "times" Api Kubelet ["GetContainerEvents", "ContainerEventResponse.created_at"]
        "Events have a time, which does not go back for one container." => times();
    "two-subscribers" Api Api ["GetContainerEvents"]
        "Two subscribers both are told." => two();
    "by-itself" Program Kubelet ["GetContainerEvents"]
        "An end that nobody asked for is told." => by_itself();
    "only-what-is-new" Api Api ["GetContainerEvents"]
        "A subscriber is told of what happens from then on, not of what was." => only_new();
}

type Events = Streaming<ContainerEventResponse>;

async fn subscribe(c: &Context) -> Result<Events, Stop> {
    // Some servers send no headers before the first event: the call is under way all the same.
    let call = c.rpc.get_container_events(GetEventsRequest {});
    let answer = tokio::time::timeout(SOON, call).await;
    Ok(answer.map_err(|_| Stop::failed("the subscription is not answered"))??)
}

/// The next event of an object.
async fn next(events: &mut Events, id: &str) -> Result<ContainerEventResponse, Stop> {
    let waiting = async {
        loop {
            match events.message().await? {
                Some(event) if event.container_id == id => return Ok(event),
                Some(_) => {}
                None => return Err(Stop::failed("the stream ends")),
            }
        }
    };
    let late = |_| Err(Stop::failed(format!("no event of {id} comes")));
    tokio::time::timeout(SOON, waiting).await.unwrap_or_else(late)
}

/// Lets a container live through everything; gives the pod's id and its own.
async fn life(c: &Context) -> Result<(String, String), Stop> {
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    c.stop(&id, 0).await?;
    c.remove(&id).await?;
    Ok((pod.id, id))
}

const ALL: [ContainerEventType; 4] = [
    ContainerEventType::ContainerCreatedEvent,
    ContainerEventType::ContainerStartedEvent,
    ContainerEventType::ContainerStoppedEvent,
    ContainerEventType::ContainerDeletedEvent,
];

async fn told(c: &Context, kind: ContainerEventType) -> Verdict {
    let mut events = subscribe(c).await?;
    let (_, id) = life(c).await?;
    loop {
        let found = next(&mut events, &id).await?.container_event_type();
        if found == kind {
            return Ok(());
        }
        ensure!(found != ContainerEventType::ContainerDeletedEvent, "it is not, up to the last");
    }
}

async fn in_order(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let (_, id) = life(c).await?;
    for wanted in ALL {
        same!("the event", next(&mut events, &id).await?.container_event_type(), wanted);
    }
    Ok(())
}

async fn of_pod(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let pod = c.pod().await?;
    c.stop_pod(&pod.id).await?;
    c.remove_pod(&pod.id).await?;
    loop {
        let found = next(&mut events, &pod.id).await?.container_event_type();
        if found == ContainerEventType::ContainerDeletedEvent {
            return Ok(());
        }
    }
}

async fn with_pod(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let (pod, id) = life(c).await?;
    let status = next(&mut events, &id).await?.pod_sandbox_status.unwrap_or_default();
    same!("the sandbox's id", status.id, pod);
    same!("its state", status.state(), PodSandboxState::SandboxReady);
    ensure!(status.metadata.is_some(), "it has no metadata");
    Ok(())
}

async fn with_statuses(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.waiter()).await?;
    loop {
        let event = next(&mut events, &id).await?;
        if event.container_event_type() != ContainerEventType::ContainerStartedEvent {
            continue;
        }
        let found = event.containers_statuses.iter().find(|status| status.id == id);
        let state = found.map(|status| status.state());
        same!("the state", state, Some(ContainerState::ContainerRunning));
        return Ok(());
    }
}

async fn ended(events: &mut Events, id: &str) -> Result<ContainerEventResponse, Stop> {
    loop {
        let event = next(events, id).await?;
        if event.container_event_type() == ContainerEventType::ContainerStoppedEvent {
            return Ok(event);
        }
    }
}

async fn with_code(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("exit 7")).await?;
    let event = ended(&mut events, &id).await?;
    let found = event.containers_statuses.iter().find(|status| status.id == id);
    let found = found.map(|status| (status.state(), status.exit_code));
    same!("state and code", found, Some((ContainerState::ContainerExited, 7)));
    Ok(())
}

async fn times(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let before = super::sandbox::now();
    let (_, id) = life(c).await?;
    let mut last = before;
    for _ in ALL {
        let at = next(&mut events, &id).await?.created_at;
        ensure!(at >= last, "{at} comes after {last}");
        last = at;
    }
    ensure!(last <= super::sandbox::now(), "{last} is not over yet");
    Ok(())
}

async fn two(c: &Context) -> Verdict {
    let mut both = [subscribe(c).await?, subscribe(c).await?];
    let (_, id) = life(c).await?;
    for events in &mut both {
        let first = next(events, &id).await?.container_event_type();
        same!("the first event", first, ContainerEventType::ContainerCreatedEvent);
    }
    Ok(())
}

async fn by_itself(c: &Context) -> Verdict {
    let mut events = subscribe(c).await?;
    let pod = c.pod().await?;
    let id = c.launch(&pod, &c.script("true")).await?;
    ended(&mut events, &id).await.map(|_| ())
}

async fn only_new(c: &Context) -> Verdict {
    let (_, old) = life(c).await?;
    let mut events = subscribe(c).await?;
    let (_, new) = life(c).await?;
    let waiting = async {
        loop {
            match events.message().await? {
                Some(event) if event.container_id == old => {
                    return Err(Stop::failed("what is over is told"));
                }
                Some(event) if event.container_id == new => return Ok(()),
                Some(_) => {}
                None => return Err(Stop::failed("the stream ends")),
            }
        }
    };
    let late = |_| Err(Stop::failed("no event comes"));
    tokio::time::timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(late)
}
