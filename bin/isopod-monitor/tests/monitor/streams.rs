//! Standard streams, terminals and sockets of containers in a real monitor.

use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use model::{Signal, Stdio};
use monitor_client::api::{AttachEnd, KillScope, TerminalSize};
use monitor_client::{AttachStreams, resize_terminal};

use crate::pod::{Pod, file_with, lines, read_all, read_until, within};

const ALL: AttachStreams = AttachStreams { stdin: true, stdout: true, stderr: true };

fn write(fd: &OwnedFd, text: &str) {
    std::fs::File::from(fd.try_clone().unwrap()).write_all(text.as_bytes()).unwrap();
}

#[tokio::test]
async fn an_attach_that_ends_leaves_the_container_alone_and_another_can_follow() {
    let mut pod = Pod::new().await;
    let mut container = pod
        .container("one", "while read line; do echo got $line; echo err $line >&2; done; echo end");
    container.create.stdio = Stdio { stdin: true, ..Stdio::default() };
    let log = container.log();
    let id = pod.run(container).await;
    let first = within(pod.monitor().attach(id.clone(), ALL)).await.unwrap();
    write(first.stdin.as_ref().unwrap(), "one\n");
    assert_eq!(read_until(first.stdout.as_ref().unwrap(), "one\n").await, "got one\n");
    assert_eq!(read_until(first.stderr.as_ref().unwrap(), "one\n").await, "err one\n");
    within(first.handle.detach()).await.unwrap();
    drop((first.stdin, first.stdout, first.stderr));
    let mut second = within(pod.monitor().attach(id.clone(), ALL)).await.unwrap();
    write(second.stdin.as_ref().unwrap(), "two\n");
    assert_eq!(read_until(second.stdout.as_ref().unwrap(), "two\n").await, "got two\n");
    drop(second.stdin.take());
    within(pod.monitor().close_stdin(id.clone())).await.unwrap();
    assert_eq!(within(read_all(second.stdout.unwrap())).await, "end\n");
    assert_eq!(within(second.handle.ended()).await.unwrap(), AttachEnd::Ended);
    assert_eq!(pod.end_of(&id).await.code, 0);
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(lines(&log).len(), 5, "{log}");
}

#[tokio::test]
async fn a_standard_input_for_one_attach_ends_with_it() {
    let mut pod = Pod::new().await;
    let mut container = pod.container("one", "cat; echo end");
    container.create.stdio = Stdio { stdin: true, stdin_once: true, tty: false };
    let log = container.log();
    let id = pod.run(container).await;
    let streams = AttachStreams { stdin: true, ..AttachStreams::default() };
    let attached = within(pod.monitor().attach(id.clone(), streams)).await.unwrap();
    assert!(attached.stdout.is_none() && attached.stderr.is_none());
    write(attached.stdin.as_ref().unwrap(), "text\n");
    drop(attached);
    assert_eq!(pod.end_of(&id).await.code, 0);
    assert_eq!(lines(&std::fs::read_to_string(log).unwrap()), ["text", "end"]);
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_let_go_and_the_log_is_whole() {
    let mut pod = Pod::new().await;
    let mut container = pod.container(
        "one",
        "read go; dd if=/dev/zero bs=1M count=4 2>/dev/null | tr '\\0' x; echo end",
    );
    container.create.stdio = Stdio { stdin: true, ..Stdio::default() };
    let log = container.log();
    let id = pod.run(container).await;
    let mut slow = within(pod.monitor().attach(id.clone(), ALL)).await.unwrap();
    write(slow.stdin.as_ref().unwrap(), "go\n");
    assert_eq!(within(slow.handle.ended()).await.unwrap(), AttachEnd::TooSlow);
    assert_eq!(pod.end_of(&id).await.code, 0);
    let log = std::fs::read_to_string(log).unwrap();
    let bytes: usize = lines(&log).iter().map(|line| line.matches('x').count()).sum();
    assert_eq!(bytes, 4 << 20);
    let closed = within(pod.monitor().attach(id, ALL)).await.unwrap_err();
    assert_eq!(model::Classified::class(&closed), model::Class::FailedPrecondition);
}

#[tokio::test]
async fn a_reader_that_closes_its_end_is_noticed_without_a_word() {
    let pod = Pod::new().await;
    let id = pod.run(pod.container("one", "sleep 1000")).await;
    let mut attached = within(pod.monitor().attach(id, ALL)).await.unwrap();
    assert!(attached.stdin.is_none(), "it has no standard input");
    drop((attached.stdout.take(), attached.stderr.take()));
    assert_eq!(within(attached.handle.ended()).await.unwrap(), AttachEnd::Closed);
}

#[tokio::test]
async fn a_terminal_is_logged_attached_to_and_resized() {
    let mut pod = Pod::new().await;
    let mut container =
        pod.container("one", "tty; read go; stty size; stat -c %F /dev/console; exit 4");
    container.create.stdio = Stdio { tty: true, stdin: true, stdin_once: false };
    container.spec["process"]["terminal"] = true.into();
    container.spec["process"]["consoleSize"] = serde_json::json!({"height": 10, "width": 20});
    let log = container.log();
    let id = pod.run(container).await;
    file_with(&log, "/dev/pts/0").await;
    let attached = within(pod.monitor().attach(id.clone(), ALL)).await.unwrap();
    assert!(attached.stderr.is_none(), "a terminal is one stream");
    within(pod.monitor().resize(id.clone(), TerminalSize { width: 77, height: 33 })).await.unwrap();
    write(attached.stdin.as_ref().unwrap(), "go\n");
    let seen = read_until(attached.stdout.as_ref().unwrap(), "special file").await;
    assert!(seen.contains("33 77") && seen.contains("character special"), "{seen}");
    assert_eq!(pod.end_of(&id).await.code, 4);
    let error = within(pod.monitor().resize(id, TerminalSize::default())).await.unwrap_err();
    assert_eq!(model::Classified::class(&error), model::Class::FailedPrecondition);
}

#[tokio::test]
async fn an_exec_with_a_terminal_has_it_to_itself() {
    let pod = Pod::new().await;
    let id = pod.run(pod.container("one", "sleep 1000")).await;
    let args = ["sh", "-c", "tty; stty size; read x; stty size; echo got $x; exit 5"]
        .map(str::to_owned)
        .to_vec();
    let exec =
        pod.monitor().exec_with_terminal(id.clone(), args, TerminalSize { width: 40, height: 12 });
    let (mut exec, terminal) = within(exec).await.unwrap();
    let begun = read_until(&terminal, "12 40").await;
    assert!(begun.contains("/dev/pts/"), "{begun}");
    resize_terminal(terminal.as_fd(), TerminalSize { width: 41, height: 13 }).unwrap();
    write(&terminal, "hello\n");
    let ended = read_until(&terminal, "got hello").await;
    assert!(ended.contains("13 41"), "{ended}");
    assert_eq!(within(exec.ended()).await.unwrap(), 5);
    // Closing the terminal hangs up.
    let exec = pod.monitor().exec_with_terminal(id, vec!["cat".into()], TerminalSize::default());
    let (mut exec, terminal) = within(exec).await.unwrap();
    drop(terminal);
    assert_eq!(within(exec.ended()).await.unwrap(), 129);
}

#[tokio::test]
async fn an_exec_tells_its_code_and_is_killed_with_all_that_came_of_it() {
    let pod = Pod::new().await;
    let id = pod.run(pod.container("one", "sleep 1000")).await;
    assert_eq!(
        pod.exec(&id, &["sh", "-c", "echo $PPID; id -u; exit 9"]).await,
        ("0\n0\n".to_owned(), 9)
    );
    let (streams, _output) = crate::pod::streams();
    let missing =
        within(pod.monitor().exec(id.clone(), vec!["/no/such".into()], streams)).await.unwrap_err();
    assert!(missing.to_string().contains("/no/such"), "{missing}");
    let (streams, output) = crate::pod::streams();
    let script = "trap '' HUP TERM; (trap '' HUP TERM; sleep 1000) & echo $!; sleep 1000";
    let args = ["sh", "-c", script].map(str::to_owned).to_vec();
    let mut exec = within(pod.monitor().exec(id.clone(), args, streams)).await.unwrap();
    read_until(&output, "\n").await;
    within(exec.kill()).await.unwrap();
    assert_eq!(within(exec.ended()).await.unwrap(), 137);
    // The pipe ends when the last of them has.
    assert_eq!(within(read_all(output)).await, "");
}

#[tokio::test]
async fn a_port_of_the_pod_is_reached_without_a_program_in_it() {
    let pod = Pod::with(|setup| setup.own_network = true).await;
    let id = pod.run(pod.container("one", "nc -l -p 8080 -e cat & sleep 1000")).await;
    let dial = async {
        loop {
            match pod.monitor().dial(8080, Duration::from_secs(10)).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let mut stream = within(dial).await;
    within(tokio::io::AsyncWriteExt::write_all(&mut stream, b"hello")).await.unwrap();
    let mut got = [0; 5];
    within(tokio::io::AsyncReadExt::read_exact(&mut stream, &mut got)).await.unwrap();
    assert_eq!(&got, b"hello");
    let error = within(pod.monitor().dial(9, Duration::from_secs(10))).await.unwrap_err();
    assert!(error.to_string().contains("port 9"), "{error}");
    within(pod.monitor().kill(id, Signal::KILL, KillScope::All)).await.unwrap();
}
