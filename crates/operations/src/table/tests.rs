//! What happens to operations and to whoever waits for them.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::oneshot;

use super::*;

#[derive(Debug, thiserror::Error)]
enum TestError {
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error("no")]
    No,
}

impl Classified for TestError {
    fn class(&self) -> Class {
        Class::NotFound
    }
}

async fn answered(ops: &Operations, key: &str, n: u32) -> Result<u32, Arc<TestError>> {
    ops.run("test", key.to_owned(), key.to_owned(), move |_| async move { Ok(n) }).await
}

/// Polls until `condition` holds; the test's own limit ends it otherwise.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_second_call_of_the_same_key_joins_the_first_and_has_its_answer() {
    let ops = Operations::new();
    let begun = Arc::new(AtomicU32::new(0));
    let (go, gate) = oneshot::channel::<()>();
    let first = tokio::spawn({
        let (ops, begun) = (ops.clone(), Arc::clone(&begun));
        async move {
            let work = move |phases: Phases| async move {
                begun.fetch_add(1, Ordering::Relaxed);
                phases.enter("waiting", None);
                let _ = gate.await;
                Ok::<u32, TestError>(1)
            };
            ops.run("test", "k".into(), "k".into(), work).await
        }
    });
    until(|| ops.list().first().is_some_and(|o| o.phase == "waiting")).await;
    let second = tokio::spawn({
        let ops = ops.clone();
        async move { answered(&ops, "k", 2).await }
    });
    until(|| ops.list()[0].joined == 1).await;
    assert_eq!(answered(&ops, "other", 3).await.unwrap(), 3, "another key does not wait");
    go.send(()).unwrap();
    assert_eq!(first.await.unwrap().unwrap(), 1);
    assert_eq!(second.await.unwrap().unwrap(), 1);
    assert_eq!(begun.load(Ordering::Relaxed), 1);
    assert_eq!(answered(&ops, "k", 4).await.unwrap(), 4, "one that has ended is not joined");
    assert!(ops.list().is_empty());
}

#[tokio::test]
async fn a_caller_that_gives_up_cancels_nothing() {
    let ops = Operations::new();
    let (go, gate) = oneshot::channel::<()>();
    let (done, end) = oneshot::channel::<u32>();
    let call = tokio::spawn({
        let ops = ops.clone();
        async move {
            let work = move |_| async move {
                let _ = gate.await;
                let _ = done.send(5);
                Ok::<(), TestError>(())
            };
            ops.run("test", "k".into(), "k".into(), work).await
        }
    });
    until(|| ops.list().len() == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    go.send(()).unwrap();
    assert_eq!(end.await.unwrap(), 5);
    ops.idle().await;
    assert!(ops.list().is_empty());
}

/// Counts the warnings that name an object of this name.
#[derive(Debug, Clone, Default)]
struct Warned(Arc<AtomicU32>);

impl tracing::Subscriber for Warned {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_failure_that_nobody_waits_for_is_logged_and_one_that_is_answered_is_not() {
    let warned = Warned::default();
    let _here = tracing::subscriber::set_default(warned.clone());
    let ops = Operations::new();
    let fails = |gate: oneshot::Receiver<()>| {
        let ops = ops.clone();
        tokio::spawn(async move {
            let work = move |_| async move {
                let _ = gate.await;
                Err::<(), _>(TestError::No)
            };
            ops.run("test", "k".into(), "k".into(), work).await
        })
    };
    let (go, gate) = oneshot::channel();
    let call = fails(gate);
    until(|| ops.list().len() == 1).await;
    go.send(()).unwrap();
    assert!(call.await.unwrap().is_err());
    assert_eq!(warned.0.load(Ordering::Relaxed), 0, "its caller says so");
    let (go, gate) = oneshot::channel();
    let call = fails(gate);
    until(|| ops.list().len() == 1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    go.send(()).unwrap();
    until(|| ops.ended().len() == 2).await;
    until(|| warned.0.load(Ordering::Relaxed) == 1).await;
}

#[tokio::test]
async fn who_asked_first_and_how_many_joined_is_remembered() {
    let ops = Operations::new();
    let origin = Origin { pid: Some(42), ..Origin::default() };
    let (go, gate) = oneshot::channel::<()>();
    let first = tokio::spawn({
        let (ops, origin) = (ops.clone(), origin.clone());
        async move {
            let work = move |phases: Phases| async move {
                phases.enter("gate", None);
                let _ = gate.await;
                Ok::<u32, TestError>(1)
            };
            asked_by(origin, ops.run("test", "k".into(), "k".into(), work)).await
        }
    });
    until(|| ops.list().len() == 1).await;
    assert_eq!(ops.list()[0].origin, origin);
    let second = tokio::spawn({
        let ops = ops.clone();
        async move { answered(&ops, "k", 2).await }
    });
    until(|| ops.list()[0].joined == 1).await;
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let ended = ops.ended();
    assert_eq!((ended.len(), ended[0].joined, &ended[0].origin), (1, 1, &origin));
    assert_eq!(ended[0].spans[0].phase, "gate");
    assert!(ended[0].failure.is_none());
}

#[tokio::test]
async fn what_an_operation_asks_for_is_a_part_of_it_and_of_those_that_join() {
    let ops = Operations::new();
    let origin = Origin { pid: Some(42), asked: "much".to_owned(), ..Origin::default() };
    let (go, gate) = oneshot::channel::<()>();
    let part = |ops: Operations, gate: Option<oneshot::Receiver<()>>| async move {
        let work = move |_| async move {
            if let Some(gate) = gate {
                let _ = gate.await;
            }
            Ok::<u32, TestError>(1)
        };
        ops.run("part", "layer".into(), "layer".into(), work).await.map_err(|_| TestError::No)
    };
    let whole = |ops: Operations, key: &str, gate| {
        let key = key.to_owned();
        async move {
            let parts = ops.clone();
            ops.run("whole", key.clone(), key, move |_| part(parts, gate)).await
        }
    };
    let first = tokio::spawn(asked_by(origin, whole(ops.clone(), "a", Some(gate))));
    until(|| ops.list().len() == 2).await;
    let second = tokio::spawn(whole(ops.clone(), "b", None));
    until(|| ops.list().iter().any(|one| one.kind == "part" && one.joined == 1)).await;
    let now = ops.list();
    let of = |kind: &str, object: &str| {
        now.iter().find(|one| one.kind == kind && one.object == object).unwrap()
    };
    let (a, b, layer) = (of("whole", "a"), of("whole", "b"), of("part", "layer"));
    assert_eq!(layer.within, [a.id, b.id]);
    assert_eq!((layer.origin.pid, layer.origin.asked.as_str()), (Some(42), ""));
    assert_eq!((a.origin.asked.as_str(), a.origin.within), ("much", None));
    go.send(()).unwrap();
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let ended = ops.ended();
    let layer = ended.iter().find(|one| one.kind == "part").unwrap();
    assert_eq!(layer.within.len(), 2);
}

#[tokio::test]
async fn the_end_of_an_operation_leaves_the_next_of_the_same_name_alone() {
    let ops = Operations::new();
    let (go, gate) = oneshot::channel::<()>();
    let next = tokio::spawn({
        let ops = ops.clone();
        async move {
            let work = move |_| async move {
                let _ = gate.await;
                Ok::<u32, TestError>(2)
            };
            ops.run("test", "k".into(), "k".into(), work).await
        }
    });
    until(|| ops.list().len() == 1).await;
    // One that was of this name before, and is late with its end, or panics.
    let before = || Entry {
        table: Arc::clone(&ops.table),
        id: ops.list()[0].id - 1,
        name: (TypeId::of::<(u32, TestError)>(), "test", "k".to_owned()),
    };
    drop(before());
    assert_eq!(ops.list().len(), 1, "dropped");
    assert!(before().end("test", &Phases::begin(), None).is_none());
    assert_eq!(ops.list().len(), 1, "ended");
    let joined = tokio::spawn({
        let ops = ops.clone();
        async move { answered(&ops, "k", 3).await }
    });
    until(|| ops.list()[0].joined == 1).await;
    go.send(()).unwrap();
    assert_eq!((next.await.unwrap().unwrap(), joined.await.unwrap().unwrap()), (2, 2));
    assert_eq!(ops.ended().len(), 1);
}

#[tokio::test]
async fn an_error_is_shared_and_a_panic_is_an_error() {
    let ops = Operations::new();
    let failed = ops
        .run::<(), _, _, _>("test", "k".into(), "k".into(), |_| async { Err(TestError::No) })
        .await;
    assert!(matches!(*failed.unwrap_err(), TestError::No));
    let remembered = ops.ended();
    let failure = remembered[0].failure.clone().unwrap();
    assert_eq!((failure.class, failure.message.as_str()), (Class::NotFound, "no"));
    let panicking = |phases: Phases| async move {
        phases.enter("breaking", None);
        if phases.spans().is_empty() {
            std::panic::panic_any("on purpose");
        }
        Ok::<(), TestError>(())
    };
    let lost = ops.run("test", "k".into(), "the object".into(), panicking).await.unwrap_err();
    let TestError::Lost(lost) = &*lost else { unreachable!("{lost}") };
    assert_eq!((lost.object.as_str(), lost.phase.as_str()), ("the object", "breaking"));
    assert!(ops.list().is_empty(), "a panic leaves nothing in the table");
}
