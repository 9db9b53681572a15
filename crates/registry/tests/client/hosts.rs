//! Mirrors, as `hosts.toml` names them.

use std::fs;

use model::{Class, Classified as _, Secret};
use oci_image::Reference;
use registry::{Cause, Credentials, NodeCredentials, Registry, RegistryConfig};
use tempfile::TempDir;

use crate::server::{
    Reply, Server, client, content, descriptor, drain, fetch, limits, manifest, refusing,
};

/// A client for which `registry.example` is what `text` says.
fn configured(text: &str) -> (Registry, TempDir) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("registry.example");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("hosts.toml"), text).unwrap();
    let hosts_dirs = vec![root.path().to_owned()];
    let config = RegistryConfig { hosts_dirs, limits: limits(), ..RegistryConfig::default() };
    (Registry::new(config), root)
}

fn reference() -> Reference {
    Reference::parse("registry.example/team/app:v1").unwrap()
}

fn two(own: &Server, mirror: &Server, settings: &str) -> String {
    format!("server = 'http://{}'\n[host.'http://{}']\n{settings}\n", own.host(), mirror.host())
}

#[tokio::test]
async fn a_mirror_is_asked_first_with_its_headers_and_the_registrys_name() {
    let mirror = Server::start(|_| Reply::manifest(&manifest())).await;
    let own = Server::start(|_| Reply::new(500, &[])).await;
    let settings = format!("[host.'http://{}'.header]\nx-mirror = 'hello'", mirror.host());
    let (client, _root) = configured(&two(&own, &mirror, &settings));
    let resolved = client.resolve(&reference(), None).await.unwrap();
    assert_eq!(resolved.source, mirror.host());
    let request = &mirror.requests()[0];
    assert_eq!(request.target, "/v2/team/app/manifests/v1?ns=registry.example");
    assert_eq!(request.header("x-mirror"), Some("hello"));
    assert!(own.requests().is_empty());
}

#[tokio::test]
async fn what_a_mirror_lacks_or_cannot_give_comes_from_the_registry() {
    for status in [404, 401, 403, 500] {
        let mirror = Server::start(move |_| Reply::new(status, &[])).await;
        let own = Server::start(|_| Reply::manifest(&manifest())).await;
        let (client, _root) = configured(&two(&own, &mirror, ""));
        let resolved = client.resolve(&reference(), None).await.unwrap();
        assert_eq!((resolved.source, mirror.requests().len()), (own.host(), 1), "{status}");
    }
    let (_socket, mirror) = refusing();
    let own = Server::start(|_| Reply::manifest(&manifest())).await;
    let text = format!("server = 'http://{}'\n[host.'http://{mirror}']", own.host());
    let (client, _root) = configured(&text);
    assert_eq!(client.resolve(&reference(), None).await.unwrap().source, own.host());
}

#[tokio::test]
async fn a_layer_that_breaks_at_the_mirror_goes_on_at_the_registry() {
    let layer = content(100_000);
    let (a, b) = (layer.clone(), layer.clone());
    let mirror = Server::start(move |r| Reply::part(r, &a).cut(60_000)).await;
    let own = Server::start(move |r| Reply::part(r, &b)).await;
    let (client, _root) = configured(&two(&own, &mirror, ""));
    assert_eq!(fetch(&client, &reference(), &layer).await.unwrap(), layer);
    assert_eq!((mirror.requests().len(), own.requests()[0].from()), (1, 60_000));
}

#[tokio::test]
async fn a_mirror_without_the_right_to_resolve_is_asked_only_for_digests() {
    let layer = content(1000);
    let served = layer.clone();
    let mirror = Server::start(move |r| Reply::part(r, &served)).await;
    let own = Server::start(|_| Reply::manifest(&manifest())).await;
    let (client, _root) = configured(&two(&own, &mirror, "capabilities = ['pull']"));
    client.resolve(&reference(), None).await.unwrap();
    assert!(mirror.requests().is_empty());
    fetch(&client, &reference(), &layer).await.unwrap();
    assert_eq!((mirror.requests().len(), own.requests().len()), (1, 1));
}

#[tokio::test]
async fn a_layer_that_only_the_mirror_has_is_finished_there_after_a_break() {
    let layer = content(1000);
    let served = layer.clone();
    let mirror = Server::start(move |r| match r.nth {
        0 => Reply::part(r, &served).cut(100),
        _ => Reply::part(r, &served),
    })
    .await;
    let own = Server::start(|_| Reply::new(404, &[])).await;
    let (client, _root) = configured(&two(&own, &mirror, ""));
    assert_eq!(fetch(&client, &reference(), &layer).await.unwrap(), layer);
}

#[tokio::test]
async fn an_answer_to_a_challenge_goes_before_a_configured_authorization() {
    let own = Server::start(|r| match r.header("authorization") {
        Some("Basic dTpw") => Reply::manifest(&manifest()),
        _ => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
    })
    .await;
    let text = format!("server = 'http://{}'\n[header]\nauthorization = 'Basic old'", own.host());
    let (client, _root) = configured(&text);
    let credentials = Credentials::Basic { user: "u".into(), password: Secret::new("p".into()) };
    client.resolve(&reference(), Some(&credentials)).await.unwrap();
    assert_eq!(own.requests()[0].header("authorization"), Some("Basic old"));
}

#[tokio::test]
async fn whoever_sent_wrong_content_is_asked_last_from_then_on() {
    let layer = content(1000);
    let mut wrong = layer.clone();
    wrong[0] ^= 1;
    let served = layer.clone();
    let mirror = Server::start(move |r| Reply::part(r, &wrong)).await;
    let own = Server::start(move |r| Reply::part(r, &served)).await;
    let (client, _root) = configured(&two(&own, &mirror, ""));
    let e = fetch(&client, &reference(), &layer).await.unwrap_err();
    assert!(matches!(e.cause, Cause::DigestMismatch { .. }) && e.host == mirror.host(), "{e}");
    assert_eq!(fetch(&client, &reference(), &layer).await.unwrap(), layer);
    // The small ones are fetched again at once.
    let (client, _root) = configured(&two(&own, &mirror, ""));
    let got = client.small_blob(&reference(), &descriptor(&layer), 4096, None).await.unwrap();
    assert_eq!(got, layer);
}

#[tokio::test]
async fn an_error_names_what_each_host_said() {
    let mirror = Server::start(|_| Reply::new(403, &[])).await;
    let own = Server::start(|_| Reply::new(404, &[])).await;
    let (client, _root) = configured(&two(&own, &mirror, ""));
    let e = client.resolve(&reference(), None).await.unwrap_err();
    assert_eq!((e.class(), &e.host), (Class::NotFound, &own.host()));
    assert!(e.to_string().contains(&mirror.host()), "{e}");
}

#[tokio::test]
async fn a_mistake_in_the_file_is_told_and_nobody_is_asked() {
    let (client, _root) = configured("server = 'https://registry.example'\ncapabilities = ['fly']");
    let e = client.resolve(&reference(), None).await.unwrap_err();
    assert_eq!(e.class(), Class::FailedPrecondition);
    assert!(e.to_string().contains("hosts.toml") && e.to_string().contains("fly"), "{e}");
    let (client, _root) = configured("server = 'http://127.0.0.1:1'\ncapabilities = ['pull']");
    let e = client.resolve(&reference(), None).await.unwrap_err();
    assert_eq!((e.cause.clone(), e.class()), (Cause::NoHost, Class::FailedPrecondition), "{e}");
}

#[tokio::test]
async fn a_change_of_the_file_counts_at_the_next_request_and_a_mistake_until_it_is_mended() {
    let first = Server::start(|_| Reply::manifest(&manifest())).await;
    let second = Server::start(|_| Reply::manifest(&manifest())).await;
    let own = Server::start(|_| Reply::new(500, &[])).await;
    let (client, root) = configured(&two(&own, &first, ""));
    let file = root.path().join("registry.example/hosts.toml");
    let source = async || client.resolve(&reference(), None).await.map(|r| r.source);
    assert_eq!(source().await.unwrap(), first.host());
    fs::write(&file, two(&own, &second, "")).unwrap();
    assert_eq!(source().await.unwrap(), second.host());
    fs::write(&file, two(&own, &second, "capabilities = ['fly']")).unwrap();
    let e = source().await.unwrap_err();
    assert!(e.to_string().contains("registry.example/hosts.toml: line 3: host"), "{e}");
    fs::write(&file, two(&own, &first, "")).unwrap();
    assert_eq!(source().await.unwrap(), first.host());
    fs::remove_file(&file).unwrap();
    fs::remove_dir(root.path().join("registry.example")).unwrap();
    // By default again: nobody is there by that name.
    assert_eq!(source().await.unwrap_err().class(), Class::Unavailable);
    assert!(own.requests().is_empty());
}

#[tokio::test]
async fn a_mirrors_own_credentials_go_to_it_and_to_nobody_else() {
    let ask = |r: &crate::server::Request| match r.header("authorization") {
        Some(_) => Reply::manifest(&manifest()),
        None => Reply::new(401, &[]).header("WWW-Authenticate", "Basic realm=\"r\""),
    };
    let mirror = Server::start(ask).await;
    let own = Server::start(ask).await;
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("registry.example")).unwrap();
    let file = root.path().join("registry.example/hosts.toml");
    fs::write(file, two(&own, &mirror, "")).unwrap();
    let basic = |u: &str| Credentials::Basic { user: u.into(), password: Secret::new("p".into()) };
    let mut credentials = NodeCredentials::new();
    credentials.add(&mirror.host(), basic("mirror"));
    let hosts_dirs = vec![root.path().to_owned()];
    let client = Registry::new(RegistryConfig {
        hosts_dirs,
        credentials,
        limits: limits(),
        ..RegistryConfig::default()
    });
    client.resolve(&reference(), Some(&basic("user"))).await.unwrap();
    assert_eq!(mirror.requests()[1].header("authorization"), Some("Basic bWlycm9yOnA="));
    assert!(own.requests().is_empty());
}

#[tokio::test]
async fn a_loopback_registry_is_spoken_to_in_plain_http_after_tls_was_tried_once() {
    let layer = content(1000);
    let served = layer.clone();
    let server = Server::start(move |r| Reply::part(r, &served)).await;
    let client = client();
    for _ in 0..2 {
        let reference = server.reference("a:b");
        let mut stream = client.blob(&reference, &descriptor(&layer), 0, None).await.unwrap();
        assert_eq!(drain(&mut stream).await.unwrap(), layer);
    }
    assert_eq!(server.requests().len(), 2);
}
