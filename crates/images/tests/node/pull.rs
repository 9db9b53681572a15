//! Pulls from a real registry.

use std::time::Duration;

use images::{Credentials, ImagesError, PullLimits};
use model::{Class, Classified as _, Secret};
use testkit::{Compression, Image, Index, Layer, Registry, Scheme};

use crate::support::{Node, spec};

fn layer(name: &str, compression: Compression) -> testkit::Blob {
    let content = format!("{name} ").repeat(20_000);
    Layer::new()
        .directory("etc", 0o755)
        .file(&format!("etc/{name}"), 0o644, content.as_bytes())
        .build(compression)
}

fn three_layers() -> Image {
    Image::new(vec![
        layer("one", Compression::Gzip),
        layer("two", Compression::Zstd),
        layer("three", Compression::Plain),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulled_image_is_whole_and_has_its_names() {
    let registry = Registry::start(Scheme::Http);
    let image = three_layers();
    registry.push(&image, "test/app:1");
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/app:1");
    let pulled = node.images.pull(&spec(&reference), None).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());
    assert_eq!(pulled.digest.as_str(), image.manifest().digest);
    let by_digest = format!("{}@{}", registry.reference("test/app"), pulled.digest);
    for name in [reference.as_str(), by_digest.as_str(), pulled.id.as_str()] {
        let found = node.images.status(name).unwrap().expect(name);
        assert_eq!(found.repo_tags, [reference.as_str()]);
        assert_eq!(found.repo_digests, [by_digest.as_str()]);
        assert_eq!(node.images.list(Some(name)).unwrap().len(), 1);
        let compressed: usize = image.layers.iter().map(|l| l.bytes.len()).sum();
        assert!(found.size > compressed as u64);
    }
    for name in ["one", "two", "three"] {
        assert!(node.read(&reference, &format!("etc/{name}")).unwrap().starts_with(name));
    }
    node.assert_tidy();
    // Again, by tag and by digest: nothing changes.
    for again in [&reference, &by_digest] {
        assert_eq!(node.images.pull(&spec(again), None).await.unwrap(), pulled);
    }
    assert_eq!((node.images.list(None).unwrap().len(), node.count("layers")), (1, 3));
    let removed = node.images.remove(&by_digest).await.unwrap().unwrap();
    assert_eq!((removed.names.len(), removed.layers_freed), (2, 3));
    assert!(node.images.remove(&reference).await.unwrap().is_none());
    assert!(node.images.list(None).unwrap().is_empty());
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_that_moved_is_pulled_anew_and_shares_its_layers() {
    let registry = Registry::start(Scheme::Http);
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/app:1");
    let old = three_layers();
    registry.push(&old, "test/app:1");
    node.images.pull(&spec(&reference), None).await.unwrap();
    let new = three_layers().layer(layer("four", Compression::Gzip));
    registry.push(&new, "test/app:1");
    let pulled = node.images.pull(&spec(&reference), None).await.unwrap();
    assert_eq!(pulled.id.as_str(), new.id());
    assert_eq!(node.count("layers"), 4);
    assert!(node.images.status(&old.id()).unwrap().unwrap().repo_tags.is_empty());
    let removed = node.images.remove(&old.id()).await.unwrap().unwrap();
    assert_eq!(removed.layers_freed, 0);
    assert!(node.read(&reference, "etc/one").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulls_at_once_are_one_and_share_what_they_share() {
    let registry = Registry::start(Scheme::Http);
    registry.push(&three_layers(), "test/a:1");
    registry.push(&three_layers().layer(layer("four", Compression::Gzip)), "test/b:1");
    let limits = PullLimits { layers_at_once: 2, ..PullLimits::default() };
    let node = Node::with(Some(&registry), limits);
    let mut pulls = tokio::task::JoinSet::new();
    for i in 0..8 {
        let name = if i % 2 == 0 { "test/a:1" } else { "test/b:1" };
        let (images, reference) = (node.images.clone(), registry.reference(name));
        pulls.spawn(async move { images.pull(&spec(&reference), None).await.unwrap() });
    }
    let mut ids: Vec<_> = pulls.join_all().await.into_iter().map(|p| p.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), node.count("layers")), (2, 4));
    node.operations.idle().await;
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gives_up_cancels_nothing() {
    let registry = Registry::start(Scheme::Http);
    registry.push(&three_layers(), "test/a:1");
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/a:1");
    let wanted = spec(&reference);
    let pull = node.images.pull(&wanted, None);
    assert!(tokio::time::timeout(Duration::ZERO, pull).await.is_err());
    node.operations.idle().await;
    assert!(node.images.status(&reference).unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_gives_the_image_of_this_platform_or_says_which_it_has() {
    let registry = Registry::start(Scheme::Http);
    let (mine, other) = (three_layers(), three_layers().for_architecture("s390x"));
    registry.push_index(&Index(vec![other.clone(), mine.clone()]), "test/app:1");
    registry.push_index(&Index(vec![other]), "test/foreign:1");
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/app:1");
    let pulled = node.images.pull(&spec(&reference), None).await.unwrap();
    assert_eq!(pulled.id.as_str(), mine.id());
    assert_ne!(pulled.digest.as_str(), mine.manifest().digest, "the index's digest counts");
    let found = node.images.status(&reference).unwrap().unwrap();
    assert!(found.repo_digests[0].ends_with(pulled.digest.as_str()));
    let foreign = spec(&registry.reference("test/foreign:1"));
    let error = node.images.pull(&foreign, None).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound);
    assert!(error.to_string().contains("s390x"), "{error}");
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_is_not_what_it_should_be_leaves_no_image() {
    for damage in [Registry::corrupt, Registry::cut] {
        let registry = Registry::start(Scheme::Http);
        let image = three_layers();
        registry.push(&image, "test/app:1");
        damage(&registry, &image.layers[1].digest);
        let node = Node::new(Some(&registry));
        let reference = registry.reference("test/app:1");
        let error = node.images.pull(&spec(&reference), None).await.unwrap_err();
        assert!(
            matches!(error.class(), Class::DataLoss | Class::Unavailable),
            "{error} is {:?}",
            error.class()
        );
        assert!(error.to_string().contains("test/app"), "{error}");
        node.operations.idle().await;
        assert!(node.images.list(None).unwrap().is_empty());
        assert_eq!(node.count("layers"), 2, "good layers are kept for the next pull");
        node.assert_tidy();
        // The image comes right; only the layer that was bad is missing.
        let healed = Registry::start(Scheme::Http);
        healed.push(&image, "test/app:1");
        let again = Node::new(Some(&healed));
        again.images.pull(&spec(&healed.reference("test/app:1")), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_open_the_registry_and_are_in_no_message() {
    let registry = Registry::start(Scheme::HttpWithPassword);
    registry.push(&three_layers(), "test/app:1");
    let node = Node::new(Some(&registry));
    let wanted = spec(&registry.reference("test/app:1"));
    let with = |password: &str| {
        let user = testkit::USER.to_owned();
        Some(Credentials::Basic { user, password: Secret::new(password.to_owned()) })
    };
    for given in [None, with("hunter2")] {
        let error = node.images.pull(&wanted, given).await.unwrap_err();
        assert!(
            matches!(error.class(), Class::Unauthenticated | Class::PermissionDenied),
            "{error} is {:?}",
            error.class()
        );
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }
    node.images.pull(&wanted, with(testkit::PASSWORD)).await.unwrap();
    // What is here is not given to somebody who may not have it.
    let error = node.images.pull(&wanted, with("hunter2")).await.unwrap_err();
    assert!(matches!(error.class(), Class::Unauthenticated | Class::PermissionDenied), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_say_what_they_are() {
    let registry = Registry::start(Scheme::Http);
    let node = Node::new(Some(&registry));
    let absent =
        node.images.pull(&spec(&registry.reference("test/none:1")), None).await.unwrap_err();
    assert_eq!(absent.class(), Class::NotFound, "{absent}");
    let bad = node.images.pull(&spec("Not A Name"), None).await.unwrap_err();
    assert_eq!(bad.class(), Class::InvalidArgument, "{bad}");
    // Nobody listens at a port that only root may have and that nothing has.
    let gone = node.images.pull(&spec("127.0.0.1:1/test/none:1"), None).await.unwrap_err();
    assert_eq!(gone.class(), Class::Unavailable, "{gone}");
    assert!(gone.to_string().starts_with("RegistryUnavailable"), "{gone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_past_its_deadline_says_what_it_was_at() {
    // A host that takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let limits = PullLimits { deadline: Some(Duration::from_millis(50)), ..PullLimits::default() };
    let node = Node::with(None, limits);
    let reference = format!("{}/test/app:1", listener.local_addr().unwrap());
    let error = node.images.pull(&spec(&reference), None).await.unwrap_err();
    assert_eq!(error.class(), Class::DeadlineExceeded);
    let ImagesError::Shared(inner) = &error else { panic!("{error:?}") };
    assert!(matches!(**inner, ImagesError::Deadline { phase: "resolve", .. }), "{error:?}");
    node.assert_tidy();
}
