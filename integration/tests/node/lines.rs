//! Many containers write fast while the daemon is killed again and again.

use std::time::Duration;

use testkit::Network;

use crate::around::{Gate, around};

const CONTAINERS: usize = 20;
const KILLS: usize = 3;

#[tokio::test]
async fn no_line_is_lost_or_repeated_while_the_daemon_is_killed() {
    let mut around = around(|setup| setup.network(Network::None)).await;
    let gate = Gate::new(&around.daemon);
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    // A look at the gate costs more than a line.
    let script = format!(
        "n=0; while {}; do
        m=0; while [ $m -lt 100 ]; do echo $n; n=$((n+1)); m=$((m+1)); done; done; echo end",
        Gate::CLOSED
    );
    let mut containers = Vec::new();
    for number in 0..CONTAINERS {
        let name = format!("writer-{number}");
        let mut container = testkit::container(&name, &around.image, &["sh", "-c", &script]);
        gate.mount(&mut container);
        containers.push(around.daemon.launch(&pod_id, &pod, &container).await.unwrap());
    }
    let last = around.daemon.status(containers.last().unwrap()).await.unwrap().log_path;
    for _ in 0..KILLS {
        around.daemon.kill();
        let size = || std::fs::metadata(&last).map_or(0, |m| m.len());
        let at_death = size();
        testkit::until("it is written on", Duration::from_secs(20), async || {
            (size() > at_death).then_some(())
        })
        .await;
        around.daemon.start().await;
    }
    gate.open();
    let mut lines = 0;
    for id in &containers {
        let status = around.daemon.ended(id).await;
        assert_eq!(status.exit_code, 0, "{status:?}");
        let text = around.daemon.logged(id).await;
        let mut written: Vec<&str> = text.lines().collect();
        assert_eq!(written.pop(), Some("end"));
        for (n, line) in written.iter().enumerate() {
            assert_eq!(*line, n.to_string(), "{id}: no line is lost or repeated");
        }
        lines += written.len();
    }
    println!("lines: {lines} of {CONTAINERS} containers over {KILLS} kills, none lost or repeated");
}
