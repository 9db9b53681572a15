//! Exec, attach and port-forward, over both transports.

use std::time::Duration;

use cri_api::v1::{
    AttachRequest, ContainerConfig, ContainerState, ExecRequest, PortForwardRequest,
};
use cri_streaming::Outcome;
use cri_streaming::client::{Forwarder, Session, Transport, remote_command};
use cri_streaming::server::{Input, Size, Streams};
use testkit::{Daemon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tonic::{Code, Status};

use crate::around::{WithPod, plain, with_pod};

const BOTH: [Transport; 2] = [Transport::WebSocket, Transport::Spdy];
const ALL: Streams = Streams { tty: false, stdin: true, stdout: true, stderr: true };
const OUTPUT: Streams = Streams { tty: false, stdin: false, stdout: true, stderr: false };
const TERMINAL: Streams = Streams { tty: true, stdin: true, stdout: true, stderr: false };
const SOON: Duration = Duration::from_secs(30);

async fn exec_url(
    daemon: &Daemon,
    id: &str,
    script: &str,
    streams: Streams,
) -> Result<String, Status> {
    let Streams { tty, stdin, stdout, stderr } = streams;
    let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
    let container_id = id.to_owned();
    let request = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    Ok(daemon.runtime().exec(request).await?.into_inner().url)
}

async fn attach_url(daemon: &Daemon, id: &str, streams: Streams) -> Result<String, Status> {
    let Streams { tty, stdin, stdout, stderr } = streams;
    let request = AttachRequest { container_id: id.to_owned(), tty, stdin, stdout, stderr };
    Ok(daemon.runtime().attach(request).await?.into_inner().url)
}

async fn exec(
    daemon: &Daemon,
    id: &str,
    script: &str,
    streams: Streams,
    transport: Transport,
) -> Session {
    let url = exec_url(daemon, id, script, streams).await.unwrap();
    remote_command(&url, streams, transport, None).await.unwrap()
}

async fn attach(daemon: &Daemon, id: &str, streams: Streams, transport: Transport) -> Session {
    let url = attach_url(daemon, id, streams).await.unwrap();
    remote_command(&url, streams, transport, None).await.unwrap()
}

async fn all_of(input: Option<Input>) -> String {
    let mut text = Vec::new();
    tokio::time::timeout(SOON, input.unwrap().read_to_end(&mut text)).await.unwrap().unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads until `wanted` has come.
async fn see(input: &mut Input, wanted: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&seen).contains(wanted) {
            let count = input.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{wanted:?} is not in {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    let read = tokio::time::timeout(SOON, reading).await;
    assert!(read.is_ok(), "{wanted:?} does not come");
    String::from_utf8_lossy(&seen).into_owned()
}

async fn ended(session: Session) -> Outcome {
    tokio::time::timeout(SOON, session.outcome).await.unwrap().unwrap()
}

async fn exists(daemon: &Daemon, id: &str, path: &str) {
    until(format!("{path} is there"), SOON, async || {
        let looked = daemon.exec(id, &["test", "-e", path]).await.unwrap();
        (looked.exit_code == 0).then_some(())
    })
    .await;
}

async fn sleeping(with: &WithPod) -> String {
    with.launch(&testkit::sleeper("main", &with.around.image)).await
}

#[tokio::test]
async fn an_exec_reads_writes_and_ends_with_its_code() {
    let with = with_pod().await;
    let id = sleeping(&with).await;
    for transport in BOTH {
        let script = "cat; echo err >&2; exit 3";
        let mut session = exec(with.daemon(), &id, script, ALL, transport).await;
        let mut stdin = session.stdin.take().unwrap();
        let sent = "0123456789".repeat(100_000);
        let write = async {
            stdin.write_all(sent.as_bytes()).await.unwrap();
            stdin.shutdown().await.unwrap();
        };
        let ((), out, err) =
            tokio::join!(write, all_of(session.stdout.take()), all_of(session.stderr.take()));
        assert!(out == sent, "{transport:?}: {} of {} bytes", out.len(), sent.len());
        assert_eq!(err, "err\n");
        assert_eq!(ended(session).await, Outcome::ExitCode(3));

        let session = exec(with.daemon(), &id, "kill -9 $$", OUTPUT, transport).await;
        assert_eq!(ended(session).await, Outcome::ExitCode(137));
        let mut session =
            exec(with.daemon(), &id, "sleep 1000 & echo out", OUTPUT, transport).await;
        assert_eq!(all_of(session.stdout.take()).await, "out\n", "a grandchild keeps nobody");
        assert_eq!(ended(session).await, Outcome::Success);
    }
}

#[tokio::test]
async fn a_terminal_has_the_clients_size_and_follows_it() {
    let with = with_pod().await;
    let id = sleeping(&with).await;
    for transport in BOTH {
        let script = "while read x && [ $x = look ]; do busybox stty -a | head -1; done; exit 7";
        let mut session = exec(with.daemon(), &id, script, TERMINAL, transport).await;
        let mut stdin = session.stdin.take().unwrap();
        let mut stdout = session.stdout.take().unwrap();
        for (width, height) in [(101, 41), (102, 42)] {
            let resizer = session.resizer.as_mut().unwrap();
            resizer.resize(Size { width, height }).await.unwrap();
            let wanted = format!("rows {height}; columns {width}");
            // A size and what is typed go on streams of their own: nothing says which one is there first.
            until(&wanted, SOON, async || {
                stdin.write_all(b"look\n").await.unwrap();
                see(&mut stdout, "line = ").await.contains(&wanted).then_some(())
            })
            .await;
        }
        stdin.write_all(b"enough\n").await.unwrap();
        let rest = all_of(Some(stdout)).await;
        assert_eq!(ended(session).await, Outcome::ExitCode(7), "{rest}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_terminal_with_it() {
    let with = with_pod().await;
    let id = sleeping(&with).await;
    for (count, transport) in BOTH.into_iter().enumerate() {
        for (kind, streams) in [("pipes", ALL), ("terminal", TERMINAL)] {
            let file = format!("/tmp/{kind}-{count}");
            // A shell that says who was hung up would do so into a pipe that nobody reads any more.
            let script = format!(
                "exec 2>/dev/null; trap 'touch {file}; exit' HUP; echo up; while :; do sleep 1000 & wait $!; done"
            );
            let mut session = exec(with.daemon(), &id, &script, streams, transport).await;
            see(session.stdout.as_mut().unwrap(), "up").await;
            drop(session);
            exists(with.daemon(), &id, &file).await;
        }
    }
    let status = with.daemon().status(&id).await.unwrap();
    assert_eq!(status.state(), ContainerState::ContainerRunning);
    until("nothing of them is left", SOON, async || {
        let list = with.daemon().exec(&id, &["ps"]).await.unwrap();
        (!String::from_utf8_lossy(&list.stdout).contains("trap 'touch")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn several_clients_are_attached_and_leave_the_container_alone() {
    let with = with_pod().await;
    let mut config = with.script("main", "while read line; do echo got $line; done; echo over");
    config.stdin = true;
    let id = with.launch(&config).await;
    let daemon = with.daemon();
    for transport in BOTH {
        let mut reader = attach(daemon, &id, OUTPUT, transport).await;
        let mut writer = attach(daemon, &id, ALL, transport).await;
        // Who is attached sees what comes from then on: the first answer tells that both are.
        let mut stdin = writer.stdin.take().unwrap();
        let (mut theirs, mut ours) = (reader.stdout.take().unwrap(), writer.stdout.take().unwrap());
        until("both see it", SOON, async || {
            stdin.write_all(b"x\n").await.unwrap();
            let both = async {
                see(&mut ours, "got x").await;
                see(&mut theirs, "got x").await;
            };
            tokio::time::timeout(Duration::from_secs(2), both).await.ok()
        })
        .await;
        drop((writer, stdin, ours));
        let mut third = attach(daemon, &id, ALL, transport).await;
        third.stdin.as_mut().unwrap().write_all(b"y\n").await.unwrap();
        see(&mut theirs, "got y").await;
        drop(third);
        let status = daemon.status(&id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
    }
}

#[tokio::test]
async fn a_standard_input_that_is_meant_once_ends_with_its_client() {
    let with = with_pod().await;
    for (name, transport) in ["websocket", "spdy"].into_iter().zip(BOTH) {
        let mut config: ContainerConfig = with.script(name, "cat; echo over; exit 4");
        (config.stdin, config.stdin_once) = (true, true);
        let id = with.launch(&config).await;
        let mut session = attach(with.daemon(), &id, ALL, transport).await;
        let mut stdin = session.stdin.take().unwrap();
        stdin.write_all(b"words\n").await.unwrap();
        stdin.shutdown().await.unwrap();
        assert_eq!(all_of(session.stdout.take()).await, "words\nover\n");
        assert_eq!(ended(session).await, Outcome::Success);
        assert_eq!(with.daemon().ended(&id).await.exit_code, 4);
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off_and_the_log_is_whole() {
    let with = with_pod().await;
    let count = 24 << 20;
    // More than sockets hold, in lines of 4 KiB: the log of short ones would be twenty times as long.
    let lines = format!("yes $(printf %04095d 0) | head -c {count}");
    let script = format!("while [ ! -e /tmp/go ]; do sleep 0.01; done; {lines}");
    for (name, transport) in ["websocket", "spdy"].into_iter().zip(BOTH) {
        let id = with.launch(&with.script(name, &script)).await;
        let mut session = attach(with.daemon(), &id, OUTPUT, transport).await;
        let go = with.daemon().exec(&id, &["touch", "/tmp/go"]).await.unwrap();
        assert_eq!(go.exit_code, 0);
        let status = with.daemon().ended(&id).await;
        assert_eq!(status.exit_code, 0, "it waits for nobody");
        let lines = with.daemon().logged(&id).await;
        assert_eq!(lines.len(), count, "the log has it all");
        let got = all_of(session.stdout.take()).await;
        assert!(got.len() < count, "{} bytes", got.len());
        let Outcome::Failed(why) = ended(session).await else { panic!("it was not cut off") };
        assert!(why.contains("too slowly"), "{why}");
    }
}

#[tokio::test]
async fn what_has_ended_or_is_unknown_is_told_before_a_url_is_given() {
    let with = with_pod().await;
    let daemon = with.daemon();
    let (over, _) = with.run(&with.script("over", "true")).await;
    let code = |answer: Result<String, Status>| answer.unwrap_err().code();
    for (id, want) in [(over.id.as_str(), Code::FailedPrecondition), ("x", Code::NotFound)] {
        assert_eq!(code(exec_url(daemon, id, "true", OUTPUT).await), want);
        assert_eq!(code(attach_url(daemon, id, OUTPUT).await), want);
    }
    let id = sleeping(&with).await;
    for streams in [
        Streams { tty: true, stdin: true, stdout: true, stderr: true },
        Streams { tty: false, stdin: false, stdout: false, stderr: false },
    ] {
        assert_eq!(code(exec_url(daemon, &id, "true", streams).await), Code::InvalidArgument);
    }
    // One that ends before its client comes is told on the stream.
    for transport in BOTH {
        let brief = testkit::sleeper("brief", &with.around.image);
        let id = with.launch(&brief).await;
        let url = attach_url(daemon, &id, OUTPUT).await.unwrap();
        daemon.stop_container(&id, 0).await.unwrap();
        let session = remote_command(&url, OUTPUT, transport, None).await.unwrap();
        let Outcome::Failed(why) = ended(session).await else { panic!("it is over") };
        assert!(why.contains("has ended"), "{why}");
    }
}

#[tokio::test]
async fn the_daemon_may_die_during_an_exec() {
    let mut with = with_pod().await;
    let id = sleeping(&with).await;
    for transport in BOTH {
        let mut session = exec(with.daemon(), &id, "echo up; sleep 1000", OUTPUT, transport).await;
        see(session.stdout.as_mut().unwrap(), "up").await;
        with.around.daemon.kill();
        let lost = tokio::time::timeout(SOON, session.outcome).await.unwrap();
        assert!(!matches!(lost, Ok(Outcome::Success | Outcome::ExitCode(_))), "{lost:?}");
        with.around.daemon.start().await;
        let status = with.daemon().status(&id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        let mut session = exec(with.daemon(), &id, "echo again", OUTPUT, transport).await;
        assert_eq!(all_of(session.stdout.take()).await, "again\n");
        assert_eq!(ended(session).await, Outcome::Success);
    }
    until("what the dead daemon ran is gone", SOON, async || {
        let list = with.daemon().exec(&id, &["ps"]).await.unwrap();
        (!String::from_utf8_lossy(&list.stdout).contains("echo up; sleep")).then_some(())
    })
    .await;
}

async fn forwarder(daemon: &Daemon, pod_id: &str, transport: Transport) -> Forwarder {
    let request = PortForwardRequest { pod_sandbox_id: pod_id.to_owned(), port: vec![] };
    let url = daemon.runtime().port_forward(request).await.unwrap().into_inner().url;
    Forwarder::connect(&url, transport, None).await.unwrap()
}

/// Sends through a port, ends its half, and gives what came back.
async fn through(forwarder: &Forwarder, port: u16, sent: &[u8]) -> std::io::Result<Vec<u8>> {
    let (near, mut far) = tokio::io::duplex(64 << 10);
    let (mut read, mut write) = tokio::io::split(near);
    let mut got = Vec::new();
    let talk = async {
        let writing = async {
            write.write_all(sent).await?;
            write.shutdown().await
        };
        let (written, read) = tokio::join!(writing, read.read_to_end(&mut got));
        written.and(read.map(|_| ()))
    };
    let forward = async {
        let forwarded = forwarder.forward(&mut far, port).await;
        drop(far);
        forwarded
    };
    let both = async { tokio::join!(forward, talk) };
    let (forwarded, _) = tokio::time::timeout(SOON, both).await.unwrap();
    forwarded.map(|()| got)
}

/// Sends back what comes, until the other side has ended.
pub(crate) async fn echo(address: &str) -> u16 {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    port
}

#[tokio::test]
async fn ports_of_the_hosts_network_are_reached_many_times_at_once() {
    let with = with_pod().await;
    let ports = [echo("127.0.0.1").await, echo("::1").await];
    for transport in BOTH {
        let forwarder = forwarder(with.daemon(), &with.pod_id, transport).await;
        let many = (0..100_u8).map(|n| {
            let forwarder = &forwarder;
            async move {
                let sent = vec![n; 50_000];
                let got = through(forwarder, ports[usize::from(n % 2)], &sent).await.unwrap();
                assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
            }
        });
        futures_util::future::join_all(many).await;
        let refused = through(&forwarder, 1, b"x").await.unwrap_err();
        assert!(refused.to_string().contains("refused"), "{refused}");
    }
}

#[tokio::test]
async fn ports_of_a_pods_own_network_are_reached_without_a_program_on_the_host() {
    let around = plain().await;
    let daemon = &around.daemon;
    let pod = testkit::pod(daemon, "pod");
    let pod_id = daemon.run_pod(&pod, "").await.unwrap();
    let server = ["sh", "-c", "nc -ll -p 8080 -e /bin/cat"];
    let config = testkit::container("main", &around.image, &server);
    let id = daemon.launch(&pod_id, &pod, &config).await.unwrap();
    for transport in BOTH {
        let forwarder = forwarder(daemon, &pod_id, transport).await;
        until("the server listens", SOON, async || {
            through(&forwarder, 8080, b"hello").await.ok().filter(|got| got == b"hello")
        })
        .await;
    }
    daemon.stop_container(&id, 0).await.unwrap();
}
