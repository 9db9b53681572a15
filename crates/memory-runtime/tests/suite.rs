//! The suite holds for the runtime in memory, and notices every fault of it.

#![expect(clippy::unwrap_used, reason = "a test's set-up that fails fails the test")]

use std::path::PathBuf;

use conformance::{Form, Level, Options, Outcome, Report, Suite};
use memory_runtime::{Fault, MemoryRuntime, Script};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

/// A runtime that serves until this value is dropped.
struct Served {
    runtime: MemoryRuntime,
    channel: Channel,
    directory: tempfile::TempDir,
    stop: CancellationToken,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let socket: PathBuf = directory.path().join("sock");
    let runtime = MemoryRuntime::new(Script::default());
    let stop = CancellationToken::new();
    let serving = {
        let (runtime, socket, stop) = (runtime.clone(), socket.clone(), stop.clone());
        async move { runtime.serve(&socket, stop).await }
    };
    tokio::spawn(serving);
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
    let channel = loop {
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    Served { runtime, channel, directory, stop }
}

/// A file that stands for busybox: nothing here is executed.
fn options(served: &Served, patterns: &[&str]) -> Options {
    let busybox = served.directory.path().join("busybox");
    std::fs::write(&busybox, "no program").unwrap();
    Options {
        patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
        level: Level::Program,
        jobs: 16,
        directory: Some(served.directory.path().to_owned()),
        busybox,
        ..Options::default()
    }
}

async fn run(served: &Served, patterns: &[&str]) -> Report {
    let suite = Suite::prepare(served.channel.clone(), options(served, patterns)).await.unwrap();
    let report = suite.run(|_| {}).await;
    suite.finish().await.unwrap();
    report
}

#[tokio::test]
async fn every_rule_that_needs_no_kernel_is_held() {
    let served = serve().await;
    let report = run(&served, &[]).await;
    assert_eq!(report.count(Outcome::Failed), 0, "{}", report.print(Form::Text));
    assert!(report.count(Outcome::Passed) >= 300, "{}", report.print(Form::Text));
}

/// Where each fault must show.
fn shows(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::ApiVersion => &["runtime/api-version"],
        Fault::NotReady => &["runtime/is-ready"],
        Fault::NeverVerbose | Fault::AlwaysVerbose => &["*/status-*"],
        Fault::UnknownHandler => &["handlers"],
        Fault::WrongCode => &["container-errors/*-unknown"],
        Fault::StopPodUnknown | Fault::RemovePodUnknown => &["sandbox/*unknown"],
        Fault::StopUnknown => &["stop/unknown"],
        Fault::RemoveUnknown => &["container/remove-unknown"],
        Fault::PodLabelLost => &["sandbox/labels-come-back"],
        Fault::PodAnnotationLost => &["sandbox/annotations-come-back"],
        Fault::LabelLost => &["container/labels-come-back"],
        Fault::AnnotationLost => &["container/annotations-come-back"],
        Fault::ListLabelsLost => &["container-list/*true"],
        Fault::AttemptLost => &["sandbox/metadata-comes-back"],
        Fault::ExitCodeZero | Fault::ExitCodeCut | Fault::WrongReason => &["container/exit-*"],
        Fault::NoFinishTime => &["container/end-time"],
        Fault::Seconds => &["*/creation-time"],
        Fault::LogRepeats => &["log/one-line"],
        Fault::LogEndLost => &["log/no-newline"],
        Fault::LogStderrLost => &["log/stderr"],
        Fault::LogUncut => &["log/piece-length"],
        Fault::LogPath => &["container/log-path"],
        Fault::ReopenIgnored | Fault::ReopenRepeats => &["log/reopen"],
        Fault::ExecMixes => &["exec-sync/stderr"],
        Fault::ExecCodeLost => &["exec-sync/exit-code"],
        Fault::ExecTimeout => &["exec-sync/timeout"],
        Fault::ExecLogged => &["exec-sync/not-logged"],
        Fault::StreamCodeLost => &["exec/exit-code-*"],
        Fault::StreamInputLost => &["exec/stdin-*"],
        Fault::FilterLabels => &["*-list/by-label*"],
        Fault::FilterState => &["*-list/by-state*"],
        Fault::FilterId => &["*-list/by-id"],
        Fault::FilterPod => &["container-list/by-pod"],
        Fault::StreamRepeats => &["*-list/stream-by-id"],
        Fault::ExitedUnlisted => &["container-list/has-all"],
        Fault::RunTwice | Fault::RunRefused => &["retry/run"],
        Fault::CreateTwice => &["retry/create"],
        Fault::StopLeavesReady => &["sandbox/stop-ends-it"],
        Fault::StopLeavesContainers => &["sandbox/stop-ends-containers"],
        Fault::RemoveLeavesContainers => &["sandbox/remove-takes-containers"],
        Fault::CreateInStopped => &["sandbox-errors/create-in-stopped"],
        Fault::StartTwice => &["container/runs-once"],
        Fault::StopAtOnce => &["stop/keeps-the-exit-code"],
        Fault::StopSignal => &["stop/*-signal"],
        Fault::ArgsIgnored => &["command/args-*"],
        Fault::EnvironmentLost => &["environment/of-the-request"],
        Fault::ImageEnvironmentWins => &["environment/request-wins"],
        Fault::AbsentImage => &["image-list/status-absent"],
        Fault::TagsLost => &["image-pull/two-*"],
        Fault::DigestsLost => &["image-pull/repo-digests"],
        Fault::UserZero => &["image-pull/user-*"],
        Fault::CorruptLayers => &["image-errors/corrupt-layer"],
        Fault::AuthIgnored => &["image-pull/with-*"],
        Fault::NamesStay => &["image-remove/all-names"],
        Fault::ManifestId => &["image-pull/id-is-the-config"],
        Fault::EventLost | Fault::EventRepeats => &["events/in-order"],
        Fault::EventBare => &["events/with-*"],
        Fault::StatsBare => &["stats/*attributes"],
        Fault::StatsEnded => &["stats/*without-ended", "metrics/without-ended"],
        Fault::MetricUndescribed | Fault::MetricLabels => &["metrics/*"],
        Fault::SameAddress => &["network/addresses-differ"],
        Fault::SecretTold => &["container-errors/errors-keep-secrets"],
        Fault::PortUnchecked => &["sandbox-errors/*-port"],
    }
}

#[tokio::test]
async fn every_fault_makes_a_case_fail() {
    let served = serve().await;
    let mut unseen = Vec::new();
    for fault in Fault::ALL {
        served.runtime.faults().on(*fault);
        let suite = Suite::prepare(served.channel.clone(), options(&served, shows(*fault))).await;
        let report = suite.unwrap().run(|_| {}).await;
        served.runtime.faults().off();
        if report.count(Outcome::Failed) == 0 {
            unseen.push(format!("{}: {}", fault.name(), report.print(Form::Text)));
        }
    }
    assert!(unseen.is_empty(), "not noticed:\n{}", unseen.join("\n"));
}

#[tokio::test]
async fn five_thousand_pods_are_listed() {
    use cri_api::v1::runtime_service_client::RuntimeServiceClient;
    use cri_api::v1::*;
    let served = serve().await;
    let mut runtime =
        RuntimeServiceClient::new(served.channel.clone()).max_decoding_message_size(64 << 20);
    for number in 0..5000 {
        let metadata = PodSandboxMetadata {
            name: format!("pod-{number}"),
            uid: number.to_string(),
            namespace: "load".to_owned(),
            attempt: 0,
        };
        let config = Some(PodSandboxConfig { metadata: Some(metadata), ..Default::default() });
        let request = RunPodSandboxRequest { config, runtime_handler: String::new() };
        runtime.run_pod_sandbox(request).await.unwrap();
    }
    let list = runtime.list_pod_sandbox(ListPodSandboxRequest { filter: None }).await.unwrap();
    assert_eq!(list.into_inner().items.len(), 5000);
    let request = StreamPodSandboxesRequest { filter: None };
    let mut stream = runtime.stream_pod_sandboxes(request).await.unwrap().into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await.unwrap() {
        parts.push(part.pod_sandboxes.len());
    }
    assert_eq!(parts, [1000; 5]);
}
