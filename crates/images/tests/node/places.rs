//! Where images come from beside the registry of their name.

use std::path::{Path, PathBuf};

use image_store::Options;
use images::{AuthParts, Sources};
use model::{Class, Classified as _, Secret};
use testkit::{Compression, Image, Layer, Registry, Scheme};

use crate::support::{Node, SetUp, spec};

fn image(word: &str) -> Image {
    let layer = Layer::new().file("word", 0o644, word.as_bytes()).build(Compression::Gzip);
    Image::new(vec![layer])
}

/// Unpacks an OCI layout with `image` under `name` below `dir`.
fn layout(dir: &Path, image: &Image, name: &str) -> PathBuf {
    let place = dir.join("layout");
    std::fs::create_dir_all(&place).unwrap();
    let tar = dir.join("layout.tar");
    std::fs::write(&tar, testkit::archive::oci_layout(&[(image, name)])).unwrap();
    let done =
        std::process::Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&place).status();
    assert!(done.unwrap().success());
    place
}

fn listed(unqualified: Vec<String>) -> SetUp {
    SetUp { options: Options { unqualified, ..Options::default() }, ..SetUp::default() }
}

fn preloaded(directories: Vec<PathBuf>) -> SetUp {
    let sources = Sources { preloaded: directories, ..Sources::default() };
    SetUp { sources, ..SetUp::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_this_node_gives_its_images_without_any_registry() {
    let dir = tempfile::tempdir().unwrap();
    let image = image("preloaded");
    let name = "registry.invalid/team/app:1";
    let place = layout(dir.path(), &image, name);
    let before = std::fs::read_dir(&place).unwrap().count();
    // A directory that is not there, and one that is no layout, are passed over.
    let node = Node::set_up(
        None,
        preloaded(vec![dir.path().join("missing"), dir.path().to_owned(), place.clone()]),
    );
    let pulled = node.images.pull(&spec(name), None).await.unwrap();
    assert_eq!(pulled.id.as_str(), image.id());
    assert_eq!(node.read(name, "word").as_deref(), Some("preloaded"));
    let by_digest = format!("registry.invalid/team/app@{}", image.manifest().digest);
    assert_eq!(node.images.pull(&spec(&by_digest), None).await.unwrap(), pulled);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), before);
    // Another tag is for the registry to tell, which is not there.
    let other = node.images.pull(&spec("registry.invalid/team/app:2"), None).await.unwrap_err();
    assert_eq!(other.class(), Class::Unavailable, "{other}");
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_directory_has_is_compared_with_its_digest_too() {
    let dir = tempfile::tempdir().unwrap();
    let image = image("damaged");
    let name = "registry.invalid/team/app:1";
    let place = layout(dir.path(), &image, name);
    let hex = image.layers[0].digest.trim_start_matches("sha256:").to_owned();
    let blob = place.join("blobs/sha256").join(hex);
    let mut bytes = std::fs::read(&blob).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&blob, bytes).unwrap();
    let node = Node::set_up(None, preloaded(vec![place]));
    let error = node.images.pull(&spec(name), None).await.unwrap_err();
    assert_eq!(error.class(), Class::DataLoss, "{error}");
    assert!(node.images.list(None).unwrap().is_empty());
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_a_registry_is_looked_up_in_the_list() {
    let (first, second) = (Registry::start(Scheme::Http), Registry::start(Scheme::Http));
    second.push(&image("second"), "tool:1");
    let unqualified = vec![first.host(), second.host()];
    let node = Node::set_up(None, listed(unqualified));
    node.images.pull(&spec("tool:1"), None).await.unwrap();
    // It is found by the short name as well as by the whole one.
    let whole = second.reference("tool:1");
    for name in ["tool:1", whole.as_str()] {
        assert_eq!(
            node.images.status(name).unwrap().unwrap().repo_tags,
            [whole.as_str()],
            "{name}"
        );
    }
    // The first that has it decides from now on.
    first.push(&image("first"), "tool:1");
    node.images.pull(&spec("tool:1"), None).await.unwrap();
    let now = node.images.status("tool:1").unwrap().unwrap();
    assert_eq!(now.repo_tags, [first.reference("tool:1")]);
    // A name with a registry is what it says.
    let error = node.images.pull(&spec(&first.reference("nothing:1")), None).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
    assert!(node.images.remove("tool:1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_without_a_registry_means_the_same_whoever_asks() {
    let registry = Registry::start(Scheme::Http);
    registry.push(&image("other"), "other:1");
    let node = Node::set_up(None, listed(vec![registry.host()]));
    let whole = registry.reference("other:1");
    let id = node.images.pull(&spec(&whole), None).await.unwrap().id;
    // What is not in the list is not meant, although docker.io is what the name would mean without one.
    node.images.tag(&whole, "docker.io/library/tool:1").await.unwrap();
    assert!(node.images.status("tool:1").unwrap().is_none());
    assert!(node.images.find_prefix("tool:1").unwrap().is_none());
    assert_eq!(node.images.remove("tool:1").await.unwrap(), None);
    let error = node.images.pull(&spec("tool:1"), None).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
    // A name that is given is found by the same text, by pods too: they ask the store.
    let tagged = node.images.tag(&whole, "tool:1").await.unwrap();
    assert!(tagged.repo_tags.contains(&registry.reference("tool:1")), "{tagged:?}");
    for text in ["tool:1", id.as_str(), id.hex()] {
        let status = node.images.status(text).unwrap().map(|i| i.id);
        let of_pods = node.images.store().find(text).unwrap().map(|i| i.id);
        assert_eq!((status.as_ref(), of_pods.as_ref()), (Some(&id), Some(&id)), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_go_only_to_the_registry_that_the_name_itself_says() {
    let registry = Registry::start(Scheme::HttpWithPassword);
    registry.push(&image("secret"), "tool:1");
    let node = Node::set_up(Some(&registry), listed(vec![registry.host()]));
    let auth = AuthParts {
        username: testkit::USER.to_owned(),
        password: Secret::new(testkit::PASSWORD.to_owned()),
        ..AuthParts::default()
    };
    // The short name says docker.io, and the list leads elsewhere.
    let given = images::credentials("tool:1", "", &auth).unwrap();
    assert!(given.is_some());
    let error = node.images.pull(&spec("tool:1"), given.clone()).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthenticated, "{error}");
    let whole = registry.reference("tool:1");
    node.images.pull(&spec(&whole), given).await.unwrap();
    let error = node.images.push(&whole, Some("tool:2"), &auth).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthenticated, "{error}");
    node.images.push(&whole, Some(&registry.reference("tool:2")), &auth).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_come_from_a_file_and_from_a_helper() {
    let registry = Registry::start(Scheme::HttpWithPassword);
    registry.push(&image("secret"), "test/app:1");
    let reference = registry.reference("test/app:1");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let node = Node::set_up(
        Some(&registry),
        SetUp { auth_files: vec![file.clone(), dir.path().join("missing")], ..SetUp::default() },
    );
    let error = node.images.pull(&spec(&reference), None).await.unwrap_err();
    assert_eq!(error.class(), Class::Unauthenticated, "{error}");
    let text = format!(
        r#"{{"auths":{{"{}":{{"username":"{}","password":"{}"}}}}}}"#,
        registry.host(),
        testkit::USER,
        testkit::PASSWORD
    );
    std::fs::write(&file, text).unwrap();
    // What was read is used for a few seconds; another node reads it now.
    let node =
        node.restart(Some(&registry), SetUp { auth_files: vec![file.clone()], ..SetUp::default() });
    node.images.pull(&spec(&reference), None).await.unwrap();
    std::fs::write(&file, "{").unwrap();
    let node = node.restart(Some(&registry), SetUp { auth_files: vec![file], ..SetUp::default() });
    let error = node.images.pull(&spec(&registry.reference("test/b:1")), None).await.unwrap_err();
    assert!(error.to_string().contains("config.json"), "{error}");
}
