//! ListPodSandbox.

use std::sync::Arc;

use model::SandboxId;

use crate::pods::Pods;
use crate::status::{SandboxFilter, SandboxStatus};

/// Those that fit, the oldest first.
pub(crate) fn list(pods: &Pods, filter: &SandboxFilter) -> Vec<Arc<SandboxStatus>> {
    let mut all = pods.inner.table.sandbox_statuses();
    all.retain(|sandbox| fits(sandbox, filter));
    all
}

/// Those whose id begins with `prefix`.
pub(crate) fn find(pods: &Pods, prefix: &str) -> Vec<SandboxId> {
    let all = pods.inner.table.sandbox_statuses();
    all.iter().filter(|s| s.id.as_str().starts_with(prefix)).map(|s| s.id.clone()).collect()
}

fn fits(sandbox: &SandboxStatus, filter: &SandboxFilter) -> bool {
    filter.id.as_ref().is_none_or(|id| *id == sandbox.id)
        && filter.state.is_none_or(|state| state == sandbox.state)
        && filter.labels.iter().all(|(k, v)| sandbox.config.labels.get(k) == Some(v))
}

#[cfg(test)]
mod tests {
    use model::SandboxState;

    use super::*;
    use crate::records::SandboxStage;
    use crate::records::tests::sandbox_record;

    #[test]
    fn a_filter_takes_what_fits_all_that_it_says() {
        let sandbox = sandbox_record(1, SandboxStage::Ready).status();
        let label = |k: &str, v: &str| [(k.to_owned(), v.to_owned())].into();
        let everything = SandboxFilter::default();
        assert!(fits(&sandbox, &everything));
        for (filter, expected) in [
            (SandboxFilter { id: Some(sandbox.id.clone()), ..Default::default() }, true),
            (
                SandboxFilter { id: Some(SandboxId::from_random([9; 32])), ..Default::default() },
                false,
            ),
            (SandboxFilter { state: Some(SandboxState::Ready), ..Default::default() }, true),
            (SandboxFilter { state: Some(SandboxState::NotReady), ..Default::default() }, false),
            (SandboxFilter { labels: label("app", "pod1"), ..Default::default() }, true),
            (SandboxFilter { labels: label("app", "pod2"), ..Default::default() }, false),
            (SandboxFilter { labels: label("x", "pod1"), ..Default::default() }, false),
        ] {
            assert_eq!(fits(&sandbox, &filter), expected, "{filter:?}");
        }
    }
}
