//! The socket of those who only look.

use std::os::unix::fs::PermissionsExt as _;

use cri_api::v1::image_service_client::ImageServiceClient;
use cri_api::v1::runtime_service_client::RuntimeServiceClient;
use cri_api::v1::{
    ContainerStatusRequest, ExecSyncRequest, GetEventsRequest, ImageSpec,
    ListContainerStatsRequest, ListContainersRequest, ListImagesRequest, PullImageRequest,
    RemoveImageRequest, RunPodSandboxRequest, StatusRequest, StopContainerRequest, VersionRequest,
};
use testkit::Network;
use tonic::{Code, Status};

use crate::around::around;

fn denied(status: &Status, call: &str) {
    assert_eq!(status.code(), Code::PermissionDenied, "{call}: {status}");
    assert!(status.message().contains(call), "{status}");
}

#[tokio::test]
async fn the_read_only_socket_shows_everything_and_changes_nothing() {
    let around = around(|setup| {
        let path = setup.directory().join("look.sock");
        let text = format!(
            "socket.read_only_path = {:?}\nsocket.read_only_mode = \"0666\"",
            path.display().to_string()
        );
        setup.network(Network::None).toml(&text)
    })
    .await;
    let daemon = &around.daemon;
    let path = daemon.directory().join("look.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    let pod = testkit::host_network(testkit::pod(daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &around.image);
    let id = daemon.launch(&pod_id, &pod, &sleeper).await.unwrap();

    let channel = daemon.channel_at(&path);
    let mut runtime = RuntimeServiceClient::new(channel.clone());
    let mut images = ImageServiceClient::new(channel);
    runtime.version(VersionRequest::default()).await.unwrap();
    let status = runtime.status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    assert!(status.status.is_some() && status.info.is_empty(), "{:?}", status.info);
    let listed = runtime.list_containers(ListContainersRequest::default()).await.unwrap();
    assert_eq!(listed.into_inner().containers[0].id, id);
    let stats = runtime.list_container_stats(ListContainerStatsRequest::default()).await.unwrap();
    assert_eq!(stats.into_inner().stats.len(), 1);
    let request = ContainerStatusRequest { container_id: id.clone(), verbose: true };
    let status = runtime.container_status(request).await.unwrap().into_inner();
    assert!(status.status.is_some() && status.info.is_empty(), "no verbose part");
    drop(runtime.get_container_events(GetEventsRequest {}).await.unwrap());
    let all = images.list_images(ListImagesRequest::default()).await.unwrap().into_inner().images;
    assert_eq!(all.len(), 1);

    let request = RunPodSandboxRequest { config: Some(pod), runtime_handler: String::new() };
    denied(&runtime.run_pod_sandbox(request).await.unwrap_err(), "RunPodSandbox");
    let request = StopContainerRequest { container_id: id.clone(), timeout: 0 };
    denied(&runtime.stop_container(request).await.unwrap_err(), "StopContainer");
    let cmd = vec!["true".to_owned()];
    let request = ExecSyncRequest { container_id: id.clone(), cmd, timeout: 0 };
    denied(&runtime.exec_sync(request).await.unwrap_err(), "ExecSync");
    let image = Some(ImageSpec { image: around.image.clone(), ..Default::default() });
    let request = PullImageRequest { image: image.clone(), ..Default::default() };
    denied(&images.pull_image(request).await.unwrap_err(), "PullImage");
    let refused = images.remove_image(RemoveImageRequest { image }).await.unwrap_err();
    denied(&refused, "RemoveImage");
    let reload = daemon.cli(&["--endpoint", path.to_str().unwrap(), "reload"]).output().unwrap();
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(!reload.status.success() && said.contains("ReloadConfig"), "{said}");
    let network = |verb| {
        let args = ["--endpoint", path.to_str().unwrap(), "network", verb];
        let done = daemon.cli(&args).output().unwrap();
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    let (is_shown, said) = network("status");
    assert!(is_shown && said.contains("loopback only"), "{said}");
    for (verb, call) in [("check", "CheckNetworks"), ("gc", "CollectNetworks")] {
        let (is_done, said) = network(verb);
        assert!(!is_done && said.contains(call), "{said}");
    }
    // The container never noticed.
    assert_eq!(
        daemon.status(&id).await.unwrap().state(),
        cri_api::v1::ContainerState::ContainerRunning
    );
}
