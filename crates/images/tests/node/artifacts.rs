//! Artifacts: what registries hold beside images.

use testkit::{Registry, Scheme};

use crate::support::{Node, spec};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_is_its_files_and_goes_by_its_digest() {
    let registry = Registry::start(Scheme::Http);
    let files: [(&str, &[u8]); 3] =
        [("model.bin", b"weights"), ("docs/README", b"read me"), ("empty", b"")];
    let manifest = registry.push_artifact("application/x-model", &files, "test/model:1");
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/model:1");
    let pulled = node.images.pull(&spec(&reference), None).await.unwrap();
    assert_eq!(pulled.digest.as_str(), manifest.digest);
    for (name, content) in files {
        let read = node.read(&reference, name).unwrap();
        assert_eq!(read.as_bytes(), content, "{name}");
    }
    let found = node.images.status(&reference).unwrap().unwrap();
    assert_eq!(
        found.repo_digests,
        [format!("{}@{}", registry.reference("test/model"), manifest.digest)]
    );
    // Again: nothing is fetched and nothing changes.
    assert_eq!(node.images.pull(&spec(&reference), None).await.unwrap(), pulled);
    assert_eq!(node.count("layers"), 3);
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_artifacts_with_the_same_empty_configuration_are_two() {
    let registry = Registry::start(Scheme::Http);
    let node = Node::new(Some(&registry));
    for (name, content) in [("test/a:1", "a"), ("test/b:1", "b")] {
        registry.push_artifact("application/x", &[("file", content.as_bytes())], name);
        node.images.pull(&spec(&registry.reference(name)), None).await.unwrap();
    }
    assert_eq!(node.images.list(None).unwrap().len(), 2);
    assert_eq!(node.read(&registry.reference("test/a:1"), "file").as_deref(), Some("a"));
    assert_eq!(node.read(&registry.reference("test/b:1"), "file").as_deref(), Some("b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_an_artifact_cannot_leave_its_directory_and_its_bytes_are_compared() {
    let registry = Registry::start(Scheme::Http);
    let node = Node::new(Some(&registry));
    for title in ["../out", "a/../../out", "/../../out"] {
        registry.push_artifact("application/x", &[(title, b"x")], "test/bad:1");
        let reference = registry.reference("test/bad:1");
        let done = node.images.pull(&spec(&reference), None).await;
        assert!(done.is_err(), "{title}");
        assert!(!node.dir.path().join("store/layers/out").exists());
    }
    registry.push_artifact("application/x", &[("file", b"content")], "test/wrong:1");
    registry.corrupt(&testkit::digest(b"content"));
    let reference = registry.reference("test/wrong:1");
    assert!(node.images.pull(&spec(&reference), None).await.is_err());
    assert!(node.images.list(None).unwrap().is_empty());
    node.assert_tidy();
}
