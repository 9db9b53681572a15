//! `isopod exec`, `attach`, `port-forward` and `cp`.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use testkit::Daemon;

use crate::around::{WithPod, text, with_input, with_pod};

const TRANSPORTS: [&str; 3] = ["--transport=auto", "--transport=websocket", "--transport=spdy"];

fn run(daemon: &Daemon, args: &[&str], input: &[u8]) -> Output {
    with_input(daemon.cli(args), input)
}

async fn with_sleeper() -> WithPod {
    let with = with_pod().await;
    with.launch(&testkit::sleeper("main", &with.around.image)).await;
    with
}

fn signal(child: &Child, name: &str) {
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill").args([name, &id]).status().unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn exec_passes_input_on_and_ends_as_its_command_does() {
    let with = with_sleeper().await;
    for transport in TRANSPORTS {
        let script = "cat; echo err >&2; exit 42";
        let args = ["exec", transport, "-i", "main", "sh", "-c", script];
        let input = b"line\n".repeat(50_000);
        let done = run(with.daemon(), &args, &input);
        assert_eq!(done.status.code(), Some(42), "{}", text(&done.stderr));
        assert!(done.stdout == input, "{} bytes", done.stdout.len());
        assert_eq!(text(&done.stderr), "err\n");
        let args = ["exec", transport, "-t", "main", "sh", "-c", "test -t 1 && echo terminal"];
        let done = run(with.daemon(), &args, b"");
        assert_eq!(text(&done.stdout), "terminal\r\n", "{}", text(&done.stderr));
        let done = run(with.daemon(), &["exec", transport, "main", "/no/such/program"], b"");
        assert_eq!(done.status.code(), Some(1));
        assert!(text(&done.stderr).contains("/no/such/program"), "{}", text(&done.stderr));
    }
}

#[tokio::test]
async fn a_signal_ends_exec_and_its_command() {
    let with = with_sleeper().await;
    for transport in TRANSPORTS {
        let script = "exec 2>/dev/null; trap 'touch /tmp/hup; exit' HUP; echo up; while :; do sleep 1000 & wait $!; done";
        let mut command = with.daemon().cli(&["exec", transport, "main", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        signal(&child, "-TERM");
        assert_eq!(child.wait().unwrap().code(), Some(143));
        testkit::until("its command was told", Duration::from_secs(30), async || {
            let args = ["exec", transport, "main", "rm", "/tmp/hup"];
            run(with.daemon(), &args, b"").status.success().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn exec_and_its_command_end_when_nobody_reads_what_they_print() {
    let with = with_sleeper().await;
    for transport in TRANSPORTS {
        let mut command = with.daemon().cli(&["exec", transport, "main", "yes"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "y\n");
        child.wait().unwrap();
        testkit::until("its command was told", Duration::from_secs(30), async || {
            let said = run(with.daemon(), &["exec", "main", "ps", "-o", "args"], b"").stdout;
            (!text(&said).lines().any(|line| line == "yes")).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn attach_shows_what_a_container_writes_until_it_ends() {
    let with = with_pod().await;
    for (name, transport) in ["first", "second", "third"].into_iter().zip(TRANSPORTS) {
        let mut config = with.script(name, "cat; echo over");
        (config.stdin, config.stdin_once) = (true, true);
        with.launch(&config).await;
        let done = run(with.daemon(), &["attach", transport, "-i", name], b"words\n");
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert_eq!(text(&done.stdout), "words\nover\n");
        let done = run(with.daemon(), &["attach", transport, name], b"");
        assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
    }
}

#[tokio::test]
async fn port_forward_says_its_port_and_carries() {
    let with = with_sleeper().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let remote = format!(":{}", listener.local_addr().unwrap().port());
    for transport in TRANSPORTS {
        let mut command = with.daemon().cli(&["port-forward", transport, "pod", &remote]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let local = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("{line:?}"));
        let mut near = std::net::TcpStream::connect(local).unwrap();
        near.write_all(b"ping").unwrap();
        near.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut got = String::new();
        far.read_to_string(&mut got).unwrap();
        far.write_all(b"pong").unwrap();
        drop(far);
        near.read_to_string(&mut got).unwrap();
        assert_eq!(got, "pingpong");
        signal(&child, "-INT");
        assert_eq!(child.wait().unwrap().code(), Some(130));
    }
}

#[tokio::test]
async fn cp_brings_files_in_and_out() {
    let with = with_sleeper().await;
    let here = with.daemon().directory().join("here");
    std::fs::create_dir_all(here.join("tree/below")).unwrap();
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(here.join("tree/below/large"), &large).unwrap();
    std::os::unix::fs::symlink("below/large", here.join("tree/link")).unwrap();
    let path = |name: &str| here.join(name).to_string_lossy().into_owned();
    for transport in TRANSPORTS {
        let back = path(&format!("back{transport}"));
        let cp = |from: &str, to: &str| run(with.daemon(), &["cp", transport, from, to], b"");
        let done = cp(&path("tree"), "main:/tmp");
        assert!(done.status.success(), "{}", text(&done.stderr));
        let done = cp("main:/tmp/tree", &back);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(std::fs::read(format!("{back}/below/large")).unwrap() == large);
        let link = std::fs::read_link(format!("{back}/link")).unwrap();
        assert_eq!(link, std::path::Path::new("below/large"));
        let done = cp("main:/no/such/file", &path("nothing"));
        assert_eq!(done.status.code(), Some(1));
        assert!(text(&done.stderr).contains("tar"), "{}", text(&done.stderr));
        let done = cp(&path("tree/below/large"), "main:/tmp/renamed");
        assert!(done.status.success(), "{}", text(&done.stderr));
        let done = run(with.daemon(), &["exec", "main", "cat", "/tmp/renamed"], b"");
        assert!(done.stdout == large);
        let done =
            run(with.daemon(), &["exec", "main", "rm", "-r", "/tmp/renamed", "/tmp/tree"], b"");
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
}
