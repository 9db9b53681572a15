//! Images go to a registry.

use image_store::Options;
use images::AuthParts;
use model::{Class, Classified as _, Secret};
use testkit::{Compression, Image, Layer, Registry, Scheme};

use crate::support::{Node, SetUp, spec};

fn image() -> Image {
    let lower = Layer::new().file("a", 0o644, b"lower").file("gone", 0o644, b"");
    let upper = Layer::new().file("b", 0o600, b"upper").file(".wh.gone", 0o644, b"");
    Image::new(vec![lower.build(Compression::Gzip), upper.build(Compression::Zstd)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_pushed_can_be_pulled_elsewhere() {
    let from = Registry::start(Scheme::Http);
    let to = Registry::start(Scheme::HttpWithPassword);
    from.push(&image(), "test/app:1");
    let node = Node::new(Some(&from));
    node.images.pull(&spec(&from.reference("test/app:1")), None).await.unwrap();
    let target = to.reference("mirror/app:2");
    let name = from.reference("test/app:1");
    let error = node.images.push(&name, Some(&target), &AuthParts::default()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthenticated, "{error}");
    let auth = AuthParts {
        username: testkit::USER.to_owned(),
        password: Secret::new(testkit::PASSWORD.to_owned()),
        ..AuthParts::default()
    };
    let pushed =
        node.images.push(&from.reference("test/app:1"), Some(&target), &auth).await.unwrap();
    assert_eq!(pushed.name, target);
    // Again: the registry has all of it.
    let again =
        node.images.push(&from.reference("test/app:1"), Some(&target), &auth).await.unwrap();
    assert_eq!(again, pushed);
    node.assert_tidy();

    let other = Node::new(Some(&to));
    let given = images::credentials(&target, "", &auth).unwrap();
    let pulled = other.images.pull(&spec(&target), given).await.unwrap();
    assert_eq!(pulled.digest, pushed.digest);
    assert_eq!(pulled.id.as_str(), image().id());
    assert_eq!(other.read(&target, "a").as_deref(), Some("lower"));
    assert_eq!(other.read(&target, "b").as_deref(), Some("upper"));
    assert_eq!(other.read(&target, "gone"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_whose_blobs_are_kept_keeps_its_digest() {
    let (from, to) = (Registry::start(Scheme::Http), Registry::start(Scheme::Http));
    from.push(&image(), "test/app:1");
    let options = Options { keep_blobs: true, ..Options::default() };
    let node = Node::set_up(Some(&from), SetUp { options, ..SetUp::default() });
    let name = from.reference("test/app:1");
    let pulled = node.images.pull(&spec(&name), None).await.unwrap();
    let target = to.reference("test/app:1");
    node.images.tag(&name, &target).await.unwrap();
    let pushed = node.images.push(&target, None, &AuthParts::default()).await.unwrap();
    assert_eq!(pushed.digest, pulled.digest);
    assert_eq!(node.images.pull(&spec(&target), None).await.unwrap().id, pulled.id);
    let missing = node.images.push("nothing:1", None, &AuthParts::default()).await.unwrap_err();
    assert_eq!(missing.class(), Class::NotFound);
}
