//! The daemon's own metrics.

use std::path::Path;

use cri_api::v1::ContainerStatusRequest;
use testkit::Network;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::around::around;

async fn get(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: isopod\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The value of the one series that begins so.
fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find(|line| line.starts_with(series));
    let line = line.unwrap_or_else(|| panic!("{series} is not in\n{text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_address_in_a_directory_that_is_not_there_is_refused() {
    let around = around(|setup| setup.network(Network::None)).await;
    let mut daemon = around.daemon;
    assert!(daemon.terminate().success());
    let missing = daemon.directory().join("missing");
    let file = daemon.directory().join("config.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let address = missing.join("m.sock").display().to_string();
    std::fs::write(&file, format!("metrics.address = {address:?}\n{text}")).unwrap();
    let done = daemon.command().output().unwrap();
    assert!(!done.status.success());
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("metrics.address") && said.contains("no directory"), "{said}");
    assert!(!missing.exists());
    std::fs::write(&file, text).unwrap();
    daemon.start().await;
}

#[tokio::test]
async fn calls_operations_and_pulls_are_counted() {
    let around = around(|setup| {
        let path = setup.directory().join("metrics.sock").display().to_string();
        setup.network(Network::None).toml(&format!("metrics.address = {path:?}"))
    })
    .await;
    let daemon = &around.daemon;
    let socket = daemon.directory().join("metrics.sock");
    let pod = testkit::host_network(testkit::pod(daemon, "pod"));
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let sleeper = testkit::sleeper("main", &around.image);
    daemon.launch(&pod_id, &pod, &sleeper).await.unwrap();
    let container_id = "0".repeat(64);
    let request = ContainerStatusRequest { container_id, verbose: false };
    daemon.runtime().container_status(request).await.unwrap_err();

    let answer = get(&socket, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    for (series, least) in [
        ("isopod_calls_total{method=\"RunPodSandbox\",code=\"Ok\"}", 1.0),
        ("isopod_calls_total{method=\"ContainerStatus\",code=\"NotFound\"}", 1.0),
        ("isopod_call_seconds_count{method=\"CreateContainer\"}", 1.0),
        ("isopod_operation_seconds_count{kind=\"RunPodSandbox\",outcome=\"success\"}", 1.0),
        ("isopod_operation_seconds_count{kind=\"PullImage\",outcome=\"success\"}", 1.0),
        ("isopod_phases_total{kind=\"CreateContainer\",phase=\"create\"}", 1.0),
        ("isopod_pulled_bytes_total", 1000.0),
        ("isopod_sandboxes", 1.0),
        ("isopod_containers", 1.0),
        ("isopod_images", 1.0),
        ("isopod_recovered_pods{found=\"alive\"}", 0.0),
        ("isopod_owed", 0.0),
        ("isopod_events_cut_total", 0.0),
        ("process_resident_memory_bytes", 1e6),
        ("process_open_fds", 5.0),
    ] {
        assert!(value(text, series) >= least, "{series} in\n{text}");
    }
    assert!(get(&socket, "/").await.starts_with("HTTP/1.1 404 "));
}
