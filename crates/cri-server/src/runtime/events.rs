//! GetContainerEvents.

use cri_api::v1;
use pods::{EventKind, PodEvent, Subject};
use tonic::{Response, Status};

use crate::Services;
use crate::render;
use crate::stream::Streamed;

/// Events from now on. A subscriber that falls too far behind is told so and cut off: it has to list again.
pub(super) fn subscribe(services: &Services) -> Response<Streamed<v1::ContainerEventResponse>> {
    let subscription = services.pods.events();
    let stream = futures_util::stream::unfold(subscription, |mut subscription| async {
        let next = subscription.next().await?;
        let answer = match next {
            Ok(event) => Ok(rendered(&event)),
            Err(behind) => Err(Status::resource_exhausted(behind.to_string())),
        };
        Some((answer, subscription))
    });
    Response::new(Box::pin(stream))
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
