//! Exec, attach and port-forward over TLS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};

use testkit::{Daemon, Network};

use crate::around::{WithPod, around, text, with_input};

const TRANSPORTS: [&str; 2] = ["--transport=websocket", "--transport=spdy"];

/// A daemon whose streams have a certificate, and a pod with a container.
async fn with_certificate() -> WithPod {
    let around = around(|setup| {
        testkit::certify(setup.directory());
        let d = setup.directory().display().to_string();
        let keys =
            format!("[streaming]\ncertificate = \"{d}/server.pem\"\nkey = \"{d}/server.key\"");
        setup.network(Network::None).toml(&keys)
    })
    .await;
    let pod = testkit::host_network(testkit::pod(&around.daemon, "pod"));
    let pod_id = around.daemon.run_pod(&pod, "").await.unwrap();
    let with = WithPod { around, pod, pod_id };
    with.launch(&testkit::sleeper("main", &with.around.image)).await;
    with
}

/// `exec` of `cat` that trusts `authority`, with `input`.
fn cat(daemon: &Daemon, transport: &str, authority: &Path, input: &[u8]) -> Output {
    let authority = authority.display().to_string();
    let args = ["exec", transport, "--tls-ca", &authority, "-i", "main", "cat"];
    with_input(daemon.cli(&args), input)
}

#[tokio::test]
async fn streams_over_tls_are_whole_and_a_stranger_is_not_trusted() {
    let with = with_certificate().await;
    let daemon = with.daemon();
    let ours = daemon.directory().join("ca.pem");
    let strangers = daemon.directory().join("strangers");
    fs::create_dir(&strangers).unwrap();
    testkit::certify(&strangers);
    let input: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    for transport in TRANSPORTS {
        let done = cat(daemon, transport, &ours, &input);
        assert!(done.status.success(), "{}", text(&done.stderr));
        assert!(done.stdout == input, "{transport}: {} bytes", done.stdout.len());
        let done = cat(daemon, transport, &strangers.join("ca.pem"), b"secret");
        assert_eq!(done.status.code(), Some(1), "{transport}: {}", text(&done.stdout));
        assert!(text(&done.stderr).contains("certificate"), "{}", text(&done.stderr));
        let args = ["exec", transport, "--tls-insecure", "main", "echo", "any"];
        let done = with_input(daemon.cli(&args), b"");
        assert_eq!(text(&done.stdout), "any\n", "{}", text(&done.stderr));
    }
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_taken_up() {
    let with = with_certificate().await;
    let daemon = with.daemon();
    let before = daemon.directory().join("before.pem");
    fs::rename(daemon.directory().join("ca.pem"), &before).unwrap();
    testkit::certify(daemon.directory());
    let now = daemon.directory().join("ca.pem");
    let done = cat(daemon, TRANSPORTS[0], &now, b"new");
    assert_eq!(text(&done.stdout), "new", "{}", text(&done.stderr));
    let done = cat(daemon, TRANSPORTS[0], &before, b"old");
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stdout));
    // What cannot be used changes nothing.
    fs::write(daemon.directory().join("server.pem"), "nonsense").unwrap();
    let done = cat(daemon, TRANSPORTS[1], &now, b"still");
    assert_eq!(text(&done.stdout), "still", "{}", text(&done.stderr));
}

#[tokio::test]
async fn a_port_is_forwarded_over_tls() {
    let with = with_certificate().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serves = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut word = [0; 4];
        socket.read_exact(&mut word).unwrap();
        socket.write_all(&word.map(|byte| byte.to_ascii_uppercase())).unwrap();
    });
    let authority = with.daemon().directory().join("ca.pem").display().to_string();
    let ports = format!(":{port}");
    let args = ["port-forward", "--tls-ca", &authority, "pod", &ports];
    let mut command = with.daemon().cli(&args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let address = line.split_whitespace().nth(2).unwrap_or_else(|| panic!("{line:?}"));
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.write_all(b"word").unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"WORD");
    serves.join().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}
