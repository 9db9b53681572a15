//! What refers to a manifest, by the API and by the tag that stands for it.

use std::fs;

use model::{Class, Classified as _};
use oci_image::{Descriptor, types};
use registry::{MAX_REFERRERS, Registry, RegistryConfig, referrers_tag};

use crate::server::{Reply, Server, client, digest_of, limits};

const KIND: &str = "application/x+json";

fn list(names: &[&str]) -> String {
    let all: Vec<_> = names
        .iter()
        .map(|name| {
            let mut one = Descriptor::new(types::OCI_MANIFEST, digest_of(name.as_bytes()), 9);
            one.artifact_type = KIND.to_owned();
            serde_json::to_string(&one).unwrap()
        })
        .collect();
    let kind = types::OCI_INDEX;
    let all = all.join(",");
    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{all}]}}"#)
}

fn index(text: &str) -> Reply {
    Reply::ok(text.as_bytes()).header("Content-Type", types::OCI_INDEX)
}

fn digests(found: &[Descriptor]) -> Vec<String> {
    found.iter().map(|d| d.digest.to_string()).collect()
}

fn named(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| digest_of(n.as_bytes()).to_string()).collect()
}

#[tokio::test]
async fn a_list_is_read_page_after_page() {
    let server = Server::start(|r| match r.nth {
        0 => {
            let path = r.path().to_owned();
            let next = format!("<{path}?artifactType=application%2Fx%2Bjson&last=b>; rel=\"next\"");
            index(&list(&["a", "b"])).header("Link", &next)
        }
        _ => index(&list(&["c"])),
    })
    .await;
    let (reference, of) = (server.reference("team/app:v1"), digest_of(b"image"));
    let found = client().referrers(&reference, &of, KIND, None).await.unwrap();
    assert_eq!(digests(&found), named(&["a", "b", "c"]));
    assert_eq!(found[0].artifact_type, KIND);
    let asked: Vec<String> = server.requests().iter().map(|r| r.target.clone()).collect();
    let first = format!("/v2/team/app/referrers/{of}?artifactType=application%2Fx%2Bjson");
    assert_eq!(asked, [first.clone(), format!("{first}&last=b")]);
}

#[tokio::test]
async fn a_list_without_end_or_that_leads_elsewhere_is_refused() {
    let server = Server::start(|r| {
        let next = format!("<{}?n={}>; rel=\"next\"", r.path(), r.nth);
        index(&list(&["a"])).header("Link", &next)
    })
    .await;
    let of = digest_of(b"image");
    let error = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap_err();
    assert_eq!(error.class(), Class::ResourceExhausted, "{error}");
    assert!(server.requests().len() < 20);

    let long = vec!["a"; MAX_REFERRERS + 1];
    let server = Server::start(move |_| index(&list(&long))).await;
    let error = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap_err();
    assert_eq!(error.class(), Class::ResourceExhausted, "{error}");

    let big = vec![b' '; 5 << 20];
    let server = Server::start(move |_| Reply::ok(&big)).await;
    let error = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap_err();
    assert_eq!(error.class(), Class::ResourceExhausted, "{error}");

    let server = Server::start(|_| {
        index(&list(&[])).header("Link", "<https://elsewhere.example/x>; rel=\"next\"")
    })
    .await;
    let error = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap_err();
    assert!(error.to_string().contains("another place"), "{error}");

    let server = Server::start(|_| index("{\"manifests\":5}")).await;
    let error = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap_err();
    assert_eq!(error.class(), Class::DataLoss, "{error}");
}

#[tokio::test]
async fn without_the_api_the_list_under_the_tag_counts() {
    let of = digest_of(b"image");
    for status in [404, 405, 200] {
        let tag = format!("/manifests/{}", referrers_tag(&of));
        let server = Server::start(move |r| match r.path() {
            path if path.ends_with(&tag) => index(&list(&["a"])),
            // Some servers have a page for every path.
            _ => Reply::new(status, b"<html>").header("Content-Type", "text/html"),
        })
        .await;
        let reference = server.reference("a:b");
        let found = client().referrers(&reference, &of, KIND, None).await;
        assert_eq!(digests(&found.unwrap()), named(&["a"]), "{status}");
    }
    let server = Server::start(|_| Reply::new(404, &[])).await;
    let found = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap();
    assert!(found.is_empty());
    assert_eq!(server.requests().len(), 2);
    let server = Server::start(|_| Reply::new(403, &[])).await;
    let error = client().referrers(&server.reference("a:b"), &of, KIND, None).await.unwrap_err();
    assert_eq!(error.class(), Class::PermissionDenied, "{error}");
}

#[tokio::test]
async fn a_mirror_that_knows_of_nothing_does_not_decide() {
    let mirror = Server::start(|_| index(&list(&[]))).await;
    let own = Server::start(|_| index(&list(&["a"]))).await;
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("registry.example")).unwrap();
    let text = format!("server = 'http://{}'\n[host.'http://{}']\n", own.host(), mirror.host());
    fs::write(root.path().join("registry.example/hosts.toml"), text).unwrap();
    let hosts_dirs = vec![root.path().to_owned()];
    let config = RegistryConfig { hosts_dirs, limits: limits(), ..RegistryConfig::default() };
    let reference = oci_image::Reference::parse("registry.example/a:b").unwrap();
    let of = digest_of(b"image");
    let found = Registry::new(config).referrers(&reference, &of, KIND, None).await.unwrap();
    assert_eq!(digests(&found), named(&["a"]));
    assert_eq!((mirror.requests().len(), own.requests().len()), (1, 1));
}
