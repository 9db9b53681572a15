//! Signatures that refer to an image, as cosign 3 leaves them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use images::Pulled;
use model::{Class, Classified as _};
use serde_json::{Value, json};
use testkit::{Blob, Compression, Image, Layer, Registry, Scheme};

use crate::policy::{MANIFEST, Signer, image, with_policy, write_policy_with};
use crate::support::{Node, spec};

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const STATEMENT: &str = "application/vnd.in-toto+json";
const SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A statement of cosign's about a manifest, or of somebody else's.
fn statement(digest: &str, predicate: &str) -> Value {
    let hex = digest.trim_start_matches("sha256:");
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "digest": { "sha256": hex } }],
        "predicateType": predicate,
        "predicate": {},
    })
}

/// The bundle that `cosign sign --key` of version 3 makes.
fn bundle(signer: &Signer, statement: &Value) -> Value {
    let payload = statement.to_string();
    let head = format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), payload.len());
    json!({
        "mediaType": BUNDLE,
        "verificationMaterial": { "publicKey": { "hint": "x" } },
        "dsseEnvelope": {
            "payload": STANDARD.encode(&payload),
            "payloadType": STATEMENT,
            "signatures": [{ "sig": signer.signature(format!("{head}{payload}").as_bytes()) }],
        },
    })
}

/// Puts a bundle into the repository; what refers to the image with it.
fn push(registry: &Registry, repository: &str, digest: &str, bundle: &[u8]) -> Value {
    let bundle = Blob::new(BUNDLE, bundle.to_vec());
    let config = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    registry.push_blob(&bundle, repository);
    registry.push_blob(&config, repository);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": BUNDLE,
        "config": config.descriptor(),
        "layers": [bundle.descriptor()],
        "subject": { "mediaType": MANIFEST, "digest": digest, "size": 1 },
    });
    let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
    registry.push_manifest(&manifest, repository, &manifest.digest);
    let mut referrer = manifest.descriptor();
    referrer["artifactType"] = BUNDLE.into();
    referrer
}

fn list_of(referrers: &[Value]) -> String {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": referrers }).to_string()
}

/// Lists what refers to an image under the tag that stands for its digest.
fn list(registry: &Registry, repository: &str, digest: &str, referrers: &[Value]) {
    let index = Blob::new(INDEX, list_of(referrers).into_bytes());
    registry.push_manifest(&index, repository, &digest.replace(':', "-"));
}

/// A repository whose image has these bundles, in bytes.
fn signed(registry: &Registry, repository: &str, bundles: &[Vec<u8>]) -> Vec<Value> {
    let digest = image(repository).manifest().digest;
    registry.push(&image(repository), &format!("{repository}:1"));
    let referrers: Vec<Value> =
        bundles.iter().map(|b| push(registry, repository, &digest, b)).collect();
    list(registry, repository, &digest, &referrers);
    referrers
}

fn assert_refused(what: &str, done: Result<Pulled, images::ImagesError>, why: &str) {
    let error = done.expect_err(what);
    let text = error.to_string();
    assert!(text.starts_with("SignatureValidationFailed"), "{what}: {text}");
    assert!(text.contains(why), "{what}: {text}");
    assert_eq!(error.class(), Class::PermissionDenied, "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_listed_under_the_tag_of_a_digest_count_if_they_are_signatures_of_the_image() {
    let registry = Registry::start(Scheme::Http);
    let (signer, stranger) = (Signer::new(), Signer::new());
    let dir = tempfile::tempdir().unwrap();
    let policy = write_policy_with(dir.path(), &registry.host(), &signer, "matchDigest");
    let of = |repository: &str| image(repository).manifest().digest;
    let good = |repository: &str| bundle(&signer, &statement(&of(repository), SIGN));
    let bytes = |value: Value| value.to_string().into_bytes();

    let mut altered = good("test/altered");
    let other = statement(&of("test/other"), SIGN).to_string();
    altered["dsseEnvelope"]["payload"] = STANDARD.encode(other).into();
    let mut long = good("test/long");
    long["verificationMaterial"]["publicKey"]["hint"] = "x".repeat(1 << 20).into();
    let provenance = statement(&of("test/provenance"), "https://slsa.dev/provenance/v1");
    for (repository, bundles) in [
        ("test/good", vec![bytes(good("test/good"))]),
        ("test/among", vec![b"no bundle".to_vec(), bytes(good("test/among"))]),
        ("test/foreign", vec![bytes(bundle(&stranger, &statement(&of("test/foreign"), SIGN)))]),
        ("test/moved", vec![bytes(good("test/good"))]),
        ("test/altered", vec![bytes(altered)]),
        ("test/provenance", vec![bytes(bundle(&signer, &provenance))]),
        ("test/long", vec![bytes(long)]),
        ("test/garbage", vec![b"{".to_vec()]),
    ] {
        signed(&registry, repository, &bundles);
    }
    let node = Node::set_up(Some(&registry), with_policy(policy));
    let pull = async |name: &str| {
        let reference = registry.reference(name);
        node.images.pull(&spec(&reference), None).await
    };
    for name in ["test/good:1", "test/among:1"] {
        pull(name).await.unwrap();
        // Again, when it is here.
        pull(name).await.unwrap();
    }
    for (name, why) in [
        ("test/foreign:1", "not signed by a key"),
        ("test/moved:1", "another image"),
        ("test/altered:1", "not signed by a key"),
        ("test/provenance:1", "no signature but"),
        ("test/long:1", "bytes"),
        ("test/garbage:1", "no bundle"),
    ] {
        assert_refused(name, pull(name).await, why);
        assert!(node.images.status(&registry.reference(name)).unwrap().is_none());
    }
    // Bundles sign under no name; a policy that wants one takes none of them.
    write_policy_with(dir.path(), &registry.host(), &signer, "matchRepository");
    assert_refused("a name", pull("test/good:1").await, "matchDigest");
    node.assert_tidy();
}

/// Passes on to a registry, but for the API for what refers to an image: that it answers itself.
struct Referring {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Referring {
    fn start(
        registry: &Registry,
        answer: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (behind, log) = (registry.host(), Arc::clone(&asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away is none of this server's business.
                let _ = serve(stream, &behind, &log, &answer);
            }
        });
        Self { host, asked }
    }
}

fn serve(
    mut client: TcpStream,
    behind: &str,
    log: &Mutex<Vec<String>>,
    answer: &impl Fn(&str) -> Option<String>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // A greeting of TLS: this server speaks plain HTTP.
        if client.read(&mut byte)? == 0 || head.first() == Some(&0x16) || head.len() > 8192 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    if target.contains("/referrers/") {
        log.lock().unwrap().push(target.clone());
        return match answer(&target) {
            Some(body) => {
                let length = body.len();
                write!(
                    client,
                    "HTTP/1.1 200 OK\r\nContent-Type: {INDEX}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                )
            }
            None => write!(
                client,
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
        };
    }
    let mut registry = TcpStream::connect(behind)?;
    let (first, rest) = head.split_once("\r\n").unwrap_or_default();
    write!(registry, "{first}\r\nConnection: close\r\n{rest}")?;
    std::io::copy(&mut registry, &mut client).map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_that_the_registry_lists_itself_are_found_and_verified() {
    let registry = Registry::start(Scheme::Http);
    let (signer, stranger) = (Signer::new(), Signer::new());
    let dir = tempfile::tempdir().unwrap();
    let names = ["test/good", "test/foreign", "test/none", "test/down"];
    let mut lists = Vec::new();
    for (repository, signer) in [("test/good", &signer), ("test/foreign", &stranger)] {
        let digest = image(repository).manifest().digest;
        let bundle = bundle(signer, &statement(&digest, SIGN)).to_string();
        lists.push((repository, push(&registry, repository, &digest, bundle.as_bytes())));
    }
    for name in names {
        registry.push(&image(name), &format!("{name}:1"));
    }
    let server = Referring::start(&registry, move |target| {
        let of = |(repository, _): &&(&str, Value)| target.contains(repository);
        let listed = lists.iter().find(of).map(|(_, referrer)| referrer);
        match listed {
            Some(referrer) => Some(list_of(std::slice::from_ref(referrer))),
            // As Go writes an empty list.
            None if target.contains("test/none") => Some(list_of(&[]).replace("[]", "null")),
            None => None,
        }
    });
    let policy = write_policy_with(dir.path(), &server.host, &signer, "matchDigest");
    let node = Node::set_up(None, with_policy(policy));
    let pull = async |name: &str| {
        let reference = format!("{}/{name}:1", server.host);
        node.images.pull(&spec(&reference), None).await
    };
    pull("test/good").await.unwrap();
    let digest = image("test/good").manifest().digest;
    let kind = "application%2Fvnd.dev.sigstore.bundle.v0.3%2Bjson";
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked, [format!("/v2/test/good/referrers/{digest}?artifactType={kind}")]);
    assert_refused("foreign", pull("test/foreign").await, "not signed by a key");
    assert_refused("none", pull("test/none").await, "there is none");
    // A registry that cannot tell is away; the image is not refused.
    let error = pull("test/down").await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable, "{error}");
    assert!(!error.to_string().contains("SignatureValidationFailed"), "{error}");
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_bundles_than_are_read_let_nothing_in() {
    let registry = Registry::start(Scheme::Http);
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let mut lists = Vec::new();
    for (repository, count, kind) in [
        ("test/many", 300, BUNDLE),
        ("test/others", 300, "application/spdx+json"),
        ("test/endless", 1100, "application/spdx+json"),
    ] {
        let digest = image(repository).manifest().digest;
        let good = bundle(&signer, &statement(&digest, SIGN)).to_string();
        let mut all = signed(&registry, repository, &[good.into_bytes()]);
        // Only the list has to be long: what it lists is not even asked for.
        all.extend((0..count).map(|i| {
            let digest = testkit::digest(format!("{i}").as_bytes());
            json!({ "mediaType": MANIFEST, "digest": digest, "size": 100, "artifactType": kind })
        }));
        lists.push((repository, list_of(&all)));
    }
    let server = Referring::start(&registry, move |target| {
        lists.iter().find(|(repository, _)| target.contains(repository)).map(|(_, l)| l.clone())
    });
    let policy = write_policy_with(dir.path(), &server.host, &signer, "matchDigest");
    let node = Node::set_up(None, with_policy(policy));
    let pull = async |name: &str| {
        let reference = format!("{}/{name}:1", server.host);
        node.images.pull(&spec(&reference), None).await
    };
    assert_refused("many", pull("test/many").await, "at most 64");
    assert_refused("endless", pull("test/endless").await, "1024");
    // What says that it is something else is in nobody's way.
    pull("test/others").await.unwrap();
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_over_an_index_lets_its_images_in() {
    let registry = Registry::start(Scheme::Http);
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let policy = write_policy_with(dir.path(), &registry.host(), &signer, "matchDigest");
    let one = Image::new(vec![Layer::new().file("a", 0o644, b"a").build(Compression::Gzip)]);
    let index = testkit::Index(vec![one.clone(), one.for_architecture("s390x")]);
    registry.push_index(&index, "test/whole:1");
    let digest = index.manifest().digest;
    let bundle = bundle(&signer, &statement(&digest, SIGN)).to_string();
    let referrer = push(&registry, "test/whole", &digest, bundle.as_bytes());
    list(&registry, "test/whole", &digest, &[referrer]);
    let node = Node::set_up(Some(&registry), with_policy(policy));
    node.images.pull(&spec(&registry.reference("test/whole:1")), None).await.unwrap();
    node.assert_tidy();
}
