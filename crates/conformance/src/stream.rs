//! Streams: exec, attach and port-forward as a case needs them.

use std::time::Duration;

use cri_api::v1::*;
use cri_streaming::Outcome;
use cri_streaming::client::{Forwarder, Session, Transport, remote_command};
use cri_streaming::server::{Input, Streams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Status;

use crate::case::Stop;
use crate::context::{Context, SOON};

/// What carries the streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    Spdy,
    WebSocket,
}

impl Wire {
    pub(crate) const fn transport(self) -> Transport {
        match self {
            Self::Spdy => Transport::Spdy,
            Self::WebSocket => Transport::WebSocket,
        }
    }
}

pub(crate) const ALL: Streams = Streams { tty: false, stdin: true, stdout: true, stderr: true };
pub(crate) const OUTPUT: Streams =
    Streams { tty: false, stdin: false, stdout: true, stderr: false };
pub(crate) const TERMINAL: Streams =
    Streams { tty: true, stdin: true, stdout: true, stderr: false };

impl Context {
    pub(crate) async fn exec_url(
        &self,
        id: &str,
        script: &str,
        streams: Streams,
    ) -> Result<String, Status> {
        let Streams { tty, stdin, stdout, stderr } = streams;
        let cmd = ["sh", "-c", script].map(str::to_owned).to_vec();
        let container_id = id.to_owned();
        let request = ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        Ok(self.rpc.exec(request).await?.url)
    }

    pub(crate) async fn attach_url(&self, id: &str, streams: Streams) -> Result<String, Status> {
        let Streams { tty, stdin, stdout, stderr } = streams;
        let request = AttachRequest { container_id: id.to_owned(), tty, stdin, stdout, stderr };
        Ok(self.rpc.attach(request).await?.url)
    }

    pub(crate) async fn stream(
        &self,
        id: &str,
        script: &str,
        streams: Streams,
        wire: Wire,
    ) -> Result<Session, Stop> {
        let url = self.exec_url(id, script, streams).await?;
        Ok(remote_command(&url, streams, wire.transport(), None).await?)
    }

    pub(crate) async fn attach(
        &self,
        id: &str,
        streams: Streams,
        wire: Wire,
    ) -> Result<Session, Stop> {
        let url = self.attach_url(id, streams).await?;
        Ok(remote_command(&url, streams, wire.transport(), None).await?)
    }

    pub(crate) async fn forward(
        &self,
        pod: &str,
        ports: &[i32],
        wire: Wire,
    ) -> Result<Forwarder, Stop> {
        let request = PortForwardRequest { pod_sandbox_id: pod.to_owned(), port: ports.to_vec() };
        let url = self.rpc.port_forward(request).await?.url;
        Ok(Forwarder::connect(&url, wire.transport(), None).await?)
    }
}

/// Attached with standard input and output.
pub(crate) async fn attached(c: &Context, id: &str, wire: Wire) -> Result<Session, Stop> {
    c.attach(id, ALL, wire).await
}

/// Everything that comes, to its end.
pub(crate) async fn all_of(input: Option<Input>) -> Result<String, Stop> {
    let mut input = input.ok_or_else(|| Stop::failed("there is no such stream"))?;
    let mut bytes = Vec::new();
    match timeout(SOON, input.read_to_end(&mut bytes)).await {
        Ok(read) => read?,
        Err(_) => {
            return Err(Stop::failed(format!(
                "a stream does not end, after {} bytes",
                bytes.len()
            )));
        }
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads until `wanted` has come.
pub(crate) async fn see(input: &mut Input, wanted: &str) -> Result<String, Stop> {
    let mut seen = Vec::new();
    let reading = async {
        let mut buffer = [0; 1024];
        loop {
            let text = String::from_utf8_lossy(&seen).into_owned();
            if text.contains(wanted) {
                return Ok(text);
            }
            let count = input.read(&mut buffer).await?;
            if count == 0 {
                return Err(Stop::failed(format!("{wanted:?} is not in {text:?}")));
            }
            seen.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(SOON, reading)
        .await
        .unwrap_or_else(|_| Err(Stop::failed(format!("{wanted:?} does not come"))))
}

/// How a session ends.
pub(crate) async fn outcome(session: Session) -> Result<Outcome, Stop> {
    let outcome = timeout(SOON, session.outcome).await;
    let outcome = outcome.map_err(|_| Stop::failed("the outcome does not come"))?;
    Ok(outcome?)
}

/// Sends through a port, ends that half, and gives what came back.
pub(crate) async fn through(
    forwarder: &Forwarder,
    port: u16,
    sent: &[u8],
) -> Result<std::io::Result<Vec<u8>>, Stop> {
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
    let both = timeout(SOON, async { tokio::join!(forward, talk) }).await;
    let (forwarded, _) = both.map_err(|_| Stop::failed("a forwarded connection does not end"))?;
    Ok(forwarded.map(|()| got))
}

/// An answer's status line and headers, as they stand.
#[derive(Debug)]
pub(crate) struct Answer {
    pub status: u16,
    head: String,
}

impl Answer {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends one HTTP/1.1 request with these headers, and reads the head of the answer.
pub(crate) async fn knock(
    url: &str,
    method: &str,
    headers: &[(&str, &str)],
) -> Result<Answer, Stop> {
    let rest = url.strip_prefix("http://");
    let rest = rest.ok_or_else(|| Stop::Skipped(format!("only http is looked into, not {url}")))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut text = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let talk = async {
        let mut socket = TcpStream::connect(authority).await?;
        socket.write_all(text.as_bytes()).await?;
        let mut bytes = Vec::new();
        while !bytes.windows(4).any(|end| end == b"\r\n\r\n") && bytes.len() < 64 << 10 {
            let mut buffer = [0; 1024];
            let count = socket.read(&mut buffer).await?;
            if count == 0 {
                break;
            }
            bytes.extend_from_slice(&buffer[..count]);
        }
        Ok::<_, std::io::Error>(bytes)
    };
    let bytes = timeout(Duration::from_secs(20), talk).await;
    let bytes = bytes.map_err(|_| Stop::failed("the server does not answer"))??;
    let head = String::from_utf8_lossy(&bytes);
    let head = head.split("\r\n\r\n").next().unwrap_or_default().to_owned();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| Stop::failed(format!("this is no answer: {head:?}")))?;
    Ok(Answer { status, head })
}

/// What an upgrade to SPDY takes.
pub(crate) fn spdy_headers<'h>(protocols: &[&'h str]) -> Vec<(&'h str, &'h str)> {
    let mut headers = vec![("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
    headers.extend(protocols.iter().map(|name| ("X-Stream-Protocol-Version", *name)));
    headers
}

/// What an upgrade to WebSocket takes.
pub(crate) fn websocket_headers(protocols: &str) -> Vec<(&str, &str)> {
    let mut headers = vec![
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        // The nonce of RFC 6455, section 1.3.
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    if !protocols.is_empty() {
        headers.push(("Sec-WebSocket-Protocol", protocols));
    }
    headers
}
