//! Calls that are no operations, noted for whoever looks.
//!
//! Always: a call that nobody looks at costs nothing but its phases; a note is told of once, also where its caller
//! leaves before the end.

use model::Class;

use crate::phases::Phases;
use crate::table::Operations;
use crate::watcher::{Ended, OperationFailure};

/// A call that goes on ([`Operations::note`]).
#[derive(Debug)]
pub struct Note {
    phases: Phases,
    /// Where it is told of, and as what; `None` where nobody looks.
    told: Option<(Operations, Box<Ended>)>,
}

impl Note {
    pub(crate) fn nothing() -> Self {
        Self { phases: Phases::begin(), told: None }
    }

    pub(crate) fn begin(operations: Operations, call: Ended) -> Self {
        Self { phases: Phases::begin(), told: Some((operations, Box::new(call))) }
    }

    /// Its phases.
    #[must_use]
    pub fn phases(&self) -> &Phases {
        &self.phases
    }

    /// It has ended.
    pub fn end(mut self, failure: Option<OperationFailure>) {
        self.tell(failure);
    }

    fn tell(&mut self, failure: Option<OperationFailure>) {
        let Some((operations, mut call)) = self.told.take() else { return };
        let (took, spans, failed) = self.phases.end();
        call.took = took;
        call.spans = spans;
        call.failed_in = failed.filter(|_| failure.is_some());
        call.failure = failure;
        operations.noted(*call);
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        let message = "its caller has left before its end".to_owned();
        self.tell(Some(OperationFailure { class: Class::Unavailable, message }));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::{Origin, TraceContext, Watcher, asked_by};

    #[derive(Debug, Default)]
    struct All(Mutex<Vec<Ended>>);

    impl Watcher for All {
        fn ended(&self, _: &Ended) {}

        fn wants_calls(&self) -> bool {
            true
        }

        fn call_ended(&self, ended: &Ended) {
            self.0.lock().unwrap().push(ended.clone());
        }
    }

    fn traced(flags: &str) -> Origin {
        let header = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        Origin { trace: Some(TraceContext::parse(&header).unwrap()), ..Origin::default() }
    }

    #[tokio::test]
    async fn a_call_is_noted_only_where_somebody_looks() {
        let operations = Operations::new();
        let call = async || {
            let note = operations.note("ExecSync", || "ns/pod/c".to_owned());
            note.phases().enter("run", None);
            note.end(None);
        };
        call().await;
        asked_by(traced("00"), call()).await;
        assert!(operations.ended().is_empty());
        asked_by(traced("01"), call()).await;
        let ended = operations.ended();
        assert_eq!((ended.len(), ended[0].kind, ended[0].spans.len()), (1, "ExecSync", 1));
        assert_eq!(ended[0].origin, traced("01"));
    }

    #[tokio::test]
    async fn who_wants_all_calls_hears_of_them_and_of_one_whose_caller_leaves() {
        let (operations, all) = (Operations::new(), Arc::new(All::default()));
        operations.watch(vec![Arc::clone(&all) as Arc<dyn Watcher>]);
        operations.note("Exec", String::new).end(None);
        let left = operations.note("Exec", String::new);
        left.phases().enter("run", None);
        drop(left);
        asked_by(traced("00"), async { operations.note("Exec", String::new).end(None) }).await;
        let heard = all.0.lock().unwrap();
        assert_eq!(heard.len(), 2, "not the one that is not to be recorded");
        assert!(heard[0].failure.is_none());
        assert_eq!(heard[1].failed_in, Some("run"));
    }
}
