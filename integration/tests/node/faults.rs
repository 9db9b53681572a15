//! The daemon, or a monitor, dies at each named point of each operation, or the point's write fails; and
//! the same call succeeds afterwards, with nothing lost, left or there twice, on networks neither.
//!
//! Which points there are is found out by tracing each call once. Here each is tried where it is reached
//! first; `cargo xtask faults` tries every one of every call, each time that it is reached, in each way.

use std::collections::BTreeSet;
use std::time::Duration;

use cri_api::v1::{ContainerState, PodSandboxState};
use testkit::Network;
use tonic::Code;

use crate::around::around;
use crate::kubelet::{Call, Kubelet};

/// A pod from its beginning to its end.
const LIFE: &[Call] = &[
    Call::Run,
    Call::Create,
    Call::Start,
    Call::Exec,
    Call::Stop,
    Call::Remove,
    Call::StopPod,
    Call::RemovePod,
];
/// One that is stopped as a whole.
const STOPPED: &[Call] = &[Call::Run, Call::Create, Call::Start, Call::StopPod, Call::RemovePod];
/// One that is removed as it runs.
const REMOVED: &[Call] = &[Call::Run, Call::Create, Call::Start, Call::RemovePod];
/// One that has a network and no container.
const NETWORK: &[Call] = &[Call::Run, Call::StopPod, Call::RemovePod];
/// An image that comes and goes.
const IMAGE: &[Call] = &[Call::RemoveImage, Call::Pull];

/// How long after the answer a point may be reached.
const BEHIND: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    NoSpace,
    Broken,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::NoSpace => "enospc",
            Self::Broken => "eio",
        }
    }
}

/// One place of one call.
#[derive(Debug)]
struct Place {
    calls: &'static [Call],
    at: usize,
    point: String,
    nth: usize,
}

/// Whether all is to be tried, as by `cargo xtask faults`.
fn everything() -> bool {
    std::env::var_os("ISOPOD_ALL_FAULTS").is_some()
}

/// The points of the calls of `lives` that are `wanted`, found by tracing each call.
async fn places(
    kubelet: &mut Kubelet,
    lives: &[&'static [Call]],
    mut wanted: impl FnMut(Call, &str) -> bool,
) -> Vec<Place> {
    let mut places = Vec::new();
    let mut seen = BTreeSet::new();
    for (number, &calls) in lives.iter().enumerate() {
        kubelet.next_pod(&format!("traced-{number}"));
        for (at, &call) in calls.iter().enumerate() {
            let faults = kubelet.around.daemon.faults();
            faults.trace();
            kubelet.must(call).await;
            for (point, times) in faults.traced() {
                // Sandboxes have a record in two stores of one name.
                let once = !(everything() || point.starts_with("store.sandboxes."));
                let times = if once { 1 } else { times };
                let is_new = seen.insert(point.clone()) || everything();
                if is_new && wanted(call, &point) {
                    places.extend((1..=times).map(|nth| Place {
                        calls,
                        at,
                        point: point.clone(),
                        nth,
                    }));
                }
            }
        }
    }
    places
}

/// Of a monitor and not of the daemon.
fn is_monitors(point: &str) -> bool {
    point.starts_with("monitor.") || point.starts_with("store.exit")
}

/// Lives a life in which `fault` strikes at a place; whether it did.
async fn survive(kubelet: &mut Kubelet, place: &Place, fault: Fault, number: usize) -> bool {
    let Place { calls, at, point, nth } = place;
    let what = format!("{} at {point} ({nth}) of {:?}", fault.word(), calls[*at]);
    // Shown with a failure.
    println!("{what}");
    kubelet.next_pod(&format!("{}-{number}", fault.word()));
    for &call in &calls[..*at] {
        kubelet.must(call).await;
    }
    let faults = kubelet.around.daemon.faults();
    faults.arm(point, *nth, fault.word());
    let answer = kubelet.call(calls[*at]).await;
    let struck = testkit::eventually(BEHIND, || faults.has_struck().then_some(())).is_some();
    faults.disarm();
    match (struck, fault, answer) {
        (true, Fault::Kill, _) => {
            kubelet.around.daemon.wait_for_its_end();
            kubelet.around.daemon.start().await;
        }
        (true, Fault::NoSpace, Err(status)) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{what}: {status}");
        }
        (true, Fault::Broken, Err(status)) => {
            assert!(matches!(status.code(), Code::Internal | Code::Unknown), "{what}: {status}");
        }
        (true, Fault::NoSpace | Fault::Broken, Ok(())) => {}
        (false, _, answer) => answer.unwrap_or_else(|status| panic!("{what}: {status}")),
    }
    for &call in &calls[*at..] {
        kubelet.must(call).await;
    }
    kubelet.nothing_is_left(&what).await;
    struck
}

/// Tries every place, and prints what came of it.
async fn survive_all(kubelet: &mut Kubelet, places: &[Place], fault: Fault) {
    let mut struck = 0;
    for (number, place) in places.iter().enumerate() {
        struck += usize::from(Box::pin(survive(kubelet, place, fault, number)).await);
    }
    println!("faults: {} at {} points, {struck} struck, all survived", fault.word(), places.len());
    // What runs beside a call may be elsewhere the second time.
    assert!(struck * 10 >= places.len() * 9, "{struck} of {} were reached again", places.len());
}

async fn new_kubelet() -> Kubelet {
    Kubelet::new(around(|setup| setup.network(Network::Bridge)).await).await
}

/// Of the pod's network, and not of the rest of it.
fn is_of_networks(point: &str) -> bool {
    let of = ["network.", "cni.", "netns.", "step.netns", "step.network", "undo.detach"];
    of.iter().any(|start| point.starts_with(start)) || point.contains("netns")
}

#[tokio::test]
async fn a_daemon_killed_at_any_point_of_a_network_of_plugins_leaves_no_address_link_or_rule() {
    let around = around(|setup| setup.cni(crate::network::CONFLIST)).await;
    let mut kubelet = Kubelet::new(around).await;
    let networks = |_, point: &str| is_of_networks(point);
    let places = places(&mut kubelet, &[NETWORK], networks).await;
    for needed in ["cni.ADD.bridge.after", "cni.ADD.portmap.before", "cni.DEL.firewall.after"] {
        assert!(places.iter().any(|p| p.point == needed), "{needed} is gone: {places:#?}");
    }
    survive_all(&mut kubelet, &places, Fault::Kill).await;
    if everything() {
        survive_all(&mut kubelet, &places, Fault::NoSpace).await;
    }
}

#[tokio::test]
async fn a_daemon_killed_at_any_point_of_making_a_pod_is_survived() {
    let mut kubelet = new_kubelet().await;
    let making = |call, point: &str| call <= Call::Exec && !is_monitors(point);
    let places = places(&mut kubelet, &[LIFE], making).await;
    for needed in [
        "store.sandbox.put.written",
        "step.netns.before",
        "netns.pin.file-made",
        "bridge.link.made",
        "monitor-client.spawn.after",
        "images.PrepareContainer",
        "step.start.after",
    ] {
        assert!(places.iter().any(|p| p.point == needed), "{needed} is gone: {places:#?}");
    }
    survive_all(&mut kubelet, &places, Fault::Kill).await;
}

#[tokio::test]
async fn a_daemon_killed_at_any_point_of_ending_a_pod_is_survived() {
    let mut kubelet = new_kubelet().await;
    let ending = |call, point: &str| call > Call::Exec && !is_monitors(point);
    let lives: &[_] = if everything() { &[LIFE, STOPPED, REMOVED] } else { &[STOPPED, LIFE] };
    let places = places(&mut kubelet, lives, ending).await;
    for needed in ["store.sandboxes.remove.before", "undo.detach.after", "images.ForgetContainer"] {
        assert!(places.iter().any(|p| p.point == needed), "{needed} is gone: {places:#?}");
    }
    survive_all(&mut kubelet, &places, Fault::Kill).await;
}

#[tokio::test]
async fn a_daemon_killed_at_any_point_of_a_pull_or_a_removal_of_an_image_is_survived() {
    let mut kubelet = new_kubelet().await;
    let places = places(&mut kubelet, &[IMAGE], |_, _| true).await;
    for needed in ["images.Place", "images.RecordName", "images.ForgetImage"] {
        assert!(places.iter().any(|p| p.point == needed), "{needed} is gone: {places:#?}");
    }
    survive_all(&mut kubelet, &places, Fault::Kill).await;
}

#[tokio::test]
async fn a_full_or_broken_disk_at_any_point_is_told_and_leaves_nothing() {
    let mut kubelet = new_kubelet().await;
    let fails = |_, point: &str| !is_monitors(point);
    let places = places(&mut kubelet, &[LIFE, IMAGE], fails).await;
    survive_all(&mut kubelet, &places, Fault::NoSpace).await;
    if everything() {
        survive_all(&mut kubelet, &places, Fault::Broken).await;
    }
}

#[tokio::test]
async fn a_monitor_killed_at_any_point_takes_its_pod_with_it_and_no_other() {
    let mut kubelet = new_kubelet().await;
    let other = testkit::pod(&kubelet.around.daemon, "bystander");
    let other_id = kubelet.around.daemon.run_pod(&other, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &kubelet.around.image);
    let bystander = kubelet.around.daemon.launch(&other_id, &other, &sleeper).await.unwrap();
    kubelet.remember_files();
    let places = places(&mut kubelet, &[LIFE], |_, point| is_monitors(point)).await;
    for needed in ["monitor.setup.before", "monitor.set-up", "store.exit.put.written"] {
        assert!(places.iter().any(|p| p.point == needed), "{needed} is gone: {places:#?}");
    }
    let mut struck = 0;
    for (number, place) in places.iter().enumerate() {
        struck += usize::from(Box::pin(lose_monitor(&mut kubelet, place, number)).await);
        let status = kubelet.around.daemon.status(&bystander).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning, "{place:?}");
    }
    println!("faults: monitor killed at {} points, {struck} struck", places.len());
    assert!(struck * 10 >= places.len() * 9, "{struck} of {} were reached again", places.len());
    let done = kubelet.around.daemon.exec(&bystander, &["echo", "unharmed"]).await.unwrap();
    assert_eq!(&done.stdout[..], b"unharmed\n");
}

/// A life whose monitor is killed at a place; whether it was.
async fn lose_monitor(kubelet: &mut Kubelet, place: &Place, number: usize) -> bool {
    let Place { calls, at, point, nth } = place;
    let what = format!("monitor killed at {point} ({nth}) of {:?}", calls[*at]);
    println!("{what}");
    kubelet.next_pod(&format!("monitor-{number}"));
    for &call in &calls[..*at] {
        kubelet.must(call).await;
    }
    let faults = kubelet.around.daemon.faults();
    faults.arm(point, *nth, "kill");
    // It may be answered before its monitor dies.
    let answer = kubelet.call(calls[*at]).await;
    let struck = testkit::eventually(BEHIND, || faults.has_struck().then_some(())).is_some();
    faults.disarm();
    if calls[*at] == Call::Run {
        assert!(!struck || answer.is_err(), "{what}: {answer:?}");
        kubelet.must(Call::Run).await;
    } else if struck {
        over(kubelet, &what).await;
    }
    for call in [Call::StopPod, Call::RemovePod] {
        let answer = kubelet.call(call).await;
        answer.unwrap_or_else(|status| panic!("{what}: {call:?}: {status}"));
    }
    kubelet.nothing_is_left(&what).await;
    struck
}

/// A pod that has lost its monitor is not ready or gone, and its container has ended with a reason.
async fn over(kubelet: &Kubelet, what: &str) {
    let daemon = &kubelet.around.daemon;
    testkit::until(format!("{what}: it is told"), Duration::from_secs(20), async || {
        match daemon.pod_status(&kubelet.pod_id).await {
            Ok(status) => (status.state() == PodSandboxState::SandboxNotready).then_some(()),
            Err(status) => (status.code() == Code::NotFound).then_some(()),
        }
    })
    .await;
    if kubelet.container_id.is_empty() {
        return;
    }
    match daemon.status(&kubelet.container_id).await {
        Err(status) => assert_eq!(status.code(), Code::NotFound, "{what}: {status}"),
        Ok(status) => {
            assert_eq!(status.state(), ContainerState::ContainerExited, "{what}: {status:?}");
            assert!(!status.reason.is_empty(), "{what}: {status:?}");
            // An end that was recorded is told as it was; any other, by a reason that says who knows.
            let recorded = matches!(status.exit_code, 7 | 137) && status.reason == "Error";
            assert!(recorded || status.reason == "ContainerStatusUnknown", "{what}: {status:?}");
        }
    }
}
