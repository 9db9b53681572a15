//! What the policy does not let in is not pulled.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use images::Sources;
use model::{Class, Classified as _};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use testkit::{Blob, Compression, Image, Index, Layer, Registry, Scheme};

use crate::partial::Breaking;
use crate::support::{Node, SetUp, spec};

/// What stands before the point of a P-256 key in a SubjectPublicKeyInfo.
const P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

pub struct Signer(EcdsaKeyPair);

impl Signer {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
    }

    fn public(&self) -> String {
        let spki = [&P256[..], self.0.public_key().as_ref()].concat();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki))
    }

    /// A signature over `message`, in base64.
    pub fn signature(&self, message: &[u8]) -> String {
        STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
    }

    /// Signs as `cosign sign --key` of version 2 does, and puts the signature beside the image.
    fn sign(&self, registry: &Registry, repository: &str, digest: &str) {
        let payload = format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#,
            registry.reference(repository)
        );
        let signature = self.signature(payload.as_bytes());
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let payload = Blob::new(kind, payload.into_bytes());
        let config = Blob::new("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
        registry.push_blob(&payload, repository);
        registry.push_blob(&config, repository);
        let mut layer = payload.descriptor();
        layer["annotations"] = serde_json::json!({
            "dev.cosignproject.cosign/signature": signature,
        });
        let manifest = serde_json::json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor(),
            "layers": [layer],
        });
        let manifest = Blob::new(MANIFEST, manifest.to_string().into_bytes());
        let tag = format!("{}.sig", digest.replace(':', "-"));
        registry.push_manifest(&manifest, repository, &tag);
    }
}

pub fn image(word: &str) -> Image {
    let layer = Layer::new().file("word", 0o644, word.as_bytes()).build(Compression::Gzip);
    Image::new(vec![layer])
}

pub fn with_policy(policy: PathBuf) -> SetUp {
    let sources = Sources { policy: Some(policy), ..Sources::default() };
    SetUp { sources, ..SetUp::default() }
}

fn write_policy(dir: &Path, registry: &Registry, signer: &Signer) -> PathBuf {
    write_policy_for(dir, &registry.host(), signer)
}

fn write_policy_for(dir: &Path, host: &str, signer: &Signer) -> PathBuf {
    write_policy_with(dir, host, signer, "matchRepository")
}

pub fn write_policy_with(dir: &Path, host: &str, signer: &Signer, identity: &str) -> PathBuf {
    let key = dir.join("key.pub");
    std::fs::write(&key, signer.public()).unwrap();
    let policy = serde_json::json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": {
            host: [{
                "type": "sigstoreSigned",
                "keyPath": key,
                "signedIdentity": { "type": identity },
            }],
            format!("{host}/free"): [{ "type": "insecureAcceptAnything" }],
            format!("{host}/banned"): [{ "type": "reject" }],
        } },
    });
    let path = dir.join("policy.json");
    std::fs::write(&path, policy.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_the_policy_lets_in_is_pulled() {
    let registry = Registry::start(Scheme::Http);
    let (signer, stranger) = (Signer::new(), Signer::new());
    let dir = tempfile::tempdir().unwrap();
    let policy = write_policy(dir.path(), &registry, &signer);
    let images = [
        "test/signed:1",
        "test/unsigned:1",
        "test/foreign:1",
        "test/moved:1",
        "free/x:1",
        "banned/x:1",
    ];
    for name in images {
        registry.push(&image(name), name);
    }
    let digest = |name: &str| image(name).manifest().digest;
    signer.sign(&registry, "test/signed", &digest("test/signed:1"));
    stranger.sign(&registry, "test/foreign", &digest("test/foreign:1"));
    signer.sign(&registry, "test/moved", &digest("test/moved:1"));
    registry.push(&image("another"), "test/moved:1");
    let node = Node::set_up(Some(&registry), with_policy(policy.clone()));
    let pull = async |name: &str| {
        let reference = registry.reference(name);
        node.images.pull(&spec(&reference), None).await
    };
    pull("test/signed:1").await.unwrap();
    pull("free/x:1").await.unwrap();
    for (name, why) in [
        ("test/unsigned:1", "there is none"),
        ("test/foreign:1", "not signed by a key"),
        ("test/moved:1", "there is none"),
        ("banned/x:1", "does not allow it"),
    ] {
        let error = pull(name).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("SignatureValidationFailed") && text.contains(why),
            "{name}: {text}"
        );
        assert_eq!(error.class(), Class::PermissionDenied, "{name}");
        assert!(node.images.status(&registry.reference(name)).unwrap().is_none());
    }
    let elsewhere = node.images.pull(&spec("registry.invalid/x:1"), None).await.unwrap_err();
    assert!(elsewhere.to_string().starts_with("SignatureValidationFailed"), "{elsewhere}");
    // A policy counts from the next pull on, also for what is here; one that cannot be read lets
    // nothing in.
    std::fs::write(dir.path().join("key.pub"), stranger.public()).unwrap();
    let error = pull("test/signed:1").await.unwrap_err();
    assert!(error.to_string().contains("not signed by a key"), "{error}");
    std::fs::write(&policy, "{}").unwrap();
    let error = pull("free/x:1").await.unwrap_err();
    assert!(error.to_string().contains("policy.json cannot be used"), "{error}");
    assert_eq!(node.images.list(None).unwrap().len(), 2);
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_over_an_index_or_over_the_image_in_it_is_enough() {
    let registry = Registry::start(Scheme::Http);
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let policy = write_policy(dir.path(), &registry, &signer);
    let index = |word: &str| Index(vec![image(word), image(word).for_architecture("s390x")]);
    for name in ["test/whole:1", "test/part:1", "test/other:1"] {
        registry.push_index(&index(name), name);
    }
    signer.sign(&registry, "test/whole", &index("test/whole:1").manifest().digest);
    signer.sign(&registry, "test/part", &image("test/part:1").manifest().digest);
    let other = image("test/other:1").for_architecture("s390x");
    signer.sign(&registry, "test/other", &other.manifest().digest);
    let node = Node::set_up(Some(&registry), with_policy(policy));
    for (name, is_good) in [("test/whole:1", true), ("test/part:1", true), ("test/other:1", false)]
    {
        let done = node.images.pull(&spec(&registry.reference(name)), None).await;
        assert_eq!(done.is_ok(), is_good, "{name}: {done:?}");
        // Again, when it is here.
        let again = node.images.pull(&spec(&registry.reference(name)), None).await;
        assert_eq!(again.is_ok(), is_good, "{name}: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_another_manifest_brought_is_let_in_by_the_signature_over_its_own() {
    let registry = Registry::start(Scheme::Http);
    let signer = Signer::new();
    let dir = tempfile::tempdir().unwrap();
    let policy = write_policy(dir.path(), &registry, &signer);
    // The same image, packed in two ways: one configuration, two manifests.
    let layer = || Layer::new().file("word", 0o644, b"same");
    let free = Image::new(vec![layer().build(Compression::Gzip)]);
    let signed = Image::new(vec![layer().build(Compression::Zstd)]);
    assert_eq!(free.id(), signed.id());
    registry.push(&free, "free/x:1");
    registry.push(&signed, "test/signed:1");
    signer.sign(&registry, "test/signed", &signed.manifest().digest);
    let node = Node::set_up(Some(&registry), with_policy(policy));
    let pull = async |name: &str| {
        let reference = registry.reference(name);
        node.images.pull(&spec(&reference), None).await
    };
    let first = pull("free/x:1").await.unwrap();
    for _ in 0..2 {
        let again = pull("test/signed:1").await.unwrap();
        assert_eq!(again.id, first.id);
        assert_eq!(again.digest.as_str(), signed.manifest().digest);
    }
    // What is signed no more is not let in, although it is here.
    std::fs::write(dir.path().join("key.pub"), Signer::new().public()).unwrap();
    let error = pull("test/signed:1").await.unwrap_err();
    assert!(error.to_string().contains("not signed by a key"), "{error}");
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_cannot_give_the_signature_now_is_away_and_the_image_is_not_refused() {
    let image = image("down");
    let server = Breaking::start(&image);
    server.is_mended.store(true, Ordering::SeqCst);
    let dir = tempfile::tempdir().unwrap();
    let policy = write_policy_for(dir.path(), &server.host, &Signer::new());
    let node = Node::set_up(None, with_policy(policy));
    let reference = format!("{}/test/app:1", server.host);
    let error = node.images.pull(&spec(&reference), None).await.unwrap_err();
    assert_eq!(error.class(), Class::Unavailable, "{error}");
    assert!(!error.to_string().contains("SignatureValidationFailed"), "{error}");
    assert!(node.images.list(None).unwrap().is_empty());
    node.assert_tidy();
}
