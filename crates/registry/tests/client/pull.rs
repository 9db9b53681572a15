//! What works when the registry works.

use std::io::Read as _;
use std::time::Duration;

use model::{Class, Classified as _};
use oci_image::{Descriptor, types};
use registry::{BlobReader, Cause, Limits};

use crate::server::{
    Reply, Server, client, client_with, content, descriptor, digest_of, drain, fetch, limits,
    manifest,
};

#[tokio::test]
async fn a_tag_is_resolved_to_a_checked_manifest() {
    let document = manifest();
    let served = document.clone();
    let server = Server::start(move |_| Reply::manifest(&served)).await;
    let reference = server.reference("team/app:v1");
    let resolved = client().resolve(&reference, None).await.unwrap();
    assert_eq!(resolved.digest, digest_of(&document));
    assert_eq!(
        (resolved.media_type.as_str(), resolved.bytes.as_ref()),
        (types::OCI_MANIFEST, &document[..])
    );
    assert_eq!(resolved.source, server.host());
    let request = &server.requests()[0];
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("GET", "/v2/team/app/manifests/v1")
    );
    let accept = request.header("accept").unwrap();
    assert!(accept.contains(types::OCI_INDEX) && accept.contains(types::DOCKER_MANIFEST));
    assert!(request.header("authorization").is_none());
}

#[tokio::test]
async fn a_head_tells_the_digest_without_the_document() {
    let document = manifest();
    let served = document.clone();
    let server = Server::start(move |_| Reply::manifest(&served)).await;
    let head = client().head(&server.reference("a:b"), None).await.unwrap();
    assert_eq!((head.digest, head.size), (digest_of(&document), Some(document.len() as u64)));
    assert_eq!(server.lines(), ["HEAD /v2/a/manifests/b"]);
}

#[tokio::test]
async fn a_head_without_a_digest_or_without_heads_falls_back_to_the_document() {
    for status in [200, 405] {
        let document = manifest();
        let served = document.clone();
        let server = Server::start(move |r| match r.method.as_str() {
            "HEAD" => Reply::new(status, &[]),
            _ => Reply::ok(&served).header("Content-Type", types::OCI_MANIFEST),
        })
        .await;
        let head = client().head(&server.reference("a:b"), None).await.unwrap();
        assert_eq!(head.digest, digest_of(&document), "{status}");
    }
}

#[tokio::test]
async fn a_digest_in_the_reference_wins_and_is_checked() {
    let document = manifest();
    let served = document.clone();
    let server = Server::start(move |_| Reply::manifest(&served)).await;
    let good = server.reference(&format!("a:v1@{}", digest_of(&document)));
    let resolved = client().resolve(&good, None).await.unwrap();
    assert_eq!(resolved.digest, digest_of(&document));
    let bad = server.reference(&format!("a@{}", digest_of(b"other")));
    let e = client().resolve(&bad, None).await.unwrap_err();
    assert_eq!(e.class(), Class::DataLoss, "{e}");
    assert!(server.lines()[0].ends_with(digest_of(&document).as_str()));
}

#[tokio::test]
async fn what_is_no_manifest_is_refused_with_its_class() {
    let other = digest_of(b"other").to_string();
    let big = vec![b' '; 5 << 20];
    for (reply, class, says) in [
        (
            Reply::manifest(&manifest()).header("X", "y").length(6 << 20).cut(0),
            Class::ResourceExhausted,
            "longer",
        ),
        (Reply::manifest(&big), Class::ResourceExhausted, "longer"),
        (Reply::ok(b"<html>").header("Content-Type", "text/html"), Class::Unavailable, "text/html"),
        (
            Reply::ok(b"{}").header("Content-Type", "application/json"),
            Class::DataLoss,
            "schemaVersion",
        ),
        (Reply::ok(&manifest()).header("Docker-Content-Digest", &other), Class::DataLoss, "digest"),
        (
            Reply::ok(b"{\"schemaVersion\":1,\"fsLayers\":[]}")
                .header("Content-Type", "application/json"),
            Class::Unimplemented,
            "schema 1",
        ),
    ] {
        let server = Server::start(move |_| reply.clone()).await;
        let e = client().resolve(&server.reference("a:b"), None).await.unwrap_err();
        assert_eq!(e.class(), class, "{e}");
        let text = e.to_string();
        assert!(text.contains(says), "{text}");
        assert!(text.contains(&server.host()) && text.contains("resolve"), "{text}");
        assert!(!text.starts_with("RegistryUnavailable"), "{text}");
    }
}

#[tokio::test]
async fn a_manifest_by_descriptor_is_checked_for_digest_and_size() {
    let document = manifest();
    let served = document.clone();
    let server = Server::start(move |_| Reply::manifest(&served)).await;
    let reference = server.reference("a:b");
    let size = document.len() as u64;
    let good = Descriptor::new(types::OCI_MANIFEST, digest_of(&document), size);
    assert_eq!(client().manifest(&reference, &good, None).await.unwrap(), document);
    for bad in [
        Descriptor { size: size + 1, ..good.clone() },
        Descriptor { digest: digest_of(b"other"), ..good },
    ] {
        let e = client().manifest(&reference, &bad, None).await.unwrap_err();
        assert_eq!(e.class(), Class::DataLoss, "{e}");
    }
}

#[tokio::test]
async fn a_blob_is_streamed_whole_or_from_an_offset() {
    let layer = content(300_000);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let reference = server.reference("a:b");
    assert_eq!(fetch(&client(), &reference, &layer).await.unwrap(), layer);
    let mut stream = client().blob(&reference, &descriptor(&layer), 1000, None).await.unwrap();
    assert_eq!(drain(&mut stream).await.unwrap(), layer[1000..]);
    assert_eq!(stream.position(), layer.len() as u64);
    assert!(stream.next().await.is_none());
    let requests = server.requests();
    assert_eq!(requests[0].path(), format!("/v2/a/blobs/{}", digest_of(&layer)));
    assert_eq!(requests[1].header("range"), Some("bytes=1000-"));
    assert_eq!(requests[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn an_empty_blob_and_a_finished_one_need_no_request() {
    let server = Server::start(|_| Reply::new(500, &[])).await;
    let reference = server.reference("a:b");
    assert!(fetch(&client(), &reference, b"").await.unwrap().is_empty());
    let layer = content(10);
    let mut stream = client().blob(&reference, &descriptor(&layer), 10, None).await.unwrap();
    assert!(stream.next().await.is_none());
    let e = client().blob(&reference, &descriptor(&layer), 11, None).await.unwrap_err();
    assert_eq!(e.class(), Class::DataLoss);
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn a_small_blob_has_a_limit() {
    let config = content(1000);
    let served = config.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let reference = server.reference("a:b");
    let got = client().small_blob(&reference, &descriptor(&config), 1000, None).await.unwrap();
    assert_eq!(got, config);
    let e = client().small_blob(&reference, &descriptor(&config), 999, None).await.unwrap_err();
    assert_eq!(e.cause, Cause::TooLarge { limit: 999 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thread_reads_a_blob_like_a_file() {
    let layer = content(100_000);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let stream =
        client().blob(&server.reference("a:b"), &descriptor(&layer), 0, None).await.unwrap();
    let runtime = tokio::runtime::Handle::current();
    let read = tokio::task::spawn_blocking(move || {
        let mut all = Vec::new();
        BlobReader::new(stream, runtime).read_to_end(&mut all).map(|_| all)
    });
    assert_eq!(read.await.unwrap().unwrap(), layer);
}

#[tokio::test]
async fn a_dropped_stream_gives_its_permit_back() {
    let layer = content(4 << 20);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let client = client_with(Limits { downloads_per_host: 1, ..limits() });
    let (reference, layer) = (server.reference("a:b"), descriptor(&layer));
    let first = client.blob(&reference, &layer, 0, None).await.unwrap();
    let mut second = Box::pin(client.blob(&reference, &layer, 0, None));
    // As long as the first one lives, the second one waits; however long this test looks.
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err());
    drop(first);
    assert_eq!(drain(&mut second.await.unwrap()).await.unwrap().len(), 4 << 20);
}
