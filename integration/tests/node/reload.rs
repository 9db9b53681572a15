//! The configuration of a daemon that runs, and the watchdog that watches it.

use std::os::unix::net::UnixDatagram;
use std::process::Output;
use std::time::Duration;

use testkit::{Daemon, Setup, until};

fn ran(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn write(daemon: &Daemon, text: &str) {
    std::fs::write(daemon.directory().join("config.d/60-later.toml"), text).unwrap();
}

#[tokio::test]
async fn a_reload_takes_up_what_it_can_and_names_the_rest() {
    testkit::isolate_network();
    let daemon = Setup::new().start().await;
    let reload = || daemon.cli(&["reload"]).output().unwrap();
    assert_eq!(ran(&reload()), "nothing has changed\n");
    write(&daemon, "log.level = \"info\"\npods.shm_size = \"1MiB\"\n");
    let said = ran(&reload());
    assert!(said.contains("log.level: changed"), "{said}");
    assert!(said.contains("pods.shm_size: counts from the next start"), "{said}");

    // A file with a mistake changes nothing, and both ways say where it is.
    write(&daemon, "log.level = \"debug\"\nlog.levle = 1\n");
    let refused = reload();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("60-later.toml:2"), "{said}");
    daemon.hang_up();
    until("the mistake is logged", Duration::from_secs(30), async || {
        daemon.log().contains("nothing changes").then_some(())
    })
    .await;
    write(&daemon, "log.level = \"info\"\npods.shm_size = \"1MiB\"\n");
    assert_eq!(ran(&reload()), "nothing has changed\n", "nothing had been taken up");
}

#[tokio::test]
async fn the_configuration_is_checked_shown_and_explained() {
    testkit::isolate_network();
    let daemon = Setup::new().prepare();
    let file = daemon.directory().join("config.toml").display().to_string();
    let config = |args: &[&str]| daemon.cli(&[&["config"], args].concat()).output().unwrap();
    assert!(ran(&config(&["check", "--config", &file])).starts_with("no mistakes in "));
    let shown = ran(&config(&["show", "--config", &file]));
    assert!(shown.contains("network.mode = \"none\""), "{shown}");
    let explained = ran(&config(&["explain", "--config", &file, "network.mode"]));
    assert!(explained.contains("config.toml:") && explained.contains("bridge"), "{explained}");
    let unknown = config(&["explain", "--config", &file, "netwrok.mode"]);
    assert!(!unknown.status.success());
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(said.contains("did you mean `network.mode`?"), "{said}");
    // The file of defaults is a configuration, and says what counts anyway.
    let defaults = ran(&config(&["default"]));
    let at = daemon.directory().join("defaults.toml");
    std::fs::write(&at, &defaults).unwrap();
    ran(&config(&["check", "--config", at.to_str().unwrap()]));
    assert!(defaults.contains("\nlimits.connections = 1024\n"), "{defaults}");
}

#[tokio::test]
async fn the_watchdog_is_fed_by_a_daemon_that_answers() {
    testkit::isolate_network();
    let daemon = Setup::new().prepare();
    let path = daemon.directory().join("notify");
    let words = UnixDatagram::bind(&path).unwrap();
    words.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = daemon.command();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "1000000");
    let mut process = command.spawn().unwrap();
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let mut word = [0; 64];
        let length = words.recv(&mut word).unwrap();
        heard.push(String::from_utf8_lossy(&word[..length]).into_owned());
    }
    process.kill().unwrap();
    process.wait().unwrap();
    assert_eq!(heard, ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
}
