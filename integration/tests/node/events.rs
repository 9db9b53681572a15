//! GetContainerEvents.

use std::io::BufRead as _;
use std::process::Stdio;
use std::time::Duration;

use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{
    ContainerEventResponse, ContainerEventType, ContainerState, GetEventsRequest,
    ListContainersRequest, PodSandboxState, RemoveContainerRequest, RemovePodSandboxRequest,
    StopPodSandboxRequest,
};
use testkit::{Daemon, Network};
use tonic::{Code, Status, Streaming};

use crate::around::{Gate, around, plain, with_pod};

const PATIENCE: Duration = Duration::from_secs(60);

type Events = Streaming<ContainerEventResponse>;

async fn subscribe(daemon: &Daemon) -> Result<Events, Status> {
    daemon.runtime().get_container_events(GetEventsRequest {}).await.map(|all| all.into_inner())
}

async fn next(events: &mut Events) -> Result<ContainerEventResponse, Status> {
    let next = tokio::time::timeout(PATIENCE, events.message()).await.expect("an event comes");
    next.map(|event| event.expect("the stream has not ended"))
}

async fn remove(daemon: &Daemon, container_id: &str) {
    let request = RemoveContainerRequest { container_id: container_id.to_owned() };
    daemon.runtime().remove_container(request).await.unwrap();
}

#[tokio::test]
async fn everything_that_happens_is_told_in_order_with_what_was_true_then() {
    let around = plain().await;
    let daemon = &around.daemon;
    let mut events = subscribe(daemon).await.unwrap();
    let pod = testkit::host_network(testkit::pod(daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let container = testkit::container("main", &around.image, &["sh", "-c", "exit 3"]);
    let id = daemon.launch(&pod_id, &pod, &container).await.unwrap();
    daemon.ended(&id).await;
    remove(daemon, &id).await;
    let pod_sandbox_id = pod_id.clone();
    daemon.runtime().stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id }).await.unwrap();
    let pod_sandbox_id = pod_id.clone();
    daemon.runtime().remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.unwrap();

    use ContainerEventType::{
        ContainerCreatedEvent as Created, ContainerDeletedEvent as Deleted,
        ContainerStartedEvent as Started, ContainerStoppedEvent as Stopped,
    };
    let wanted = [
        (&pod_id, Created),
        (&pod_id, Started),
        (&id, Created),
        (&id, Started),
        (&id, Stopped),
        (&id, Deleted),
        (&pod_id, Stopped),
        (&pod_id, Deleted),
    ];
    let mut last = 0;
    for (of, kind) in wanted {
        let event = next(&mut events).await.unwrap();
        assert_eq!((&event.container_id, event.container_event_type()), (of, kind));
        assert!(event.created_at >= last, "time goes on");
        last = event.created_at;
        if of == &pod_id {
            let state = event.pod_sandbox_status.as_ref().map(|status| status.state());
            match kind {
                Started => assert_eq!(state, Some(PodSandboxState::SandboxReady)),
                Stopped => assert_eq!(state, Some(PodSandboxState::SandboxNotready)),
                Created | Deleted => {}
            }
            continue;
        }
        assert_eq!(event.pod_sandbox_status.as_ref().unwrap().id, pod_id);
        let own = event.containers_statuses.iter().find(|status| status.id == id);
        let state = own.map(|status| status.state());
        match kind {
            Created => assert_eq!(state, Some(ContainerState::ContainerCreated)),
            Started => assert_eq!(state, Some(ContainerState::ContainerRunning)),
            Stopped => {
                assert_eq!(state, Some(ContainerState::ContainerExited));
                assert_eq!(own.unwrap().exit_code, 3);
            }
            Deleted => {}
        }
    }
}

/// A stream whose client takes up little ahead, and that nobody reads.
async fn unread(daemon: &Daemon) -> (RuntimeServiceClient<tonic::transport::Channel>, Events) {
    let mut runtime = RuntimeServiceClient::new(daemon.narrow_channel());
    let events = runtime.get_container_events(GetEventsRequest {}).await.unwrap().into_inner();
    (runtime, events)
}

#[tokio::test]
async fn a_slow_subscriber_is_cut_off_and_a_fast_one_misses_nothing() {
    let around =
        around(|setup| setup.network(Network::None).toml("limits.events_ahead = 64")).await;
    let daemon = &around.daemon;
    let pod = testkit::host_network(testkit::pod(daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let (_kept, mut slow) = unread(daemon).await;
    // One whose client is gone without a word, and one that nobody ever reads.
    drop(subscribe(daemon).await.unwrap());
    let dead = unread(daemon).await;
    let mut fast = subscribe(daemon).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut seen = Vec::new();
        loop {
            let event = next(&mut fast).await.unwrap();
            let over = event.container_event_type() == ContainerEventType::ContainerDeletedEvent;
            let of = event.container_id.clone();
            seen.push((of, event.container_event_type()));
            let rounds =
                seen.iter().filter(|one| one.1 == ContainerEventType::ContainerDeletedEvent);
            if over && rounds.count() == ROUNDS {
                return seen;
            }
        }
    });
    const ROUNDS: usize = 100;
    let mut ids = Vec::new();
    for round in 0..ROUNDS {
        let name = format!("c{round}");
        let container = testkit::container(&name, &around.image, &["true"]);
        let id = daemon.create(&pod_id, &pod, &container).await.unwrap();
        remove(daemon, &id).await;
        ids.push(id);
    }
    let seen = tokio::time::timeout(PATIENCE, reader).await.expect("all is told").unwrap();
    let wanted: Vec<_> = ids
        .iter()
        .flat_map(|id| {
            // One that was never started is ended by being removed.
            let all = [
                ContainerEventType::ContainerCreatedEvent,
                ContainerEventType::ContainerStoppedEvent,
                ContainerEventType::ContainerDeletedEvent,
            ];
            all.map(|kind| (id.clone(), kind))
        })
        .collect();
    assert!(seen == wanted, "the fast one misses nothing: {} of {}", seen.len(), wanted.len());

    // Those who do not read are counted when they are cut off, not when they read again.
    let counted = daemon.cli(&["metrics"]).output().unwrap();
    let counted = String::from_utf8(counted.stdout).unwrap();
    assert!(counted.contains("isopod_events_cut_total 2\n"), "{counted}");
    let log = daemon.log();
    let said = log.lines().filter(|line| line.contains("too far behind, and is cut off"));
    assert_eq!(said.filter(|line| line.contains("behind=65")).count(), 2, "{log}");

    let cut = loop {
        match next(&mut slow).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(cut.code(), Code::ResourceExhausted, "{cut}");
    assert!(cut.message().contains("list again"), "{cut}");
    // It lists and subscribes anew, as it is told to.
    let mut again = subscribe(daemon).await.unwrap();
    let listed = daemon.runtime().list_containers(ListContainersRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().containers.len(), 0);
    let container = testkit::container("last", &around.image, &["true"]);
    let id = daemon.create(&pod_id, &pod, &container).await.unwrap();
    assert_eq!(next(&mut again).await.unwrap().container_id, id);
    drop(dead);
}

#[tokio::test]
async fn a_reader_finds_by_listing_what_happened_while_there_was_no_daemon() {
    let mut with = with_pod().await;
    let gate = Gate::new(with.daemon());
    let ends = with.launch(&with.behind(&gate, "ends", 33)).await;
    let mut command = with.daemon().cli(&["events"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut reader = command.spawn().unwrap();
    let (lines, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let stdout = std::io::BufReader::new(reader.stdout.take().unwrap());
    let stderr = std::io::BufReader::new(reader.stderr.take().unwrap());
    let sent = lines.clone();
    let listening = [
        std::thread::spawn(move || stdout.lines().for_each(|line| drop(lines.send(line.unwrap())))),
        std::thread::spawn(move || stderr.lines().for_each(|line| drop(sent.send(line.unwrap())))),
    ];
    let mut said = async |part: &str| loop {
        let line = tokio::time::timeout(PATIENCE, heard.recv()).await.expect("it says something");
        let line = line.expect("it goes on");
        if line.contains(part) {
            return line;
        }
    };
    // It listens once it tells of something.
    let mut names = 0..;
    let mut first = None;
    while first.is_none() {
        let name = format!("c{}", names.next().unwrap());
        let container = testkit::container(&name, &with.around.image, &["true"]);
        let id = with.daemon().create(&with.pod_id, &with.pod, &container).await.unwrap();
        remove(with.daemon(), &id).await;
        let line = tokio::time::timeout(Duration::from_millis(200), said("deleted")).await;
        first = line.ok();
    }
    let line = first.unwrap();
    assert!(line.contains("  container tests/pod/c"), "{line}");

    with.around.daemon.kill();
    said("the stream of events has ended").await;
    gate.open();
    with.around.daemon.start().await;
    assert_eq!(with.daemon().ended(&ends).await.exit_code, 33);
    let line = said("  stopped  ").await;
    assert!(line.contains("  container tests/pod/ends  exit code 33 (Error)"), "{line}");
    // It has ended before the reader listed, or an event has told of it.
    let extra = testkit::container("later", &with.around.image, &["true"]);
    with.launch(&extra).await;
    let line = said("  created  ").await;
    assert!(line.contains("  container tests/pod/later"), "{line}");
    reader.kill().unwrap();
    reader.wait().unwrap();
    for one in listening {
        one.join().unwrap();
    }
}
