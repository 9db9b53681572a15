//! Operations that have ended, for whoever asks what became of something.
//!
//! Always: bounded, and failures are kept apart from successes, so that a node on which all goes well
//! but for one pod still tells why that one fails.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::watcher::Ended;

/// Successes that are kept; the oldest are forgotten.
pub const SUCCESSES_KEPT: usize = 384;
/// Failures that are kept; the oldest are forgotten.
pub const FAILURES_KEPT: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct History {
    succeeded: VecDeque<Arc<Ended>>,
    failed: VecDeque<Arc<Ended>>,
}

impl History {
    pub(crate) fn add(&mut self, ended: Arc<Ended>) {
        let (kept, most) = match ended.failure {
            None => (&mut self.succeeded, SUCCESSES_KEPT),
            Some(_) => (&mut self.failed, FAILURES_KEPT),
        };
        if kept.len() >= most {
            kept.pop_front();
        }
        kept.push_back(ended);
    }

    /// All that are kept, in the order of their beginning.
    pub(crate) fn list(&self) -> Vec<Arc<Ended>> {
        let mut all: Vec<_> = self.succeeded.iter().chain(&self.failed).map(Arc::clone).collect();
        all.sort_by_key(|ended| ended.id);
        all
    }
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
        assert_eq!(few.list()[0].id, 1, "the one failure is still there");
    }
}
