//! The command line on a runtime that does not answer.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use testkit::eventually;

use crate::around::{text, with_pod};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_runtime_that_never_answers_is_told_of_in_time() {
    let directory = std::env::temp_dir().join(format!("isopod-silent-{}", std::process::id()));
    std::fs::create_dir(&directory).unwrap();
    let socket = directory.join("s.sock");
    // The kernel takes connections up, and nobody ever reads of them.
    let listener = UnixListener::bind(&socket).unwrap();
    let verbs = [
        &["status"][..],
        &["stats"],
        &["metrics"],
        &["metrics", "--pods"],
        &["explain", "h1"],
        &["operations"],
        &["ps"],
        &["pods"],
        &["images"],
        &["version"],
        &["inspect", "c"],
        &["exec", "c", "true"],
        &["top", "--once"],
    ];
    let begun = Instant::now();
    let children = verbs.map(|verb| {
        let mut command = Command::new(testkit::program());
        command.args(["--request-timeout", "300ms"]).arg("--endpoint").arg(&socket).args(verb);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        (verb, command.spawn().unwrap())
    });
    for (verb, child) in children {
        let done = child.wait_with_output().unwrap();
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{verb:?}: {said}");
        assert!(said.contains("does not answer: nothing came within 300ms"), "{verb:?}: {said}");
        assert!(said.contains("--request-timeout"), "{verb:?}: {said}");
    }
    assert!(begun.elapsed() < testkit::here(PATIENCE), "{:?}", begun.elapsed());
    drop(listener);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// A program on a terminal that nobody has told its size, and what it has drawn.
struct OnTerminal {
    child: Child,
    keyboard: File,
    drawn: Arc<Mutex<String>>,
}

impl OnTerminal {
    fn start(mut command: Command) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let side = || Stdio::from(rustix::fs::open(&name, flags, Mode::empty()).unwrap());
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        // Its sides of the terminal are open in the child alone.
        drop(command);
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let drawn = Arc::new(Mutex::new(String::new()));
        let draws = Arc::clone(&drawn);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            // The end is an error, EIO.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                draws.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { child, keyboard, drawn }
    }

    fn waits_for(&self, part: &str) {
        let seen = || self.drawn.lock().unwrap().contains(part).then_some(());
        let drawn = || self.drawn.lock().unwrap().clone();
        assert!(eventually(PATIENCE, seen).is_some(), "no {part:?} in\n{}", drawn());
    }

    fn ends(&mut self) -> Option<i32> {
        let ended = eventually(PATIENCE, || self.child.try_wait().unwrap());
        if ended.is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
        ended.expect("it does not end").code()
    }
}

/// A process that is stopped until the value ends.
struct Stopped(String);

impl Stopped {
    fn stop(pid: u32) -> Self {
        signal("-STOP", &pid.to_string());
        Self(pid.to_string())
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", &self.0);
    }
}

fn signal(name: &str, pid: &str) {
    assert!(Command::new("kill").args([name, pid]).status().unwrap().success());
}

#[tokio::test]
async fn top_ends_and_complains_while_the_daemon_hangs() {
    let with = with_pod().await;
    with.launch(&testkit::sleeper("main", &with.around.image)).await;
    let daemon = with.daemon();
    let top = || OnTerminal::start(daemon.cli(&["top", "--interval", "1"]));
    let [mut by_key, mut by_signal] = [top(), top()];
    for one in [&by_key, &by_signal] {
        one.waits_for("tests/pod/main");
        one.waits_for("WAIT% cpu");
    }
    let stopped = Stopped::stop(daemon.pid());
    for one in [&by_key, &by_signal] {
        one.waits_for("NO ANSWER from the runtime for ");
    }
    by_key.keyboard.write_all(b"q").unwrap();
    signal("-TERM", &by_signal.child.id().to_string());
    assert_eq!(by_key.ends(), Some(0));
    assert_eq!(by_signal.ends(), Some(143));
    by_signal.waits_for("\x1b[?1049l");
    drop(stopped);
}
