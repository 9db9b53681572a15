//! Operations that have ended, for whoever asks what became of something.
//!
//! Always: bounded, and failures are kept apart from successes, so that a node on which all goes well
//! but for one pod still tells why that one fails; calls that are no operations are kept apart from both, for a
//! probe in every second would make all else forgotten.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::watcher::Ended;

/// Successes that are kept; the oldest are forgotten.
pub const SUCCESSES_KEPT: usize = 384;
/// Failures that are kept; the oldest are forgotten.
pub const FAILURES_KEPT: usize = 128;
/// Calls that are kept; the oldest are forgotten.
pub const CALLS_KEPT: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct History {
    succeeded: VecDeque<Arc<Ended>>,
    failed: VecDeque<Arc<Ended>>,
    calls: VecDeque<Arc<Ended>>,
}

impl History {
    pub(crate) fn add(&mut self, ended: Arc<Ended>) {
        match ended.failure {
            None => keep(&mut self.succeeded, SUCCESSES_KEPT, ended),
            Some(_) => keep(&mut self.failed, FAILURES_KEPT, ended),
        }
    }

    pub(crate) fn add_call(&mut self, ended: Arc<Ended>) {
        keep(&mut self.calls, CALLS_KEPT, ended);
    }

    /// All that are kept, in the order of their beginning.
    pub(crate) fn list(&self) -> Vec<Arc<Ended>> {
        let kept = self.succeeded.iter().chain(&self.failed).chain(&self.calls);
        let mut all: Vec<_> = kept.map(Arc::clone).collect();
        all.sort_by_key(|ended| ended.id);
        all
    }
}

fn keep(kept: &mut VecDeque<Arc<Ended>>, most: usize, ended: Arc<Ended>) {
    if kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(ended);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watcher::OperationFailure;

    #[test]
    fn failures_outlive_any_number_of_successes_and_both_are_bounded() {
        let mut history = History::default();
        let failure = OperationFailure { class: model::Class::Internal, message: "no".to_owned() };
        for id in 0..2000 {
            let failure = (id == 5 || id > 1800).then(|| failure.clone());
            history.add(Arc::new(Ended { id, failure, ..Ended::default() }));
        }
        let kept = history.list();
        assert_eq!(kept.len(), SUCCESSES_KEPT + FAILURES_KEPT);
        assert!(kept.windows(2).all(|two| two[0].id < two[1].id));
        let mut few = History::default();
        few.add(Arc::new(Ended { id: 1, failure: Some(failure), ..Ended::default() }));
        for id in 2..2000 {
            few.add(Arc::new(Ended { id, ..Ended::default() }));
        }
        for id in 2000..3000 {
            few.add_call(Arc::new(Ended { id, ..Ended::default() }));
        }
        let kept = few.list();
        assert_eq!(kept[0].id, 1, "the one failure is still there");
        assert_eq!(
            kept.len(),
            1 + SUCCESSES_KEPT + CALLS_KEPT,
            "calls make nothing else forgotten"
        );
    }
}
