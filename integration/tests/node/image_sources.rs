//! Where the daemon's configuration says that images come from.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

use testkit::{Blob, Compression, Image, Layer, Registry, Scheme, Setup, busybox};
use tonic::Code;

use crate::around::text;

#[tokio::test]
async fn what_the_policy_refuses_is_told_by_the_word_that_the_kubelet_knows() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    registry.push(&busybox(Compression::Gzip), "test/busybox:1");
    let setup = Setup::new().registry(&registry);
    let policy = setup.directory().join("policy.json");
    std::fs::write(&policy, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    let daemon = setup.toml(&format!("images.policy = \"{}\"", policy.display())).start().await;
    let reference = registry.reference("test/busybox:1");
    let refused = daemon.pull(&reference).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().starts_with("SignatureValidationFailed"), "{refused}");
    // It counts without a restart.
    std::fs::write(&policy, r#"{"default":[{"type":"insecureAcceptAnything"}]}"#).unwrap();
    daemon.pull(&reference).await.unwrap();
}

/// A key of P-256 and its public half, made by openssl.
struct Signer {
    directory: PathBuf,
}

impl Signer {
    fn new(directory: &Path, name: &str) -> Self {
        let directory = directory.join(name);
        std::fs::create_dir(&directory).unwrap();
        let this = Self { directory };
        let (private, public) = (this.at("key.pem"), this.at("key.pub"));
        let curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out"];
        openssl(&[&["genpkey"], &curve[..], &[&private]].concat());
        openssl(&["pkey", "-in", &private, "-pubout", "-out", &public]);
        this
    }

    fn at(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// What openssl makes of a payload, in base64.
    fn signature(&self, payload: &str) -> String {
        let (file, signature) = (self.at("payload"), self.at("signature"));
        std::fs::write(&file, payload).unwrap();
        let key = self.at("key.pem");
        openssl(&["dgst", "-sha256", "-sign", &key, "-out", &signature, &file]);
        openssl(&["base64", "-A", "-in", &signature]).trim().to_owned()
    }
}

fn openssl(args: &[&str]) -> String {
    let done = Command::new("openssl").args(args).output().unwrap();
    let said = text(&done.stderr);
    assert!(done.status.success(), "openssl {args:?}: {said}");
    text(&done.stdout)
}

/// Puts a signature beside an image: the tag, the types and the annotation are those of cosign.
fn attach(registry: &Registry, repository: &str, digest: &str, payload: &str, signature: &str) {
    let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
    let payload = Blob::new(kind, payload.as_bytes().to_vec());
    let config = format!(
        r#"{{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{{"created":"0001-01-01T00:00:00Z"}}],"os":"","rootfs":{{"type":"layers","diff_ids":["{}"]}},"config":{{}}}}"#,
        payload.digest
    );
    let config = Blob::new("application/vnd.oci.image.config.v1+json", config.into_bytes());
    registry.push_blob(&payload, repository);
    registry.push_blob(&config, repository);
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{{"mediaType":"{kind}","size":{},"digest":"{}","annotations":{{"dev.cosignproject.cosign/signature":"{signature}"}}}}]}}"#,
        config.descriptor(),
        payload.bytes.len(),
        payload.digest,
    );
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = Blob::new(kind, manifest.into_bytes());
    registry.push_manifest(&manifest, repository, &format!("{}.sig", digest.replace(':', "-")));
}

#[tokio::test]
async fn a_signature_that_openssl_made_and_that_lies_where_cosign_puts_it_lets_an_image_in() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    let setup = Setup::new().registry(&registry);
    let signer = Signer::new(setup.directory(), "signer");
    let stranger = Signer::new(setup.directory(), "stranger");
    let image = busybox(Compression::Gzip);
    let digest = image.manifest().digest;
    // Written as cosign writes it, which is not how we would: members in another order, and `null`.
    let payload = |repository: &str, digest: &str| {
        let name = registry.reference(repository);
        format!(
            r#"{{"critical":{{"identity":{{"docker-reference":"{name}"}},"image":{{"docker-manifest-digest":"{digest}"}},"type":"cosign container image signature"}},"optional":null}}"#
        )
    };
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    for (repository, signed, signer, is_changed) in [
        ("test/good", digest.as_str(), &signer, false),
        ("test/stranger", digest.as_str(), &stranger, false),
        ("test/changed", digest.as_str(), &signer, true),
        ("test/moved", elsewhere.as_str(), &signer, false),
    ] {
        registry.push(&image, &format!("{repository}:1"));
        let mut payload = payload(repository, signed);
        let signature = signer.signature(&payload);
        if is_changed {
            payload = payload.replace("null", "{}");
        }
        attach(&registry, repository, &digest, &payload, &signature);
    }
    registry.push(&image, "test/unsigned:1");
    let policy = setup.directory().join("policy.json");
    let rule = serde_json::json!([{
        "type": "sigstoreSigned",
        "keyPath": signer.at("key.pub"),
        "signedIdentity": { "type": "matchRepository" },
    }]);
    let rules = serde_json::json!({
        "default": [{ "type": "reject" }],
        "transports": { "docker": { registry.host(): rule } },
    });
    std::fs::write(&policy, rules.to_string()).unwrap();
    let daemon = setup.toml(&format!("images.policy = \"{}\"", policy.display())).start().await;
    for (name, why) in [
        ("test/unsigned:1", "there is none"),
        ("test/stranger:1", "not signed by a key of the policy"),
        ("test/changed:1", "not signed by a key of the policy"),
        ("test/moved:1", "another image"),
    ] {
        let refused = daemon.pull(&registry.reference(name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}: {refused}");
        assert!(refused.message().starts_with("SignatureValidationFailed"), "{name}: {refused}");
        assert!(refused.message().contains(why), "{name}: {refused}");
    }
    daemon.pull(&registry.reference("test/good:1")).await.unwrap();
}

/// What cosign 3 puts beside an image: a bundle, a manifest for it, and a list under the tag that stands
/// for the image's digest, as clients do it where a registry keeps no such list.
fn attach_bundle(registry: &Registry, repository: &str, digest: &str, bundle: &str) {
    let kind = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let bundle = Blob::new(kind, bundle.as_bytes().to_vec());
    let config = Blob::new("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    registry.push_blob(&bundle, repository);
    registry.push_blob(&config, repository);
    let image = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{image}","artifactType":"{kind}","config":{},"layers":[{}],"subject":{{"mediaType":"{image}","size":1,"digest":"{digest}"}},"annotations":{{"dev.sigstore.bundle.content":"dsse-envelope","dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1"}}}}"#,
        config.descriptor(),
        bundle.descriptor(),
    );
    let manifest = Blob::new(image, manifest.into_bytes());
    registry.push_manifest(&manifest, repository, &manifest.digest);
    let mut entry = manifest.descriptor();
    entry["artifactType"] = kind.into();
    let index = "application/vnd.oci.image.index.v1+json";
    let list = format!(r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":[{entry}]}}"#);
    let list = Blob::new(index, list.into_bytes());
    registry.push_manifest(&list, repository, &digest.replace(':', "-"));
}

#[tokio::test]
async fn a_bundle_that_openssl_signed_lets_an_image_in() {
    testkit::isolate_network();
    let registry = Registry::start(Scheme::Http);
    let setup = Setup::new().registry(&registry);
    let signer = Signer::new(setup.directory(), "signer");
    let stranger = Signer::new(setup.directory(), "stranger");
    let image = busybox(Compression::Gzip);
    let digest = image.manifest().digest;
    let hex = digest.trim_start_matches("sha256:");
    // Written as protobuf's JSON is.
    let statement = |hex: &str| {
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1", "subject":[{{"digest":{{"sha256":"{hex}"}}}}], "predicateType":"https://sigstore.dev/cosign/sign/v1", "predicate":{{}}}}"#
        )
    };
    let kind = "application/vnd.in-toto+json";
    for (repository, hex, signer) in [
        ("test/good", hex, &signer),
        ("test/stranger", hex, &stranger),
        ("test/moved", "0".repeat(64).as_str(), &signer),
    ] {
        registry.push(&image, &format!("{repository}:1"));
        let statement = statement(hex);
        let message = format!("DSSEv1 {} {kind} {} {statement}", kind.len(), statement.len());
        let signature = signer.signature(&message);
        let file = signer.at("statement");
        std::fs::write(&file, &statement).unwrap();
        let payload = openssl(&["base64", "-A", "-in", &file]);
        let bundle = format!(
            r#"{{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json", "verificationMaterial":{{"publicKey":{{"hint":"x"}}, "tlogEntries":[], "timestampVerificationData":null}}, "dsseEnvelope":{{"payload":"{}", "payloadType":"{kind}", "signatures":[{{"sig":"{signature}"}}]}}}}"#,
            payload.trim()
        );
        attach_bundle(&registry, repository, &digest, &bundle);
    }
    let policy = setup.directory().join("policy.json");
    let write = |identity: &str| {
        let rule = serde_json::json!([{
            "type": "sigstoreSigned",
            "keyPath": signer.at("key.pub"),
            "signedIdentity": { "type": identity },
        }]);
        let rules = serde_json::json!({
            "default": [{ "type": "reject" }],
            "transports": { "docker": { registry.host(): rule } },
        });
        std::fs::write(&policy, rules.to_string()).unwrap();
    };
    write("matchDigest");
    let toml = format!("images.policy = \"{}\"", policy.display());
    let daemon = setup.toml(&toml).start().await;
    let refused = async |name: &str, why: &str| {
        let refused = daemon.pull(&registry.reference(name)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{name}: {refused}");
        assert!(refused.message().starts_with("SignatureValidationFailed"), "{name}: {refused}");
        assert!(refused.message().contains(why), "{name}: {refused}");
    };
    refused("test/stranger:1", "not signed by a key of the policy").await;
    refused("test/moved:1", "another image").await;
    daemon.pull(&registry.reference("test/good:1")).await.unwrap();
    write("matchRepository");
    refused("test/good:1", "matchDigest").await;
}

#[tokio::test]
async fn a_mirror_that_is_changed_in_the_hosts_directory_counts_at_the_next_pull() {
    testkit::isolate_network();
    let (first, second) = (Registry::start(Scheme::Http), Registry::start(Scheme::Http));
    let image = |word: &str| {
        let layer = Layer::new().file("word", 0o644, word.as_bytes()).build(Compression::Gzip);
        Image::new(vec![layer])
    };
    first.push(&image("first"), "test/app:1");
    second.push(&image("second"), "test/app:1");
    let through = |mirror: &Registry| {
        format!("server = \"http://127.0.0.1:1\"\n\n[host.\"http://{}\"]\n", mirror.host())
    };
    let setup = Setup::new().hosts_toml("registry.test", &through(&first));
    let file = setup.hosts_file("registry.test");
    let daemon = setup.start().await;
    let pull = async || daemon.pull("registry.test/test/app:1").await;
    assert_eq!(pull().await.unwrap(), image("first").id());
    std::fs::write(&file, through(&second)).unwrap();
    assert_eq!(pull().await.unwrap(), image("second").id());
    // What is half understood is not used, and nobody else is asked either.
    for (text, line) in [
        (format!("{}capabilities = [\"fly\"]\n", through(&first)), 4),
        (format!("{}ca = \n", through(&first)), 4),
        ("server = 5\n".to_owned(), 1),
    ] {
        std::fs::write(&file, text).unwrap();
        let refused = pull().await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let place = format!("registry.test/hosts.toml: line {line}: ");
        assert!(refused.message().contains(&place), "{refused}");
    }
    std::fs::write(&file, through(&first)).unwrap();
    assert_eq!(pull().await.unwrap(), image("first").id());
}

#[tokio::test]
async fn a_proxy_of_the_environment_and_a_credential_helper_are_used() {
    testkit::isolate_network();
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in proxy.incoming().flatten() {
            let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let is_known =
                head.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization: "));
            let answer = if is_known {
                "HTTP/1.1 404 Not Found\r\n"
            } else {
                "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n"
            };
            let _ = write!(&stream, "{answer}Content-Length: 0\r\nConnection: close\r\n\r\n");
            if sender.send(head).is_err() {
                return;
            }
        }
    });
    let setup = Setup::new().hosts_toml("registry.test", "server = \"http://registry.test\"");
    let programs = setup.directory().join("programs");
    std::fs::create_dir(&programs).unwrap();
    let helper = programs.join("docker-credential-test");
    let script = "#!/bin/sh\nread -r server\n[ \"$1 $server\" = 'get registry.test' ] && echo '{\"ServerURL\":\"registry.test\",\"Username\":\"u\",\"Secret\":\"s3cret\"}'\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let auth = setup.directory().join("auth.json");
    std::fs::write(&auth, r#"{"credHelpers":{"registry.test":"test"}}"#).unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let daemon = setup
        .toml(&format!("images.auth_files = [\"{}\"]", auth.display()))
        .variable("HTTP_PROXY", &format!("http://{address}"))
        .variable("PATH", &path)
        .start()
        .await;
    let missing = daemon.pull("registry.test/team/app:1").await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound, "{missing}");
    let first = asked.recv().unwrap();
    assert!(first[0].contains(" http://registry.test/v2/team/app/manifests/1 "), "{first:?}");
    let second = asked.recv().unwrap();
    // u:s3cret
    let is_sent =
        second.iter().any(|line| line.eq_ignore_ascii_case("authorization: basic dTpzM2NyZXQ="));
    assert!(is_sent, "{second:?}");
    assert!(!daemon.log().contains("s3cret"));
}
