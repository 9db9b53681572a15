//! Filters of lists.

use std::collections::BTreeMap;

use cri_api::v1;
use model::{ContainerId, SandboxId, SandboxState};
use pods::{ContainerFilter, ContainerStateKind, SandboxFilter};

use super::{At, BadField};

/// Which objects a list is to hold; `None` where a filter names an id that nobody can have.
pub(crate) type Wanted<T> = Result<Option<T>, BadField>;

/// A filter of sandboxes.
pub(crate) fn sandbox_filter(given: Option<v1::PodSandboxFilter>) -> Wanted<SandboxFilter> {
    let Some(given) = given else { return Ok(Some(SandboxFilter::default())) };
    let state = match given.state {
        None => None,
        Some(value) => match v1::PodSandboxState::try_from(value.state) {
            Ok(v1::PodSandboxState::SandboxReady) => Some(SandboxState::Ready),
            Ok(v1::PodSandboxState::SandboxNotready) => Some(SandboxState::NotReady),
            Err(_) => {
                let at = At::field("filter");
                return Err(at.to("state").bad(value.state, "not a sandbox's state"));
            }
        },
    };
    let Some(id) = wanted(&given.id, SandboxId::parse) else { return Ok(None) };
    Ok(Some(SandboxFilter { id, state, labels: given.label_selector }))
}

/// A filter of containers.
pub(crate) fn container_filter(given: Option<v1::ContainerFilter>) -> Wanted<ContainerFilter> {
    let Some(given) = given else { return Ok(Some(ContainerFilter::default())) };
    let state = match given.state {
        None => None,
        Some(value) => match v1::ContainerState::try_from(value.state) {
            Ok(v1::ContainerState::ContainerCreated) => Some(ContainerStateKind::Created),
            Ok(v1::ContainerState::ContainerRunning) => Some(ContainerStateKind::Running),
            Ok(v1::ContainerState::ContainerExited) => Some(ContainerStateKind::Exited),
            // No container of ours is ever in it.
            Ok(v1::ContainerState::ContainerUnknown) => return Ok(None),
            Err(_) => {
                let at = At::field("filter");
                return Err(at.to("state").bad(value.state, "not a container's state"));
            }
        },
    };
    container_ids(&given.id, &given.pod_sandbox_id, state, given.label_selector)
}

/// A filter of containers' statistics: those that run have any.
pub(crate) fn container_stats_filter(
    given: Option<v1::ContainerStatsFilter>,
) -> Wanted<ContainerFilter> {
    let given = given.unwrap_or_default();
    let state = Some(ContainerStateKind::Running);
    container_ids(&given.id, &given.pod_sandbox_id, state, given.label_selector)
}

/// A filter of sandboxes' statistics: those that are ready have any.
pub(crate) fn sandbox_stats_filter(
    given: Option<v1::PodSandboxStatsFilter>,
) -> Wanted<SandboxFilter> {
    let given = given.unwrap_or_default();
    let Some(id) = wanted(&given.id, SandboxId::parse) else { return Ok(None) };
    Ok(Some(SandboxFilter { id, state: Some(SandboxState::Ready), labels: given.label_selector }))
}

fn container_ids(
    id: &str,
    sandbox: &str,
    state: Option<ContainerStateKind>,
    labels: BTreeMap<String, String>,
) -> Wanted<ContainerFilter> {
    let ids = (wanted(id, ContainerId::parse), wanted(sandbox, SandboxId::parse));
    let (Some(id), Some(sandbox)) = ids else { return Ok(None) };
    Ok(Some(ContainerFilter { id, sandbox, state, labels }))
}

/// Nothing asked for, or an id; `None` for a text that is none.
fn wanted<T, E>(text: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { parse(text).ok().map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_said_wants_everything_and_a_foreign_id_wants_nothing() {
        assert!(sandbox_filter(None).unwrap().is_some());
        let foreign = v1::PodSandboxFilter { id: "xyz".into(), ..Default::default() };
        assert!(sandbox_filter(Some(foreign)).unwrap().is_none());
        let foreign = v1::ContainerFilter { pod_sandbox_id: "xyz".into(), ..Default::default() };
        assert!(container_filter(Some(foreign)).unwrap().is_none());
    }

    #[test]
    fn statistics_are_of_what_runs_whatever_else_is_said() {
        let one = v1::ContainerStatsFilter { id: "0".repeat(64), ..Default::default() };
        for given in [None, Some(v1::ContainerStatsFilter::default()), Some(one)] {
            let filter = container_stats_filter(given).unwrap().unwrap();
            assert_eq!(filter.state, Some(ContainerStateKind::Running));
        }
        let filter = sandbox_stats_filter(None).unwrap().unwrap();
        assert_eq!(filter.state, Some(SandboxState::Ready));
    }

    #[test]
    fn states_are_those_of_the_wire() {
        let with = |state| {
            let state = Some(v1::ContainerStateValue { state });
            container_filter(Some(v1::ContainerFilter { state, ..Default::default() }))
        };
        let exited = with(v1::ContainerState::ContainerExited.into()).unwrap().unwrap();
        assert_eq!(exited.state, Some(ContainerStateKind::Exited));
        assert!(with(v1::ContainerState::ContainerUnknown.into()).unwrap().is_none());
        assert_eq!(with(9).unwrap_err().field, "filter.state");
    }
}
