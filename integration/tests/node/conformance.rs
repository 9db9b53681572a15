//! The suite that other runtimes are tried with, on the daemon.

use std::sync::{Arc, Mutex};

use conformance::{Form, Options, Outcome, Restart, Suite};
use testkit::{Daemon, Network, Setup};

/// Groups of the suite that are about what a monitor does.
const PROGRAMS: [&str; 6] = ["attach", "command", "exec-sync", "log", "stop", "user"];

/// Kills the daemon and starts it again.
fn restart(daemon: &Arc<Mutex<Daemon>>) -> Restart {
    let daemon = Arc::clone(daemon);
    Restart(Arc::new(move || {
        let daemon = Arc::clone(&daemon);
        Box::pin(async move {
            let again = tokio::task::spawn_blocking(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.map_err(|e| e.to_string())?;
                let mut daemon = daemon.lock().map_err(|e| e.to_string())?;
                daemon.kill();
                runtime.block_on(daemon.start());
                Ok(())
            });
            again.await.unwrap_or_else(|e| Err(e.to_string()))
        })
    }))
}

#[tokio::test]
async fn every_rule_of_the_suite_is_held() {
    testkit::isolate_network();
    let daemon = Setup::new().network(Network::Bridge).start().await;
    let (channel, cgroup_parent) = (daemon.channel(), daemon.cgroup());
    let directory = Some(daemon.directory().to_owned());
    let daemon = Arc::new(Mutex::new(daemon));
    let restart = Some(restart(&daemon));
    let patience = testkit::here(Options::default().patience);
    let options =
        Options { directory, cgroup_parent, jobs: 4, patience, restart, ..Options::default() };
    let suite = Suite::prepare(channel, options).await.unwrap();
    let report = suite.run(|_| {}).await;
    suite.finish().await.unwrap();
    println!("{}", report.print(Form::Text));
    assert_eq!(report.count(Outcome::Failed), 0, "{}", report.print(Form::Text));
    assert!(report.count(Outcome::Passed) >= 600, "{}", report.print(Form::Text));
}

/// What other tests drive is not optimised, and its monitor is not static.
#[tokio::test]
async fn the_monitor_as_it_is_shipped_holds_the_rules_of_programs() {
    testkit::isolate_network();
    let monitor = format!("[monitor]\nprogram = \"{}\"", testkit::shipped_monitor().display());
    let daemon = Setup::new().network(Network::Bridge).toml(&monitor).start().await;
    let options = Options {
        directory: Some(daemon.directory().to_owned()),
        cgroup_parent: daemon.cgroup(),
        patterns: PROGRAMS.map(str::to_owned).to_vec(),
        jobs: 4,
        ..Options::default()
    };
    let suite = Suite::prepare(daemon.channel(), options).await.unwrap();
    let report = suite.run(|_| {}).await;
    suite.finish().await.unwrap();
    assert_eq!(report.count(Outcome::Failed), 0, "{}", report.print(Form::Text));
    assert!(report.count(Outcome::Passed) >= 100, "{}", report.print(Form::Text));
}
