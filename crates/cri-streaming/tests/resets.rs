//! Streams that the peer resets, and a connection that breaks at its first byte: what was said before counts, nobody
//! takes a part for the whole, and nothing is left.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use cri_streaming::client::{Forwarder, Transport, remote_command};
use cri_streaming::server::Streams;
use cri_streaming::spdy::{Compressor, Connection, Frame, Limits, Over, Role, Stream};
use cri_streaming::{Outcome, Wire};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf, duplex};
use tokio::net::TcpListener;

const SOON: Duration = Duration::from_secs(20);

/// A server of SPDY that takes one client and does with its connection what `work` says.
async fn served<F>(
    protocol: &'static str,
    work: impl FnOnce(Connection) -> F + Send + 'static,
) -> String
where
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: {protocol}\r\n\r\n"
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
        let over = Over::Wire(Wire::tcp(socket));
        work(Connection::start(over, Role::Server, Limits::default())).await;
    });
    url
}

async fn next(connection: &mut Connection) -> Stream {
    connection.incoming.recv().await.unwrap()
}

#[tokio::test]
async fn a_command_whose_streams_are_reset_has_said_all_but_silence_is_no_success() {
    let streams = Streams { tty: false, stdin: false, stdout: true, stderr: false };
    for (protocol, said, expected) in [
        ("v4.channel.k8s.io", Outcome::ExitCode(3).to_json(), Some(Outcome::ExitCode(3))),
        ("v4.channel.k8s.io", Vec::new(), None),
        ("v2.channel.k8s.io", Vec::new(), Some(Outcome::Success)),
    ] {
        // As Kubernetes' own server ends streams.
        let url = served(protocol, |mut connection| async move {
            let mut error = next(&mut connection).await;
            let mut stdout = next(&mut connection).await;
            stdout.writer.write_all(b"all of it").await.unwrap();
            error.writer.write_all(&said).await.unwrap();
            drop((stdout, error));
            connection.opener.ended().await;
        })
        .await;
        let mut session = remote_command(&url, streams, Transport::Spdy, None).await.unwrap();
        let mut got = String::new();
        session.stdout.take().unwrap().read_to_string(&mut got).await.unwrap();
        assert_eq!(got, "all of it");
        let outcome = tokio::time::timeout(SOON, session.outcome).await.unwrap();
        assert_eq!(outcome.map_err(|e| e.kind()), expected.ok_or(io::ErrorKind::UnexpectedEof));
    }
}

#[tokio::test]
async fn a_download_that_the_server_resets_is_no_whole_one() {
    let url = served("portforward.k8s.io", |mut connection| async move {
        let mut error = next(&mut connection).await;
        let mut data = next(&mut connection).await;
        data.writer.write_all(b"half").await.unwrap();
        drop(data);
        error.writer.shutdown().await.unwrap();
        connection.opener.ended().await;
    })
    .await;
    let forwarder = Forwarder::connect(&url, Transport::Spdy, None).await.unwrap();
    let (mut near, mut far) = duplex(64);
    let forwarded = tokio::time::timeout(SOON, forwarder.forward(&mut far, 80)).await.unwrap();
    assert_eq!(forwarded.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    drop(far);
    let mut got = String::new();
    near.read_to_string(&mut got).await.unwrap();
    assert_eq!(got, "half");
}

#[tokio::test]
async fn a_server_that_says_no_more_of_a_connection_is_not_waited_for() {
    let url = served("portforward.k8s.io", |mut connection| async move {
        let _error = next(&mut connection).await;
        let mut data = next(&mut connection).await;
        data.writer.write_all(b"for nobody").await.unwrap();
        connection.opener.ended().await;
    })
    .await;
    let forwarder = Forwarder::connect(&url, Transport::Spdy, None).await.unwrap();
    let (near, mut far) = duplex(64);
    drop(near);
    let forwarded = tokio::time::timeout(SOON, forwarder.forward(&mut far, 80)).await;
    forwarded.expect("it returns").unwrap_err();
}

/// A socket whose peer opens streams as soon as it cannot be written any more.
struct Unwritable {
    opens: BytesMut,
    is_broken: bool,
    reader: Option<Waker>,
    _alive: Arc<()>,
}

impl AsyncRead for Unwritable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_broken || self.opens.is_empty() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let now = self.opens.len().min(out.remaining());
        out.put_slice(&self.opens.split_to(now));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Unwritable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.is_broken = true;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_connection_that_cannot_be_written_from_the_first_byte_on_leaves_nothing() {
    let (mut compressor, mut opens) = (Compressor::default(), BytesMut::new());
    for id in 0..50 {
        let headers =
            compressor.block(&vec![("streamtype".to_owned(), "data".to_owned())]).unwrap();
        Frame::SynStream { stream: 2 * id + 1, fin: false, headers }.encode(&mut opens);
    }
    let alive = Arc::new(());
    let left = Arc::downgrade(&alive);
    let socket = Unwritable { opens, is_broken: false, reader: None, _alive: alive };
    let over = Over::Wire(Wire::any(socket));
    let mut connection = Connection::start(over, Role::Server, Limits::default());
    let mut opened = 0;
    let ends = async {
        while let Some(stream) = connection.incoming.recv().await {
            opened += 1;
            drop(stream);
        }
    };
    tokio::time::timeout(SOON, ends).await.expect("it ends");
    assert_eq!(opened, 0, "a connection that is over takes no streams");
    drop(connection);
    let is_let_go = async {
        while left.upgrade().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, is_let_go).await.expect("the socket is let go");
}
