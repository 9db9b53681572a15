//! The runtime that the guide is about passes the part of the suite that the guide names.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use conformance::{Form, Level, Options, Outcome, Suite};
use tonic::transport::Endpoint;

/// The part of the suite that docs/guide/runtime.md names.
const PART: [&str; 6] = [
    "sandbox",
    "sandbox-list",
    "container-list",
    "container/exit-*",
    "exec-sync/std*",
    "log/*line*",
];

struct Runs(Child);

impl Drop for Runs {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example beside this test's program, where cargo builds examples for tests.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    own.ancestors().nth(2).expect("it is in deps").join("examples/afternoon")
}

#[tokio::test]
async fn the_runtime_of_the_guide_passes_its_part_of_the_suite() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    let child = Command::new(program()).arg(&socket).stdin(Stdio::null()).spawn();
    let mut runs = Runs(child.expect("cargo builds examples before it runs tests"));
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
    let channel = loop {
        assert!(runs.0.try_wait().unwrap().is_none(), "it ended");
        match endpoint.connect().await {
            Ok(channel) => break channel,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let busybox = directory.path().join("busybox");
    std::fs::write(&busybox, "no program").unwrap();
    let options = Options {
        patterns: PART.map(str::to_owned).to_vec(),
        level: Level::Program,
        directory: Some(directory.path().to_owned()),
        busybox,
        ..Options::default()
    };
    let suite = Suite::prepare(channel, options).await.unwrap();
    let report = suite.run(|_| {}).await;
    suite.finish().await.unwrap();
    assert_eq!(report.count(Outcome::Failed), 0, "{}", report.print(Form::Text));
    assert!(report.count(Outcome::Passed) >= 50, "{}", report.print(Form::Text));
}
