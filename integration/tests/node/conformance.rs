//! The suite that other runtimes are tried with, on the daemon.

use std::sync::{Arc, Mutex};

use conformance::{Form, Options, Outcome, Restart, Suite};
use testkit::{Daemon, Network, Setup};

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
    let options = Options { directory, cgroup_parent, jobs: 4, restart, ..Options::default() };
    let suite = Suite::prepare(channel, options).await.unwrap();
    let report = suite.run(|_| {}).await;
    suite.finish().await.unwrap();
    println!("{}", report.print(Form::Text));
    assert_eq!(report.count(Outcome::Failed), 0, "{}", report.print(Form::Text));
    assert!(report.count(Outcome::Passed) >= 600, "{}", report.print(Form::Text));
}
