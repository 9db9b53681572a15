//! Streams by clients that are not ours: npm's `ws` and `spdy-transport`, driven by `integration/clients`.
//!
//! `cargo xtask setup` puts their packages into the target directory. Where that cannot be done, `cargo xtask test`
//! leaves these tests out, and says so and why.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use cri_api::v1::{ExecRequest, PortForwardRequest};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::around::{WithPod, text, with_pod};
use crate::streaming::echo;

const SOON: Duration = Duration::from_secs(60);
/// More than any buffer on the way holds, and no multiple of one.
const MUCH: usize = 3_000_001;

/// The packages.
fn packages() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let found = program.ancestors().map(|above| above.join("streaming-clients"));
    let found = found.into_iter().find(|place| place.join("installed.json").exists());
    let found = found.expect("streaming-clients in the target directory, by `cargo xtask setup`");
    found.join("node_modules")
}

/// What a client saw, as it tells it.
async fn client(packages: &PathBuf, name: &str, url: &str, plan: &Value) -> Value {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name);
    let mut node = Command::new("node");
    node.arg(script).arg(url).arg(plan.to_string()).env("NODE_PATH", packages);
    node.stdin(Stdio::null()).kill_on_drop(true);
    let done = tokio::time::timeout(SOON, node.output()).await;
    let done = done.unwrap_or_else(|_| panic!("{name} does not end: {plan}")).unwrap();
    assert!(done.status.success(), "{name}: {}", text(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

async fn sleeping(with: &WithPod) -> String {
    with.launch(&testkit::sleeper("main", &with.around.image)).await
}

async fn exec_url(with: &WithPod, id: &str, script: &str, tty: bool) -> String {
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    let container_id = id.to_owned();
    let request = ExecRequest { container_id, cmd, tty, stdin: true, stdout: true, stderr: !tty };
    with.daemon().runtime().exec(request).await.unwrap().into_inner().url
}

/// The exit code where `v4.channel.k8s.io` and later have it.
fn code(status: &Value) -> &str {
    assert_eq!(status["reason"], "NonZeroExitCode", "{status}");
    status["details"]["causes"][0]["message"].as_str().unwrap()
}

#[tokio::test]
async fn ws_of_npm_reads_writes_closes_its_input_and_is_told_the_code() {
    let packages = packages();
    let with = with_pod().await;
    let id = sleeping(&with).await;
    for length in [5, MUCH] {
        let url = exec_url(&with, &id, "cat; echo err >&2; exit 3", false).await;
        let plan = json!({ "protocols": ["v5.channel.k8s.io"], "input": length, "close": true });
        let seen = client(&packages, "websocket.js", &url, &plan).await;
        assert_eq!(seen["protocol"], "v5.channel.k8s.io");
        if length == MUCH {
            assert_eq!(seen["stdout"], json!({ "length": length, "isPattern": true }));
        } else {
            assert_eq!(seen["stdout"], "\0\u{1}\u{2}\u{3}\u{4}");
        }
        assert_eq!((&seen["stderr"], &seen["code"]), (&json!("err\n"), &json!(1000)));
        assert_eq!(code(&seen["status"]), "3");
    }
    // Before version 5 nothing closes an input; the output is the same.
    let url = exec_url(&with, &id, "head -c 5; printf :; exec cat /dev/null", false).await;
    let plan = json!({ "protocols": ["v9.channel.k8s.io", "v4.channel.k8s.io"], "input": "input" });
    let seen = client(&packages, "websocket.js", &url, &plan).await;
    assert_eq!(
        (&seen["protocol"], &seen["stdout"]),
        (&json!("v4.channel.k8s.io"), &json!("input:"))
    );
    assert_eq!(seen["status"]["status"], "Success", "{seen}");
}

#[tokio::test]
async fn ws_of_npm_resizes_a_terminal() {
    let packages = packages();
    let with = with_pod().await;
    let id = sleeping(&with).await;
    let looks = "until busybox stty -a | grep -q 'rows 42; columns 102'; do sleep 0.02; done";
    let script = format!("echo ready; {looks}; echo seen; read x; echo got $x; exit 7");
    let url = exec_url(&with, &id, &script, true).await;
    let plan = json!({
        "protocols": ["v5.channel.k8s.io"], "sizes": [[101, 41], [102, 42]], "input": "word\r", "until": "seen",
    });
    let seen = client(&packages, "websocket.js", &url, &plan).await;
    assert_eq!(seen["stdout"], "ready\r\nseen\r\nword\r\ngot word\r\n");
    assert_eq!(code(&seen["status"]), "7");
}

#[tokio::test]
async fn spdy_transport_of_npm_runs_a_command() {
    let packages = packages();
    let with = with_pod().await;
    let id = sleeping(&with).await;
    let url = exec_url(&with, &id, "cat; echo err >&2; exit 3", false).await;
    let plan = json!({
        "protocols": ["v9.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io"],
        "streams": ["stdin", "stdout", "stderr"], "input": MUCH,
    });
    let seen = client(&packages, "spdy.js", &url, &plan).await;
    assert_eq!(seen["protocol"], "v4.channel.k8s.io");
    assert_eq!(seen["stdout"], json!({ "length": MUCH, "isPattern": true }));
    assert_eq!(seen["stderr"], "err\n");
    assert_eq!(code(&serde_json::from_str(seen["status"].as_str().unwrap()).unwrap()), "3");

    let looks = "until busybox stty -a | grep -q 'rows 42; columns 102'; do sleep 0.02; done";
    let url = exec_url(&with, &id, &format!("{looks}; echo seen"), true).await;
    let plan = json!({
        "protocols": ["v4.channel.k8s.io"], "streams": ["stdin", "stdout", "resize"],
        "sizes": [[101, 41], [102, 42]], "input": "",
    });
    let seen = client(&packages, "spdy.js", &url, &plan).await;
    assert_eq!(seen["stdout"], "seen\r\n", "{seen}");
}

#[tokio::test]
async fn spdy_transport_of_npm_forwards_ports() {
    let packages = packages();
    let with = with_pod().await;
    let port = echo("127.0.0.1").await;
    let request = PortForwardRequest { pod_sandbox_id: with.pod_id.clone(), port: vec![] };
    let answer = with.daemon().runtime().port_forward(request).await.unwrap().into_inner();
    let plan = json!({ "ports": [port, 1, port], "input": MUCH });
    let seen = client(&packages, "spdy.js", &answer.url, &plan).await;
    assert_eq!(seen["protocol"], "portforward.k8s.io");
    for which in [0, 2] {
        let one = &seen["ports"][which];
        assert_eq!(one["bytes"], json!({ "length": MUCH, "isPattern": true }), "{one}");
        assert_eq!(one["failure"], "");
    }
    let refused = seen["ports"][1]["failure"].as_str().unwrap();
    assert!(refused.contains("refused"), "{refused}");
}
