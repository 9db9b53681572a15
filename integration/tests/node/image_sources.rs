//! Where the daemon's configuration says that images come from.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc;

use testkit::{Compression, Registry, Scheme, Setup, busybox};
use tonic::Code;

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
