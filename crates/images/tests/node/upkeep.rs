//! Damage is found and mended; what nobody needs goes.

use std::path::PathBuf;

use image_store::Options;
use images::{Mended, Prune, Repair};
use model::ContainerId;
use testkit::{Compression, Image, Layer, Registry, Scheme};

use crate::support::{Node, SetUp, spec};

fn image() -> Image {
    let lower = Layer::new().directory("etc", 0o700).file("etc/a", 0o644, b"lower");
    let upper = Layer::new().file("etc/b", 0o644, b"upper");
    Image::new(vec![lower.build(Compression::Gzip), upper.build(Compression::Zstd)])
}

/// A file of the layer that has it, on disk.
fn on_disk(node: &Node, path: &str) -> PathBuf {
    let layers = node.dir.path().join("store/layers");
    let mut found =
        std::fs::read_dir(layers).unwrap().map(|e| e.unwrap().path().join("fs").join(path));
    found.find(|p| p.is_file()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_layer_alone_is_fetched_again_under_its_image() {
    let registry = Registry::start(Scheme::Http);
    registry.push(&image(), "test/app:1");
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/app:1");
    node.images.pull(&spec(&reference), None).await.unwrap();
    let good = node.images.check(Repair::Mend).await.unwrap();
    assert_eq!((good.layers, good.files, good.damaged.len()), (2, 2, 0));
    std::fs::write(on_disk(&node, "etc/b"), "UPPER").unwrap();
    let found = node.images.check(Repair::None).await.unwrap();
    assert_eq!(found.damaged.len(), 1);
    assert_eq!(found.damaged[0].mended, Mended::NotAsked);
    assert_eq!(node.read(&reference, "etc/b").as_deref(), Some("UPPER"));
    let mended = node.images.check(Repair::Mend).await.unwrap();
    assert_eq!(mended.damaged[0].mended, Mended::From(registry.host()));
    assert_eq!(node.read(&reference, "etc/b").as_deref(), Some("upper"));
    // What the layer only implies looks as below again.
    let etc = std::fs::metadata(on_disk(&node, "etc/b").parent().unwrap()).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&etc.permissions()) & 0o7777, 0o700);
    assert!(node.images.check(Repair::None).await.unwrap().damaged.is_empty());
    node.assert_tidy();
    // It stays so for the next daemon.
    let node = node.restart(Some(&registry), SetUp::default());
    assert_eq!(node.read(&reference, "etc/b").as_deref(), Some("upper"));
    assert!(node.images.store().findings().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_container_uses_is_mended_after_it_and_what_nobody_gives_stays_told() {
    let registry = Registry::start(Scheme::Http);
    registry.push(&image(), "test/app:1");
    let node = Node::new(Some(&registry));
    let reference = registry.reference("test/app:1");
    node.images.pull(&spec(&reference), None).await.unwrap();
    let file = on_disk(&node, "etc/a");
    std::fs::remove_file(&file).unwrap();
    let container = ContainerId::from_random([2; 32]);
    let found = node.images.status(&reference).unwrap().unwrap();
    node.images.store().prepare(&found, &container, None).unwrap();
    let busy = node.images.check(Repair::Mend).await.unwrap();
    assert_eq!(busy.damaged[0].mended, Mended::InUse);
    node.images.store().release(&container).unwrap();
    // The registry has lost it.
    let digest = image().layers[0].digest.clone();
    registry.corrupt(&digest);
    let failed = node.images.check(Repair::Mend).await.unwrap();
    assert!(matches!(failed.damaged[0].mended, Mended::Failed(_)), "{failed:?}");
    assert!(node.images.status(&reference).unwrap().is_some());
    // And found it again.
    registry.corrupt(&digest);
    let mended = node.images.check(Repair::Mend).await.unwrap();
    assert!(matches!(mended.damaged[0].mended, Mended::From(_)), "{mended:?}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "lower");
    node.assert_tidy();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blobs_that_are_kept_mend_without_a_registry_and_go_with_their_layers() {
    let registry = Registry::start(Scheme::Http);
    registry.push(&image(), "test/app:1");
    let keeps = || SetUp {
        options: Options { keep_blobs: true, ..Options::default() },
        ..SetUp::default()
    };
    let node = Node::set_up(Some(&registry), keeps());
    let reference = registry.reference("test/app:1");
    node.images.pull(&spec(&reference), None).await.unwrap();
    assert_eq!((node.count("blobs"), node.count("partial")), (2, 0));
    let node = node.restart(Some(&registry), keeps());
    for layer in image().layers {
        registry.corrupt(&layer.digest);
    }
    std::fs::write(on_disk(&node, "etc/a"), "LOWER").unwrap();
    let mended = node.images.check(Repair::Mend).await.unwrap();
    assert_eq!(mended.damaged[0].mended, Mended::From("the kept blob".into()));
    assert_eq!(node.read(&reference, "etc/a").as_deref(), Some("lower"));
    assert_eq!(node.count("blobs"), 2);
    node.images.remove(&reference).await.unwrap();
    assert_eq!((node.count("blobs"), node.count("layers")), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pruning_takes_what_nobody_uses_and_nothing_else() {
    let registry = Registry::start(Scheme::Http);
    let one = |word: &str| {
        let layer = Layer::new().file("word", 0o644, word.repeat(10_000).as_bytes());
        Image::new(vec![layer.build(Compression::Gzip)])
    };
    for word in ["used", "pinned", "named"] {
        registry.push(&one(word), &format!("test/{word}:1"));
    }
    let pinned = image_store::Pattern::new(&format!("{}/*/pinned:*", registry.host()));
    let options = Options { pinned: vec![pinned], ..Options::default() };
    let node = Node::set_up(Some(&registry), SetUp { options, ..SetUp::default() });
    let name = |word: &str| registry.reference(&format!("test/{word}:1"));
    for word in ["used", "pinned", "named"] {
        node.images.pull(&spec(&name(word)), None).await.unwrap();
    }
    // The tag moves, and leaves an image behind that goes by its digest only.
    registry.push(&one("other"), "test/named:1");
    node.images.pull(&spec(&name("named")), None).await.unwrap();
    let used = node.images.status(&name("used")).unwrap().unwrap();
    let container = ContainerId::from_random([3; 32]);
    node.images.store().prepare(&used, &container, None).unwrap();

    let layers = node.count("layers") as u64;
    let pruned = node.images.prune(Prune::Untagged).await.unwrap();
    assert_eq!(pruned.images.len(), 1, "{pruned:?}");
    assert!(pruned.bytes >= 40_000, "{pruned:?}");
    let pruned = node.images.prune(Prune::All).await.unwrap();
    assert_eq!(pruned.images.len(), 1, "{pruned:?}");
    let left: Vec<_> =
        node.images.list(None).unwrap().into_iter().flat_map(|i| i.repo_tags).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(left.contains(&name("used")) && left.contains(&name("pinned")), "{left:?}");
    assert_eq!(node.count("layers"), 2);
    let work = node.images.work();
    assert_eq!((work.collections, work.collected_layers), (2, layers - 2));
    node.assert_tidy();
}
