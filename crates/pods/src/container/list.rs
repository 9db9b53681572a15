//! ListContainers.

use std::sync::Arc;

use model::ContainerId;

use crate::pods::Pods;
use crate::status::{ContainerFilter, ContainerStateKind, ContainerStatus};

/// Those that fit, the oldest first.
pub(crate) fn list(pods: &Pods, filter: &ContainerFilter) -> Vec<Arc<ContainerStatus>> {
    let mut all = pods.inner.table.container_statuses();
    all.retain(|container| fits(container, filter));
    all
}

/// Those whose id begins with `prefix`.
pub(crate) fn find(pods: &Pods, prefix: &str) -> Vec<ContainerId> {
    let all = pods.inner.table.container_statuses();
    all.iter().filter(|c| c.id.as_str().starts_with(prefix)).map(|c| c.id.clone()).collect()
}

fn fits(container: &ContainerStatus, filter: &ContainerFilter) -> bool {
    filter.id.as_ref().is_none_or(|id| *id == container.id)
        && filter.sandbox.as_ref().is_none_or(|id| *id == container.sandbox)
        && filter.state.is_none_or(|state| state == ContainerStateKind::of(&container.state))
        && filter.labels.iter().all(|(k, v)| container.config.labels.get(k) == Some(v))
}

#[cfg(test)]
mod tests {
    use model::{SandboxId, State};

    use super::*;
    use crate::records::tests::container_record;

    #[test]
    fn a_filter_takes_what_fits_all_that_it_says() {
        let sandbox = SandboxId::from_random([1; 32]);
        let container = container_record(2, &sandbox, State::Created).status();
        let other = SandboxId::from_random([3; 32]);
        let state = |state| ContainerFilter { state: Some(state), ..Default::default() };
        let label = |v: &str| ContainerFilter {
            labels: [("name".to_owned(), v.to_owned())].into(),
            ..Default::default()
        };
        for (filter, expected) in [
            (ContainerFilter::default(), true),
            (ContainerFilter { id: Some(container.id.clone()), ..Default::default() }, true),
            (ContainerFilter { sandbox: Some(sandbox.clone()), ..Default::default() }, true),
            (ContainerFilter { sandbox: Some(other), ..Default::default() }, false),
            (state(ContainerStateKind::Created), true),
            (state(ContainerStateKind::Running), false),
            (label("c2"), true),
            (label("c3"), false),
        ] {
            assert_eq!(fits(&container, &filter), expected, "{filter:?}");
        }
    }
}
