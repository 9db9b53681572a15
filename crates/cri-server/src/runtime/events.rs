//! GetContainerEvents.

use cri_api::v1;
use pods::{EventKind, PodEvent, Subject, Subscription};
use tonic::{Response, Status};

use crate::render;
use crate::stream::Streamed;
use crate::{Peer, Services};

/// Events from now on. A subscriber that falls too far behind is told so and cut off: it has to list again.
pub(super) fn subscribe(
    services: &Services,
    peer: Option<Peer>,
) -> Response<Streamed<v1::ContainerEventResponse>> {
    let subscriber = Subscriber { events: services.pods.events(), peer, is_over: false };
    let stream = futures_util::stream::unfold(subscriber, |mut subscriber| async {
        let next = subscriber.next().await?;
        Some((next, subscriber))
    });
    Response::new(Box::pin(stream))
}

/// A stream of events. One whose client does not answer any more is dropped with its connection, and is told of then.
struct Subscriber {
    events: Subscription,
    peer: Option<Peer>,
    is_over: bool,
}

impl Subscriber {
    async fn next(&mut self) -> Option<Result<v1::ContainerEventResponse, Status>> {
        if self.is_over {
            return None;
        }
        let next = self.events.next().await;
        self.is_over = !matches!(next, Some(Ok(_)));
        Some(match next {
            Some(Ok(event)) => Ok(rendered(&event)),
            Some(Err(behind)) => Err(Status::resource_exhausted(behind.to_string())),
            None => {
                Err(Status::unavailable("the daemon is stopping; list again and subscribe anew"))
            }
        })
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let Some(peer) = &self.peer else { return };
        if let Some(silent) = peer.silent() {
            self.events.unanswered(silent, peer.pid);
        }
    }
}

fn rendered(event: &PodEvent) -> v1::ContainerEventResponse {
    let kind = match event.kind {
        EventKind::Created => v1::ContainerEventType::ContainerCreatedEvent,
        EventKind::Started => v1::ContainerEventType::ContainerStartedEvent,
        EventKind::Stopped => v1::ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => v1::ContainerEventType::ContainerDeletedEvent,
    };
    let container_id = match &event.subject {
        Subject::Sandbox(id) => id.to_string(),
        Subject::Container(id) => id.to_string(),
    };
    v1::ContainerEventResponse {
        container_id,
        container_event_type: kind.into(),
        created_at: event.at.0,
        pod_sandbox_status: event.sandbox.as_ref().map(|one| render::sandbox_status(one)),
        containers_statuses: event.containers.iter().map(|c| render::container_status(c)).collect(),
    }
}
