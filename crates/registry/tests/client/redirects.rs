//! Redirects to blob storage: followed, and told nothing.

use model::{Class, Classified as _, Secret};
use registry::{Cause, Credentials};

use crate::server::{Reply, Server, client, content, descriptor, drain, fetch, manifest, refusing};

#[tokio::test]
async fn a_redirect_is_followed_without_credentials_and_with_the_range() {
    let layer = content(100_000);
    let served = layer.clone();
    let storage = Server::start(move |r| match r.nth {
        0 => Reply::part(r, &served).cut(30_000),
        _ => Reply::part(r, &served),
    })
    .await;
    let to = format!("http://{}/store/x?X-Signature=sigsecret", storage.host());
    let server = Server::start(move |r| match r.header("authorization") {
        Some("Basic dTpw") => Reply::new(307, &[]).header("Location", &to),
        _ => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let credentials = Credentials::Basic { user: "u".into(), password: Secret::new("p".into()) };
    let reference = server.reference("a:b");
    let mut stream =
        client().blob(&reference, &descriptor(&layer), 0, Some(&credentials)).await.unwrap();
    assert_eq!(drain(&mut stream).await.unwrap(), layer);
    let stored = storage.requests();
    assert_eq!(stored.iter().map(|r| r.from()).collect::<Vec<_>>(), [0, 30_000]);
    for request in stored {
        assert!(request.header("authorization").is_none(), "{request:?}");
        assert_eq!(request.target, "/store/x?X-Signature=sigsecret");
    }
}

#[tokio::test]
async fn a_relative_redirect_on_the_same_host_keeps_the_credentials() {
    let document = manifest();
    let server = Server::start(move |r| match (r.path(), r.header("authorization")) {
        (_, None) => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
        ("/elsewhere", Some(_)) => Reply::manifest(&document),
        (_, Some(_)) => Reply::new(301, &[]).header("Location", "/elsewhere"),
    })
    .await;
    let credentials = Credentials::Basic { user: "u".into(), password: Secret::new("p".into()) };
    client().resolve(&server.reference("a:b"), Some(&credentials)).await.unwrap();
}

#[tokio::test]
async fn an_upload_that_is_redirected_takes_no_credentials_along() {
    let storage = Server::start(|r| match r.method.as_str() {
        "POST" => Reply::new(202, &[]).header("Location", "/place"),
        _ => Reply::new(201, &[]),
    })
    .await;
    let to = format!("http://{}/begin", storage.host());
    let server = Server::start(move |r| match (r.method.as_str(), r.header("authorization")) {
        (_, None) => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
        ("HEAD", Some(_)) => Reply::new(404, &[]),
        _ => Reply::new(307, &[]).header("Location", &to),
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blob");
    let blob = content(100);
    std::fs::write(&file, &blob).unwrap();
    let credentials = Credentials::Basic { user: "u".into(), password: Secret::new("p".into()) };
    let (reference, client) = (server.reference("a:b"), client());
    let done = client.push_blob(&reference, &descriptor(&blob), &file, Some(&credentials)).await;
    // What the storage gets at all it gets without them; here it is on no protected way, and gets none.
    assert!(done.unwrap_err().to_string().contains("plain http host"));
    let seen = storage.requests();
    assert_eq!(seen.iter().map(|r| r.path()).collect::<Vec<_>>(), ["/begin"]);
    assert!(seen[0].header("authorization").is_none(), "{seen:?}");
}

#[tokio::test]
async fn redirects_without_end_or_sense_are_refused() {
    for (location, says) in [
        ("/v2/a/manifests/b", "redirects"),
        ("file:///etc/passwd", "neither http"),
        ("http://", "no address"),
    ] {
        let server =
            Server::start(move |_| Reply::new(302, &[]).header("Location", location)).await;
        let e = client().resolve(&server.reference("a:b"), None).await.unwrap_err();
        assert!(matches!(e.cause, Cause::Protocol(_)) && e.to_string().contains(says), "{e}");
    }
    let server = Server::start(|_| Reply::new(302, &[])).await;
    let e = client().resolve(&server.reference("a:b"), None).await.unwrap_err();
    assert!(e.to_string().contains("without a target"), "{e}");
}

#[tokio::test]
async fn what_storage_refuses_says_nothing_about_the_credentials_and_shows_no_signature() {
    let storage = Server::start(|_| Reply::new(403, b"<Error>expired</Error>")).await;
    let to = format!("http://{}/store?X-Signature=sigsecret", storage.host());
    let server = Server::start(move |_| Reply::new(307, &[]).header("Location", &to)).await;
    let layer = content(10);
    let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
    assert_eq!(e.class(), Class::Internal, "{e}");
    assert!(!format!("{e} {e:?}").contains("sigsecret"), "{e}");

    let (_socket, host) = refusing();
    let to = format!("http://{host}/store?X-Signature=sigsecret");
    let server = Server::start(move |_| Reply::new(307, &[]).header("Location", &to)).await;
    let e = fetch(&client(), &server.reference("a:b"), &layer).await.unwrap_err();
    let text = format!("{e} {e:?}");
    assert!(text.contains(&host) && !text.contains("sigsecret"), "{text}");
    assert!(e.to_string().starts_with("RegistryUnavailable"), "{e}");
}
