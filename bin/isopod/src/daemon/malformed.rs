//! Requests that are not as the CRI wants them, over a unix socket, against services of this process.

use std::sync::Arc;
use std::time::Duration;

use cri_api::v1;
use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_server::Access;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::front::Fronts;
use super::metrics::{Metrics, View};
use super::reload::{Current, Source};
use super::{logging, serve, wiring};
use crate::config::{self, Flags};

/// Services on a socket in a directory of their own; they end with it.
struct Served {
    _directory: TempDir,
    _stop: oneshot::Sender<()>,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

async fn served() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let quoted = |name: &str| format!("{:?}", at(name).display().to_string());
    let text = format!(
        "root = {}\nstate = {}\nmonitor.program = \"/bin/true\"\nnetwork.mode = \"none\"\n\
         network.netns_dir = {}\ncgroup.driver = \"cgroupfs\"\n",
        quoted("root"),
        quoted("state"),
        quoted("netns"),
    );
    let file = at("config.toml");
    std::fs::write(&file, text).unwrap();
    let flags = Flags::default();
    let (config, entries) = config::load(Some(&file), &flags).unwrap();
    let parts = wiring::open(&config).unwrap();
    let log = logging::begin(&config.log);
    let source = Source { file: Some(file), flags };
    let current = Arc::new(Current::new(source, log, parts.store.clone(), entries));
    let metrics = View::new(Metrics::new(), parts.clone(), None, None);
    let cri = serve::services(&parts, &current, metrics, None, None);
    let path = at("i.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (stop, stopped) = oneshot::channel();
    let fronts = Fronts::new(config.limits, Duration::from_secs(1), None);
    tokio::spawn(async move {
        let stopped = async {
            let _ = stopped.await;
        };
        fronts.answer(cri, Access::Full, listener, stopped).await
    });
    let connect = tower::service_fn(move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://isopod.invalid");
    let channel = endpoint.connect_with_connector(connect).await.unwrap();
    Served {
        _directory: directory,
        _stop: stop,
        runtime: RuntimeServiceClient::new(channel.clone())
            .max_encoding_message_size(64 << 20)
            .max_decoding_message_size(64 << 20),
        images: ImageServiceClient::new(channel),
    }
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, words: &str) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().contains(words), "{words:?} is not in {status:?}");
}

fn pod(name: &str) -> Option<v1::PodSandboxConfig> {
    let metadata = v1::PodSandboxMetadata { name: name.into(), ..Default::default() };
    Some(v1::PodSandboxConfig { metadata: Some(metadata), ..Default::default() })
}

#[tokio::test]
async fn malformed_requests_about_pods_name_the_field_and_touch_nothing() {
    let mut served = served().await;
    let runtime = &mut served.runtime;
    let run = |config, handler: &str| v1::RunPodSandboxRequest {
        config,
        runtime_handler: handler.into(),
    };
    let answer = runtime.run_pod_sandbox(run(None, "")).await;
    refused(answer, Code::InvalidArgument, "config is missing");
    let answer = runtime.run_pod_sandbox(run(pod(""), "")).await;
    refused(answer, Code::InvalidArgument, "config.metadata.name is missing");
    let answer = runtime.run_pod_sandbox(run(pod("a"), "no such handler")).await;
    refused(answer, Code::InvalidArgument, "runtime_handler is \"no such handler\"");
    let mut config = pod("a");
    if let Some(config) = &mut config {
        config.port_mappings =
            vec![v1::PortMapping { host_port: 99_999, container_port: 1, ..Default::default() }];
    }
    let answer = runtime.run_pod_sandbox(run(config, "")).await;
    refused(answer, Code::InvalidArgument, "config.port_mappings[0].host_port is 99999");
    let listed = runtime.list_pod_sandbox(v1::ListPodSandboxRequest::default()).await.unwrap();
    assert!(listed.into_inner().items.is_empty());
}

#[tokio::test]
async fn an_object_that_cannot_exist_is_not_found_and_already_gone() {
    let mut served = served().await;
    let runtime = &mut served.runtime;
    for id in ["nobody".to_owned(), "ab".repeat(32)] {
        let request = v1::PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: true };
        refused(runtime.pod_sandbox_status(request).await, Code::NotFound, &id);
        let request = v1::ContainerStatusRequest { container_id: id.clone(), verbose: true };
        refused(runtime.container_status(request).await, Code::NotFound, &id);
        let request = v1::StartContainerRequest { container_id: id.clone() };
        refused(runtime.start_container(request).await, Code::NotFound, &id);
        let request =
            v1::ExecSyncRequest { container_id: id.clone(), cmd: vec!["true".into()], timeout: 0 };
        refused(runtime.exec_sync(request).await, Code::NotFound, &id);
        let request = v1::StopContainerRequest { container_id: id.clone(), timeout: 3 };
        runtime.stop_container(request).await.unwrap();
        let request = v1::RemoveContainerRequest { container_id: id.clone() };
        runtime.remove_container(request).await.unwrap();
        let request = v1::StopPodSandboxRequest { pod_sandbox_id: id.clone() };
        runtime.stop_pod_sandbox(request).await.unwrap();
        let request = v1::RemovePodSandboxRequest { pod_sandbox_id: id };
        runtime.remove_pod_sandbox(request).await.unwrap();
    }
    let request = v1::StopContainerRequest { container_id: String::new(), timeout: 3 };
    refused(
        runtime.stop_container(request).await,
        Code::InvalidArgument,
        "container_id is missing",
    );
}

#[tokio::test]
async fn malformed_requests_about_containers_name_the_field() {
    let mut served = served().await;
    let runtime = &mut served.runtime;
    let id = "ab".repeat(32);
    let create = |config| v1::CreateContainerRequest {
        pod_sandbox_id: "ab".repeat(32),
        config,
        sandbox_config: None,
    };
    let answer = runtime.create_container(create(None)).await;
    refused(answer, Code::InvalidArgument, "config is missing");
    let config = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "c".into(), attempt: 0 }),
        image: Some(v1::ImageSpec { image: "busybox".into(), ..Default::default() }),
        envs: vec![v1::KeyValue { key: "TOKEN".into(), value: "hunter2\0".into() }],
        ..Default::default()
    };
    let status = runtime.create_container(create(Some(config.clone()))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("config.envs[0].value"), "{status:?}");
    assert!(!status.message().contains("hunter2"), "{status:?}");
    let config = v1::ContainerConfig { envs: Vec::new(), ..config };
    let answer = runtime.create_container(create(Some(config))).await;
    refused(answer, Code::NotFound, &id);
    let request = v1::ExecSyncRequest { container_id: id.clone(), cmd: Vec::new(), timeout: 0 };
    refused(runtime.exec_sync(request).await, Code::InvalidArgument, "cmd is missing");
    let request = v1::StopContainerRequest { container_id: id, timeout: -1 };
    refused(runtime.stop_container(request).await, Code::InvalidArgument, "timeout is -1");
}

#[tokio::test]
async fn a_request_of_many_megabytes_is_read_and_one_beyond_the_limit_is_not() {
    let mut served = served().await;
    let with = |bytes: usize| {
        let mut config = pod("").unwrap();
        config.annotations.insert("a".into(), "x".repeat(bytes));
        v1::RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() }
    };
    let answer = served.runtime.run_pod_sandbox(with(15 << 20)).await;
    refused(answer, Code::InvalidArgument, "config.metadata.name is missing");
    let answer = served.runtime.run_pod_sandbox(with(17 << 20)).await;
    refused(answer, Code::OutOfRange, "");
}

#[tokio::test]
async fn what_is_not_there_yet_says_its_name_and_what_is_there_answers() {
    let mut served = served().await;
    let runtime = &mut served.runtime;
    let answer = runtime.checkpoint_pod(v1::CheckpointPodRequest::default()).await;
    refused(answer, Code::Unimplemented, "CheckpointPod");
    let version = runtime.version(v1::VersionRequest::default()).await.unwrap().into_inner();
    assert_eq!(
        (version.runtime_name.as_str(), version.runtime_api_version.as_str()),
        ("isopod", "v1")
    );
    let status = runtime.status(v1::StatusRequest { verbose: true }).await.unwrap().into_inner();
    let conditions: Vec<_> =
        status.status.unwrap().conditions.into_iter().map(|c| (c.r#type, c.status)).collect();
    assert_eq!(conditions, [("RuntimeReady".to_owned(), true), ("NetworkReady".to_owned(), true)]);
    assert!(status.runtime_handlers.iter().any(|handler| handler.name.is_empty()));
    assert!(status.info["config"].contains("/bin/true"));
    let driver = runtime.runtime_config(v1::RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(driver.linux.unwrap().cgroup_driver(), v1::CgroupDriver::Cgroupfs);
}

#[tokio::test]
async fn images_are_named_by_references_and_absent_ones_are_no_error() {
    let mut served = served().await;
    let images = &mut served.images;
    let spec = |image: &str| Some(v1::ImageSpec { image: image.into(), ..Default::default() });
    let answer = images.pull_image(v1::PullImageRequest::default()).await;
    refused(answer, Code::InvalidArgument, "image is missing");
    let request = v1::PullImageRequest { image: spec("Not A Name"), ..Default::default() };
    refused(images.pull_image(request).await, Code::InvalidArgument, "Not A Name");
    let request = v1::ImageStatusRequest { image: spec("busybox"), verbose: true };
    assert!(images.image_status(request).await.unwrap().into_inner().image.is_none());
    images.remove_image(v1::RemoveImageRequest { image: spec("busybox") }).await.unwrap();
    let listed = images.list_images(v1::ListImagesRequest::default()).await.unwrap();
    assert!(listed.into_inner().images.is_empty());
    let info = images.image_fs_info(v1::ImageFsInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(info.image_filesystems.len(), 1);
}
