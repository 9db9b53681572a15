//! The table of what runs now.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use model::{Class, Classified, Span, Timestamp};
use tokio::sync::watch;

use crate::history::History;
use crate::note::Note;
use crate::origin::{Origin, asked_by};
use crate::phases::{Phases, now};
use crate::watcher::{Ended, OperationFailure, Watcher};

/// An operation that ended without an answer: it panicked, or the daemon is going down.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} of {object} ended without an answer (phase {phase})")]
pub struct Lost {
    /// What kind of operation.
    pub kind: &'static str,
    /// On what.
    pub object: String,
    /// The phase that it was in.
    pub phase: String,
}

impl Classified for Lost {
    fn class(&self) -> Class {
        Class::Internal
    }
}

/// An operation that runs.
#[derive(Debug, Clone, serde::Serialize)]
pub struct OperationInfo {
    /// Unique in this daemon's life.
    pub id: u64,
    /// What kind, for example `RunPodSandbox`.
    pub kind: &'static str,
    /// On what, for people.
    pub object: String,
    /// Who asked first.
    pub origin: Origin,
    /// The operations that it is a part of: whose work has asked for it.
    pub within: Vec<u64>,
    /// The phase that it is in; empty between phases.
    pub phase: &'static str,
    /// What it is at in this phase, or whom it waits for, where that is known.
    pub at: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When its phase began.
    pub phase_since: Timestamp,
    /// How long the phase may take, where that is known.
    pub phase_bound: Option<Duration>,
    /// How many callers joined the first.
    pub joined: u32,
    /// The phases that have ended.
    pub spans: Vec<Span>,
}

/// Operations that one is known to be a part of; a layer that more images want than this says no more about them.
const WITHIN_MAX: usize = 16;

/// The types of the answer are part of the name, so that a joined answer always has the caller's.
type Name = (TypeId, &'static str, String);
/// `Result<T, Arc<E>>` of the operation's own types.
type Answer = Arc<dyn Any + Send + Sync>;

#[derive(Debug)]
struct Running {
    id: u64,
    object: String,
    origin: Origin,
    within: Vec<u64>,
    started_at: Timestamp,
    joined: u32,
    phases: Phases,
    answer: watch::Receiver<Option<Answer>>,
}

#[derive(Debug, Default)]
struct Table {
    last_id: u64,
    running: HashMap<Name, Running>,
    history: History,
}

/// What runs in this daemon. Clones share the table.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    table: Arc<Mutex<Table>>,
    watchers: Arc<OnceLock<Vec<Arc<dyn Watcher>>>>,
}

impl Operations {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on these hear of every operation that ends. To be called once: what comes later is not taken.
    pub fn watch(&self, watchers: Vec<Arc<dyn Watcher>>) {
        let _ = self.watchers.set(watchers);
    }

    /// Runs `work` as the operation of this kind and key, or joins the one that runs already; `work` is
    /// dropped unused then. `object` names what it works on, for people.
    ///
    /// The operation goes on when the caller gives up.
    ///
    /// # Errors
    /// What `work` answers, shared by all who wait for it, or [`Lost`] when it panics.
    pub async fn run<T, E, F, W>(
        &self,
        kind: &'static str,
        key: String,
        object: String,
        work: W,
    ) -> Result<T, Arc<E>>
    where
        T: Clone + Send + Sync + 'static,
        E: Error + Classified + From<Lost> + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        W: FnOnce(Phases) -> F + Send + 'static,
    {
        let name: Name = (TypeId::of::<(T, E)>(), kind, key);
        let (mut answer, phases) = self.join_or_begin(name, kind, &object, work);
        let lost = || {
            let phase = phases.current().map_or("", |c| c.phase).to_owned();
            Arc::new(E::from(Lost { kind, object: object.clone(), phase }))
        };
        let value = match answer.wait_for(Option::is_some).await {
            Ok(value) => value.clone(),
            // The task is gone without an answer.
            Err(_) => return Err(lost()),
        };
        let typed = value.as_ref().and_then(|v| v.downcast_ref::<Result<T, Arc<E>>>());
        typed.cloned().unwrap_or_else(|| Err(lost()))
    }

    /// Notes a call that is no operation, because nobody joins it and it ends with its caller: of kind `kind`, on
    /// `object`. It is remembered and told of only where somebody looks: where the call belongs to a trace that is
    /// recorded, or has no trace and a watcher wants all. To be ended; dropped, its caller has left.
    pub fn note(&self, kind: &'static str, object: impl FnOnce() -> String) -> Note {
        let is_noted = Origin::is_recorded().unwrap_or_else(|| {
            self.watchers.get().is_some_and(|all| all.iter().any(|one| one.wants_calls()))
        });
        if !is_noted {
            return Note::nothing();
        }
        let id = {
            let mut table = self.table();
            table.last_id += 1;
            table.last_id
        };
        let operations = self.clone();
        Note::begin(
            operations,
            Ended {
                id,
                kind,
                object: object(),
                origin: Origin::current(),
                started_at: now(),
                ..Ended::default()
            },
        )
    }

    /// A call that was noted has ended.
    pub(crate) fn noted(&self, ended: Ended) {
        let ended = Arc::new(ended);
        self.table().history.add_call(Arc::clone(&ended));
        let all = self.watchers.get().into_iter().flatten();
        all.for_each(|watcher| watcher.call_ended(&ended));
    }

    /// What runs now, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<OperationInfo> {
        let mut all: Vec<OperationInfo> = self
            .table()
            .running
            .iter()
            .map(|((_, kind, _), running)| {
                let current = running.phases.current();
                OperationInfo {
                    id: running.id,
                    kind,
                    object: running.object.clone(),
                    origin: running.origin.clone(),
                    within: running.within.clone(),
                    phase: current.as_ref().map_or("", |c| c.phase),
                    started_at: running.started_at,
                    phase_since: current.as_ref().map_or(running.started_at, |c| c.since),
                    phase_bound: current.as_ref().and_then(|c| c.bound),
                    at: current.map_or_else(String::new, |c| c.at),
                    joined: running.joined,
                    spans: running.phases.spans(),
                }
            })
            .collect();
        all.sort_by_key(|o| o.id);
        all
    }

    /// What has ended, as far as it is remembered, in the order of its beginning.
    #[must_use]
    pub fn ended(&self) -> Vec<Arc<Ended>> {
        self.table().history.list()
    }

    /// Waits until nothing runs: for a daemon that is to end.
    pub async fn idle(&self) {
        loop {
            let next = self.table().running.values().next().map(|r| r.answer.clone());
            let Some(mut next) = next else { return };
            // Ended with or without an answer: both are an end.
            let _ = next.wait_for(Option::is_some).await;
            tokio::task::yield_now().await;
        }
    }

    fn join_or_begin<T, E, F, W>(
        &self,
        name: Name,
        kind: &'static str,
        object: &str,
        work: W,
    ) -> (watch::Receiver<Option<Answer>>, Phases)
    where
        T: Clone + Send + Sync + 'static,
        E: Error + Classified + Send + Sync + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
        W: FnOnce(Phases) -> F + Send + 'static,
    {
        let origin = Origin::current();
        let mut table = self.table();
        if let Some(running) = table.running.get_mut(&name) {
            running.joined += 1;
            let is_new = |whole: &u64| !running.within.contains(whole);
            if let Some(whole) = origin.within.filter(is_new)
                && running.within.len() < WITHIN_MAX
            {
                running.within.push(whole);
            }
            tracing::debug!(kind, object, "joined an operation that runs");
            return (running.answer.clone(), running.phases.clone());
        }
        let phases = Phases::begin();
        let (sender, answer) = watch::channel(None);
        table.last_id += 1;
        let id = table.last_id;
        let running = Running {
            id,
            object: object.to_owned(),
            within: origin.within.into_iter().collect(),
            origin: origin.clone(),
            started_at: now(),
            joined: 0,
            phases: phases.clone(),
            answer: answer.clone(),
        };
        table.running.insert(name.clone(), running);
        drop(table);
        let entry = Entry { table: Arc::clone(&self.table), id, name };
        let work_phases = phases.clone();
        let watchers = Arc::clone(&self.watchers);
        // Boxed: the state of an operation is large, and lives on the heap once instead of moving about.
        let task = Box::pin(async move {
            let entry = entry;
            let result: Result<T, Arc<E>> = work(work_phases.clone()).await.map_err(Arc::new);
            let failure = result.as_ref().err().map(|error| OperationFailure::of(&**error));
            // First out of the table, then the answer: who asks after the answer begins anew.
            let ended = entry.end(kind, &work_phases, failure);
            if let Some(ended) = ended {
                let all = watchers.get().into_iter().flatten();
                all.for_each(|watcher| watcher.ended(&ended));
                // Whoever waits has the error, and says so.
                if sender.receiver_count() == 0 {
                    unheard(&ended);
                }
            }
            sender.send_replace(Some(Arc::new(result)));
        });
        // What the work asks for in its turn is a part of this, and asked for by the same.
        let origin = Origin { within: Some(id), asked: String::new(), ..origin };
        tokio::spawn(asked_by(origin, task));
        (answer, phases)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    // What is under the lock is whole between any two statements.
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says that an operation has failed whose callers have all left.
fn unheard(ended: &Ended) {
    let Some(failure) = &ended.failure else { return };
    let ms = u64::try_from(ended.took.as_millis()).unwrap_or(u64::MAX);
    let (kind, object, id) = (ended.kind, &ended.object, ended.id);
    let message = &failure.message;
    tracing::warn!(kind, object, id, ms, "operation failed, and nobody waits for it: {message}");
}

/// Takes an operation out of the table, also when it panics; never a later one of the same name.
struct Entry {
    table: Arc<Mutex<Table>>,
    id: u64,
    name: Name,
}

/// Takes the operation with this name out, if it is the one with this id.
fn take(table: &mut Table, name: &Name, id: u64) -> Option<Running> {
    if table.running.get(name)?.id == id { table.running.remove(name) } else { None }
}

impl Entry {
    /// From what runs to what has ended, in one step.
    fn end(
        self,
        kind: &'static str,
        phases: &Phases,
        failure: Option<OperationFailure>,
    ) -> Option<Arc<Ended>> {
        let (took, spans, failed) = phases.end();
        let mut table = lock(&self.table);
        let Running { id, object, origin, within, started_at, joined, .. } =
            take(&mut table, &self.name, self.id)?;
        let failed_in = failed.filter(|_| failure.is_some());
        let ended = Arc::new(Ended {
            id,
            kind,
            object,
            origin,
            within,
            joined,
            started_at,
            took,
            failure,
            failed_in,
            spans,
        });
        table.history.add(Arc::clone(&ended));
        // The entry is dropped on return, and looks into the table once more: by then the next of the
        // same name may have begun, which is told apart by its id.
        drop(table);
        Some(ended)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        drop(take(&mut lock(&self.table), &self.name, self.id));
    }
}

#[cfg(test)]
mod tests;
