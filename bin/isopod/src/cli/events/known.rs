//! What a reader of events knows of the node.
//!
//! Always: pure; names are those that were told last, so that also what is gone has one.

use std::collections::BTreeMap;

use cri_api::v1::{
    Container as Listed, ContainerEventResponse, ContainerEventType as Kind, ContainerMetadata,
    ContainerState, ContainerStatus, PodSandbox, PodSandboxMetadata, PodSandboxState,
    PodSandboxStatus,
};

/// How far a pod or a container has come. A pod that is ready runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Created,
    Running,
    Ended,
}

#[derive(Debug, Clone)]
struct Pod {
    metadata: PodSandboxMetadata,
    stage: Stage,
}

#[derive(Debug, Clone)]
struct Container {
    pod: String,
    metadata: ContainerMetadata,
    stage: Stage,
}

/// Pods and containers by their ids.
#[derive(Debug, Clone, Default)]
pub struct Known {
    pods: BTreeMap<String, Pod>,
    containers: BTreeMap<String, Container>,
    /// When it was listed, where what was found then has been told: an event from before that, whose effect is known,
    /// is no news.
    pub since: Option<i64>,
}

impl Known {
    /// What is listed.
    pub fn of(pods: &[PodSandbox], containers: &[Listed]) -> Self {
        let mut known = Self::default();
        for pod in pods {
            let is_ready = pod.state() == PodSandboxState::SandboxReady;
            let stage = if is_ready { Stage::Running } else { Stage::Ended };
            let metadata = pod.metadata.clone().unwrap_or_default();
            known.pods.insert(pod.id.clone(), Pod { metadata, stage });
        }
        for one in containers {
            let metadata = one.metadata.clone().unwrap_or_default();
            let (pod, stage) = (one.pod_sandbox_id.clone(), stage(one.state()));
            known.containers.insert(one.id.clone(), Container { pod, metadata, stage });
        }
        known
    }

    /// With the names of `other` for what is not known here.
    pub fn or(&self, other: &Self) -> Self {
        let mut all = other.clone();
        all.pods.extend(self.pods.clone());
        all.containers.extend(self.containers.clone());
        all
    }

    /// What an event is about: `pod NAMESPACE/NAME` or `container NAMESPACE/POD/NAME`.
    pub fn object(&self, event: &ContainerEventResponse) -> String {
        let id = &event.container_id;
        let told = event.pod_sandbox_status.as_ref();
        let is_pod = told.is_some_and(|pod| pod.id == *id) || self.pods.contains_key(id);
        let told_container = event.containers_statuses.iter().find(|one| one.id == *id);
        let container = self.containers.get(id);
        let pod = told.and_then(|pod| pod.metadata.as_ref()).or_else(|| {
            let pod = if is_pod { id } else { &container?.pod };
            self.pods.get(pod).map(|pod| &pod.metadata)
        });
        let pod = pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)).unwrap_or_default();
        if is_pod {
            return format!("pod {pod}");
        }
        let name = told_container
            .and_then(|one| one.metadata.as_ref())
            .or_else(|| container.map(|one| &one.metadata))
            .map_or("", |metadata| metadata.name.as_str());
        format!("container {pod}/{name}")
    }

    /// Takes an event up. False for one that is no news.
    pub fn happened(&mut self, event: &ContainerEventResponse) -> bool {
        let (id, kind) = (&event.container_id, event.container_event_type());
        let is_early = self.since.is_some_and(|since| event.created_at <= since);
        let is_known = self.has(id, kind);
        let told = event.pod_sandbox_status.as_ref();
        let of_pod = told.is_some_and(|pod| pod.id == *id) || self.pods.contains_key(id);
        if kind == Kind::ContainerDeletedEvent {
            self.pods.remove(id);
            self.containers.remove(id);
        } else if let (true, Some(status)) = (of_pod, told) {
            let metadata = status.metadata.clone().unwrap_or_default();
            self.pods.insert(id.clone(), Pod { metadata, stage: reached(kind) });
        } else if let Some(one) = event.containers_statuses.iter().find(|one| one.id == *id) {
            let metadata = one.metadata.clone().unwrap_or_default();
            let pod = told.map(|pod| pod.id.clone()).unwrap_or_default();
            let container = Container { pod, metadata, stage: reached(kind) };
            self.containers.insert(id.clone(), container);
        }
        !(is_early && is_known)
    }

    /// Whether what has happened to this one is known already.
    fn has(&self, id: &str, kind: Kind) -> bool {
        let pod = self.pods.get(id).map(|one| one.stage);
        let stage = pod.or_else(|| self.containers.get(id).map(|one| one.stage));
        match (kind, stage) {
            (Kind::ContainerDeletedEvent, None) => true,
            (Kind::ContainerDeletedEvent, Some(_)) | (_, None) => false,
            (_, Some(stage)) => stage >= reached(kind),
        }
    }

    /// What has happened between this and `now`, as if events had told of it at `at`: a pod before what is in it, and
    /// its end after theirs.
    pub fn changes(&self, now: &Self, at: i64) -> Vec<ContainerEventResponse> {
        let mut all = Vec::new();
        let names = now.or(self);
        for (id, pod) in &now.pods {
            let before = self.pods.get(id).map(|one| one.stage);
            // Its end comes below.
            for kind in between(before, pod.stage).filter(|kind| reached(*kind) != Stage::Ended) {
                all.push(of_pod(id, pod, kind, at));
            }
        }
        for (id, one) in &now.containers {
            let before = self.containers.get(id).map(|one| one.stage);
            for kind in between(before, one.stage) {
                all.push(names.of_container(id, one, kind, at));
            }
        }
        for (id, one) in self.containers.iter().filter(|(id, _)| !now.containers.contains_key(*id))
        {
            for kind in gone(one.stage) {
                all.push(names.of_container(id, one, kind, at));
            }
        }
        for (id, pod) in &now.pods {
            let before = self.pods.get(id).map(|one| one.stage);
            if pod.stage == Stage::Ended && before != Some(Stage::Ended) {
                all.push(of_pod(id, pod, Kind::ContainerStoppedEvent, at));
            }
        }
        for (id, pod) in self.pods.iter().filter(|(id, _)| !now.pods.contains_key(*id)) {
            for kind in gone(pod.stage) {
                all.push(of_pod(id, pod, kind, at));
            }
        }
        all
    }

    fn of_container(
        &self,
        id: &str,
        one: &Container,
        kind: Kind,
        at: i64,
    ) -> ContainerEventResponse {
        let state = match one.stage {
            Stage::Created => ContainerState::ContainerCreated,
            Stage::Running => ContainerState::ContainerRunning,
            Stage::Ended => ContainerState::ContainerExited,
        };
        let status = ContainerStatus {
            id: id.to_owned(),
            metadata: Some(one.metadata.clone()),
            state: state.into(),
            ..Default::default()
        };
        let is_there = kind != Kind::ContainerDeletedEvent;
        ContainerEventResponse {
            container_id: id.to_owned(),
            container_event_type: kind.into(),
            created_at: at,
            pod_sandbox_status: self.pods.get(&one.pod).map(|pod| status_of(&one.pod, pod)),
            containers_statuses: is_there.then_some(status).into_iter().collect(),
        }
    }
}

fn of_pod(id: &str, pod: &Pod, kind: Kind, at: i64) -> ContainerEventResponse {
    ContainerEventResponse {
        container_id: id.to_owned(),
        container_event_type: kind.into(),
        created_at: at,
        pod_sandbox_status: Some(status_of(id, pod)),
        ..Default::default()
    }
}

fn status_of(id: &str, pod: &Pod) -> PodSandboxStatus {
    let state = match pod.stage {
        Stage::Created | Stage::Ended => PodSandboxState::SandboxNotready,
        Stage::Running => PodSandboxState::SandboxReady,
    };
    PodSandboxStatus {
        id: id.to_owned(),
        metadata: Some(pod.metadata.clone()),
        state: state.into(),
        ..Default::default()
    }
}

const fn stage(state: ContainerState) -> Stage {
    match state {
        ContainerState::ContainerCreated => Stage::Created,
        ContainerState::ContainerRunning => Stage::Running,
        ContainerState::ContainerExited | ContainerState::ContainerUnknown => Stage::Ended,
    }
}

/// How far one has come to whom this has happened.
const fn reached(kind: Kind) -> Stage {
    match kind {
        Kind::ContainerCreatedEvent => Stage::Created,
        Kind::ContainerStartedEvent => Stage::Running,
        Kind::ContainerStoppedEvent | Kind::ContainerDeletedEvent => Stage::Ended,
    }
}

/// What has happened to one that was as far as `before` and is as far as `now`. Of one that has ended nobody knows
/// whether it ever ran.
fn between(before: Option<Stage>, now: Stage) -> impl Iterator<Item = Kind> {
    let all =
        [Kind::ContainerCreatedEvent, Kind::ContainerStartedEvent, Kind::ContainerStoppedEvent];
    all.into_iter()
        .filter(move |kind| before.is_none_or(|before| reached(*kind) > before))
        .filter(move |kind| reached(*kind) <= now)
        .filter(move |kind| now != Stage::Ended || reached(*kind) != Stage::Running)
}

/// What has happened to one that is gone.
fn gone(before: Stage) -> impl Iterator<Item = Kind> {
    let stopped = (before != Stage::Ended).then_some(Kind::ContainerStoppedEvent);
    stopped.into_iter().chain([Kind::ContainerDeletedEvent])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(id: &str, state: PodSandboxState) -> PodSandbox {
        let metadata =
            PodSandboxMetadata { name: id.into(), namespace: "ns".into(), ..Default::default() };
        PodSandbox {
            id: id.into(),
            metadata: Some(metadata),
            state: state.into(),
            ..Default::default()
        }
    }

    fn container(id: &str, pod: &str, state: ContainerState) -> Listed {
        let metadata = ContainerMetadata { name: id.into(), attempt: 0 };
        Listed {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            metadata: Some(metadata),
            state: state.into(),
            ..Default::default()
        }
    }

    fn told(known: &Known, now: &Known) -> Vec<String> {
        let both = known.or(now);
        let all = known.changes(now, 7);
        assert!(all.iter().all(|event| event.created_at == 7));
        all.iter()
            .map(|event| format!("{:?} {}", event.container_event_type(), both.object(event)))
            .map(|line| line.replace("Container", "").replace("Event", ""))
            .collect()
    }

    #[test]
    fn what_has_changed_between_two_lists_is_told_as_events_in_their_order() {
        use ContainerState::{ContainerExited, ContainerRunning};
        use PodSandboxState::{SandboxNotready, SandboxReady};
        let before = Known::of(
            &[pod("old", SandboxReady), pod("same", SandboxReady), pod("stops", SandboxReady)],
            &[
                container("a", "old", ContainerRunning),
                container("b", "same", ContainerRunning),
                container("c", "same", ContainerRunning),
            ],
        );
        let now = Known::of(
            &[pod("same", SandboxReady), pod("new", SandboxReady), pod("stops", SandboxNotready)],
            &[
                container("b", "same", ContainerRunning),
                container("c", "same", ContainerExited),
                container("d", "new", ContainerRunning),
            ],
        );
        assert_eq!(
            told(&before, &now),
            [
                "Created pod ns/new",
                "Started pod ns/new",
                "Stopped container ns/same/c",
                "Created container ns/new/d",
                "Started container ns/new/d",
                "Stopped container ns/old/a",
                "Deleted container ns/old/a",
                "Stopped pod ns/stops",
                "Stopped pod ns/old",
                "Deleted pod ns/old",
            ]
        );
        assert_eq!(told(&now, &now), Vec::<String>::new());
    }

    #[test]
    fn what_is_deleted_has_its_name_and_what_was_found_is_not_told_again() {
        let pods = [pod("web", PodSandboxState::SandboxReady)];
        let mut known =
            Known::of(&pods, &[container("main", "web", ContainerState::ContainerRunning)]);
        let event = |kind: Kind, at| ContainerEventResponse {
            container_id: "main".into(),
            container_event_type: kind.into(),
            created_at: at,
            pod_sandbox_status: known.pods.get("web").map(|pod| status_of("web", pod)),
            containers_statuses: Vec::new(),
        };
        let (started, deleted) =
            (event(Kind::ContainerStartedEvent, 5), event(Kind::ContainerDeletedEvent, 20));
        assert!(known.clone().happened(&started), "nothing was found yet");
        known.since = Some(10);
        assert!(!known.happened(&started), "it was found to run");
        assert_eq!(known.object(&deleted), "container ns/web/main");
        assert!(known.happened(&deleted));
        assert_eq!(known.object(&deleted), "container ns/web/");
    }
}
