//! What a registry or the way to it can do wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use model::{Class, Classified as _};
use oci_image::Reference;
use registry::{Cause, Limits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::server::{
    Reply, Request, Server, client, client_with, content, descriptor, drain, fetch, limits,
    manifest, refusing,
};

/// The ranges that were asked for, in order.
fn starts(server: &Server) -> Vec<usize> {
    server.requests().iter().map(Request::from).collect()
}

#[tokio::test]
async fn a_cut_connection_goes_on_where_it_stopped() {
    let layer = content(200_000);
    let served = layer.clone();
    let server = Server::start(move |r| match r.nth {
        0 => Reply::part(r, &served).cut(70_000),
        1 => Reply::part(r, &served).cut(30_000),
        _ => Reply::part(r, &served),
    })
    .await;
    assert_eq!(fetch(&client(), &server.reference("a:b"), &layer).await.unwrap(), layer);
    assert_eq!(starts(&server), [0, 70_000, 100_000]);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_sends_again_what_is_skipped() {
    let layer = content(200_000);
    let served = layer.clone();
    let server = Server::start(move |r| match r.nth {
        0 => Reply::ok(&served).cut(70_000),
        _ => Reply::ok(&served),
    })
    .await;
    assert_eq!(fetch(&client(), &server.reference("a:b"), &layer).await.unwrap(), layer);
    assert_eq!(starts(&server), [0, 70_000]);
}

#[tokio::test]
async fn wrong_answers_to_a_range_lead_to_a_request_without_one() {
    let layer = content(100_000);
    let wrong: [fn(&[u8]) -> Reply; 4] = [
        |all| Reply::new(206, &all[10..]).header("Content-Range", "bytes 10-99999/100000"),
        |all| Reply::new(206, &all[40_000..]),
        |all| Reply::new(206, all).header("Content-Range", "bytes 40000-99999/100000"),
        |_| Reply::new(416, b"no"),
    ];
    for (i, wrong) in wrong.into_iter().enumerate() {
        let served = layer.clone();
        let server = Server::start(move |r| match (r.nth, r.from()) {
            (0, _) => Reply::ok(&served).cut(40_000),
            (_, 0) => Reply::ok(&served),
            _ => wrong(&served),
        })
        .await;
        let client = client();
        let reference = server.reference("a:b");
        assert_eq!(fetch(&client, &reference, &layer).await.unwrap(), layer, "case {i}");
        assert_eq!(starts(&server), [0, 40_000, 0], "case {i}");
        // The host is known by now.
        let mut stream = client.blob(&reference, &descriptor(&layer), 5, None).await.unwrap();
        assert_eq!(drain(&mut stream).await.unwrap(), layer[5..], "case {i}");
        assert_eq!(starts(&server).last(), Some(&0), "case {i}");
    }
}

#[tokio::test]
async fn a_server_may_send_less_than_the_range_that_was_asked_for() {
    let layer = content(1000);
    let served = layer.clone();
    let server = Server::start(move |r| {
        let from = r.from();
        if from == 0 {
            return Reply::ok(&served).cut(100);
        }
        let to = (from + 600).min(1000);
        let range = format!("bytes {from}-{}/1000", to - 1);
        Reply::new(206, &served[from..to]).header("Content-Range", &range)
    })
    .await;
    assert_eq!(fetch(&client(), &server.reference("a:b"), &layer).await.unwrap(), layer);
    assert_eq!(starts(&server), [0, 100, 700]);
}

#[tokio::test]
async fn a_stall_ends_and_the_rest_comes_over_a_new_connection() {
    let layer = content(200_000);
    let served = layer.clone();
    let server = Server::start(move |r| match r.nth {
        0 => Reply::part(r, &served).hang(70_000),
        _ => Reply::part(r, &served),
    })
    .await;
    let client = client_with(Limits { stall: Duration::from_millis(1500), ..limits() });
    assert_eq!(fetch(&client, &server.reference("a:b"), &layer).await.unwrap(), layer);
    assert_eq!(starts(&server), [0, 70_000]);
}

#[tokio::test]
async fn a_server_that_stalls_for_ever_is_given_up_as_unavailable() {
    let layer = content(1000);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served).hang(10)).await;
    let client = client_with(Limits { stall: Duration::from_millis(100), ..limits() });
    let e = fetch(&client, &server.reference("a:b"), &layer).await.unwrap_err();
    assert!(matches!(e.cause, Cause::Stalled { .. }), "{e:?}");
    assert_eq!((e.class(), e.tries), (Class::Unavailable, 3));
    assert!(e.to_string().starts_with("RegistryUnavailable: "), "{e}");
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up() {
    let server = Server::start(|_| Reply::ok(&[]).hang(0).length(5)).await;
    // The head comes at once here, the body never.
    let client = client_with(Limits { stall: Duration::from_millis(100), tries: 1, ..limits() });
    let e = client.resolve(&server.reference("a:b"), None).await.unwrap_err();
    assert!(matches!(e.cause, Cause::Stalled { .. }), "{e:?}");
}

#[tokio::test]
async fn breaks_without_end_are_given_up_and_breaks_with_progress_are_not() {
    let layer = content(6 << 20);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served).cut(1_100_000)).await;
    // Six breaks, more than the three tries, but each one brought more than a mebibyte.
    assert_eq!(fetch(&client(), &server.reference("a:b"), &layer).await.unwrap(), layer);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served).cut(10)).await;
    let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
    assert!(matches!(e.cause, Cause::Broken { received: 30, .. }), "{e:?}");
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn too_many_requests_and_server_errors_are_waited_out() {
    for status in [429, 500, 503] {
        let document = manifest();
        let server = Server::start(move |r| match r.nth {
            0 | 1 => Reply::new(status, b"").header("Retry-After", "3600"),
            _ => Reply::manifest(&document),
        })
        .await;
        // The wait that the server asks for is cut to the longest wait, which is short here.
        client().resolve(&server.reference("a:b"), None).await.unwrap();
        assert_eq!(server.requests().len(), 3, "{status}");
    }
}

#[tokio::test]
async fn refusals_have_their_class_and_the_registrys_own_words() {
    let words = br#"{"errors":[{"code":"SOME_CODE","message":"some\nwords"}]}"#;
    for (status, class, tries) in [
        (401, Class::Unauthenticated, 1),
        (403, Class::PermissionDenied, 1),
        (404, Class::NotFound, 1),
        (418, Class::Internal, 1),
        (429, Class::Unavailable, 3),
        (502, Class::Unavailable, 3),
    ] {
        let server = Server::start(move |_| Reply::new(status, words)).await;
        let reference = server.reference("a:b");
        let e = client().resolve(&reference, None).await.unwrap_err();
        assert_eq!((e.class(), server.requests().len()), (class, tries), "{e}");
        let text = e.to_string();
        assert!(text.contains("SOME_CODE: some words"), "{text}");
        assert!(text.contains(&reference.to_string()), "{text}");
        assert!(!text.starts_with("RegistryUnavailable"), "{text}");
    }
}

#[tokio::test]
async fn an_unreachable_registry_is_said_to_be_unavailable() {
    let (_socket, host) = refusing();
    let reference = Reference::parse(&format!("{host}/a:b")).unwrap();
    let e = client().resolve(&reference, None).await.unwrap_err();
    assert_eq!((e.class(), e.tries), (Class::Unavailable, 3), "{e}");
    assert!(e.to_string().starts_with("RegistryUnavailable: "), "{e}");
    assert!(e.to_string().contains("refused"), "{e}");
}

#[tokio::test]
async fn wrong_content_is_data_loss() {
    let layer = content(1000);
    let mut other = layer.clone();
    other[500] ^= 1;
    let server = Server::start(move |r| Reply::part(r, &other)).await;
    let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
    assert!(matches!(e.cause, Cause::DigestMismatch { .. }), "{e:?}");
    assert_eq!(e.class(), Class::DataLoss);
}

#[tokio::test]
async fn content_of_another_length_is_refused_before_it_is_read() {
    let layer = content(1000);
    for n in [999, 1001, 0] {
        let other = content(n);
        let server = Server::start(move |r| Reply::part(r, &other)).await;
        let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
        assert!(matches!(e.cause, Cause::SizeMismatch { expected: 1000, .. }), "{n}: {e:?}");
        assert_eq!(e.class(), Class::DataLoss);
    }
}

#[tokio::test]
async fn a_lying_length_is_found_out() {
    // It promises the right length and closes early, each time: broken, then given up.
    let layer = content(1000);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served[..]).cut(1)).await;
    let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
    assert!(matches!(e.cause, Cause::Broken { .. }), "{e:?}");
    // Without a length, whatever comes too much is refused.
    let long = content(5000);
    let server = Server::start(move |_| {
        let chunk = format!("{:x}\r\n", long.len());
        let body = [chunk.as_bytes(), &long, b"\r\n0\r\n\r\n"].concat();
        Reply::ok(&body).chunked()
    })
    .await;
    let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
    assert_eq!(e.class(), Class::DataLoss, "{e}");
}

/// A server whose every answer goes on for as long as somebody reads it, and how much it got rid of.
async fn endless() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.1 200 OK\r\n\
                            Content-Type: application/vnd.oci.image.manifest.v1+json\r\n\
                            Transfer-Encoding: chunked\r\n\r\n";
                let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x1_0000));
                let mut next = head;
                while stream.write_all(next.as_bytes()).await.is_ok() {
                    counted.fetch_add(next.len() as u64, Ordering::Relaxed);
                    next = &chunk;
                }
            });
        }
    });
    (address, sent)
}

#[tokio::test]
async fn a_body_without_end_is_read_to_its_limit_and_no_further() {
    let (address, sent) = endless().await;
    let reference = Reference::parse(&format!("{address}/a:b")).unwrap();
    let e = fetch(&client(), &reference, &content(1000)).await.unwrap_err();
    assert_eq!(e.class(), Class::DataLoss, "{e}");
    let e = client().resolve(&reference, None).await.unwrap_err();
    assert_eq!(e.class(), Class::ResourceExhausted, "{e}");
    // What lay in the buffers of the connections is not read, but sent.
    assert!(sent.load(Ordering::Relaxed) < 64 << 20, "{sent:?}");
}
