//! Images out of archives and into archives.

use std::fs::File;
use std::io::{Cursor, Write as _};

use image_store::Options;
use model::{Class, Classified as _};
use testkit::{Compression, Image, Layer};

use crate::support::{Node, SetUp, out};

fn image(salt: &str) -> Image {
    let base = Layer::new()
        .directory("etc", 0o700)
        .file("etc/base", 0o644, b"base")
        .file("etc/old", 0o644, b"old")
        .build(Compression::Plain);
    let top = Layer::new()
        .file("etc/top", 0o4755, salt.as_bytes())
        .hard_link("etc/again", "etc/top")
        .symlink("link", "etc/top")
        .whiteout("etc", "old")
        .build(Compression::Plain);
    Image::new(vec![base, top]).set("Env", serde_json::json!([format!("SALT={salt}")]))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn check(node: &Node, name: &str, salt: &str) {
    assert_eq!(node.read(name, "etc/base").as_deref(), Some("base"));
    for path in ["etc/top", "etc/again", "link"] {
        assert_eq!(node.read(name, path).as_deref(), Some(salt), "{path}");
    }
    assert_eq!(node.read(name, "etc/old"), None);
    node.assert_tidy();
}

#[tokio::test]
async fn archives_of_each_kind_and_compression_are_loaded() {
    let image = image("a");
    let layout = testkit::archive::oci_layout(&[(&image, "quay.io/test/app:1")]);
    let docker = testkit::archive::docker_save(&image, "quay.io/test/app:1");
    let zstd = zstd::encode_all(&layout[..], 1).unwrap();
    for archive in [layout.clone(), docker.clone(), gzip(&layout), gzip(&docker), zstd] {
        let node = Node::new(None);
        let loaded = node.images.load(Cursor::new(archive), None).await.unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].id.as_str(), image.id());
        assert_eq!(loaded[0].names[0], "quay.io/test/app:1");
        check(&node, "quay.io/test/app:1", "a");
        let (work, layers) = (node.images.work(), node.count("layers") as u64);
        assert_eq!(work.unpacked_layers, layers);
        assert!(layers > 0 && work.unpacked_bytes > 0, "{work:?}");
        // What is here already is not unpacked again.
        let again = testkit::archive::docker_save(&image, "quay.io/test/other:1");
        node.images.load(Cursor::new(again), None).await.unwrap();
        assert_eq!(node.images.work(), work);
    }
}

#[tokio::test]
async fn a_name_can_be_given_to_the_only_image() {
    let (one, two) = (image("a"), image("b"));
    let node = Node::new(None);
    let single = testkit::archive::docker_save(&one, "quay.io/test/app:1");
    let loaded = node.images.load(Cursor::new(single), Some("mine")).await.unwrap();
    assert_eq!(loaded[0].names, ["docker.io/library/mine:latest"]);
    check(&node, "mine", "a");
    let both = testkit::archive::oci_layout(&[(&one, "x.io/one:1"), (&two, "x.io/two:1")]);
    let error = node.images.load(Cursor::new(both.clone()), Some("mine")).await.unwrap_err();
    assert_eq!(error.class(), Class::InvalidArgument, "{error}");
    let loaded = node.images.load(Cursor::new(both), None).await.unwrap();
    assert_eq!(loaded.len(), 2);
    check(&node, "x.io/two:1", "b");
    let tagged = node.images.tag("x.io/two:1", "second").await.unwrap();
    assert_eq!(tagged.repo_tags, ["docker.io/library/second:latest", "x.io/two:1"]);
    assert_eq!(node.images.tag("nowhere", "x").await.unwrap_err().class(), Class::NotFound);
    let by_digest = format!("x@{}", tagged.id);
    let error = node.images.tag("second", &by_digest).await.unwrap_err();
    assert_eq!(error.class(), Class::InvalidArgument, "{error}");
}

#[tokio::test]
async fn archives_that_are_not_what_they_say_are_refused() {
    let image = image("a");
    let layout = testkit::archive::oci_layout(&[(&image, "x.io/a:1")]);
    let docker = testkit::archive::docker_save(&image, "x.io/a:1");
    // The content of `etc/base` is in the archive once.
    let damaged = |archive: &[u8], find: &[u8]| {
        let mut bytes = archive.to_vec();
        let at = bytes.windows(find.len()).position(|w| w == find).expect("it is there");
        bytes[at] ^= 1;
        bytes
    };
    let cases = [
        ("a layer of a layout", damaged(&layout, b"base\0\0"), Class::DataLoss),
        ("a layer of docker's", damaged(&docker, b"base\0\0"), Class::DataLoss),
        ("a configuration", damaged(&docker, b"SALT=a"), Class::DataLoss),
        ("cut", layout[..layout.len() / 2].to_vec(), Class::InvalidArgument),
        ("empty", Vec::new(), Class::InvalidArgument),
        ("no archive", vec![b'x'; 5000], Class::InvalidArgument),
        ("no gzip", [&[0x1f, 0x8b][..], &[0; 100]].concat(), Class::InvalidArgument),
        ("another machine's", testkit::archive::oci_layout(&[]), Class::InvalidArgument),
    ];
    for (what, archive, class) in cases {
        let node = Node::new(None);
        let error = node.images.load(Cursor::new(archive), None).await.unwrap_err();
        assert_eq!(error.class(), class, "{what}: {error}");
        assert!(node.images.list(None).unwrap().is_empty(), "{what}");
        node.assert_tidy();
    }
}

#[tokio::test]
async fn what_is_saved_can_be_loaded_elsewhere() {
    let node = Node::new(None);
    let (one, two) = (image("a"), image("b"));
    let both = testkit::archive::oci_layout(&[(&one, "x.io/one:1"), (&two, "x.io/two:1")]);
    node.images.load(Cursor::new(both), None).await.unwrap();
    node.images.tag("x.io/one:1", "x.io/one:2").await.unwrap();
    let (path, file) = out(&node, "saved.tar");
    let names = ["x.io/one:1", "x.io/one:2", "x.io/two:1"].map(str::to_owned);
    node.images.save(&names, file).await.unwrap();
    node.assert_tidy();
    let other = Node::new(None);
    let loaded = other.images.load(File::open(&path).unwrap(), None).await.unwrap();
    assert_eq!(loaded.len(), 2);
    check(&other, "x.io/one:2", "a");
    check(&other, "x.io/two:1", "b");
    let image = other.images.status("x.io/one:1").unwrap().unwrap();
    assert_eq!(image.config.env, ["SALT=a"]);
    assert_eq!(image.repo_tags, ["x.io/one:1", "x.io/one:2"]);
    // Saved again, it is the same: what is packed anew is packed always the same way.
    let (again, file) = out(&other, "again.tar");
    other.images.save(&names, file).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == std::fs::read(again).unwrap());
    let (_, file) = out(&other, "none.tar");
    let error = other.images.save(&["x.io/none:1".to_owned()], file).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound, "{error}");
}

#[tokio::test]
async fn an_image_whose_blobs_are_kept_has_the_same_id_when_it_is_saved_and_loaded() {
    let keeps = || {
        let options = Options { keep_blobs: true, ..Options::default() };
        Node::set_up(None, SetUp { options, ..SetUp::default() })
    };
    let image = image("a");
    let name = "x.io/one:1";
    let archive = testkit::archive::oci_layout(&[(&image, name)]);
    let (first, second) = (keeps(), keeps());
    let loaded = first.images.load(Cursor::new(archive), None).await.unwrap();
    assert_eq!(first.count("blobs"), 2);
    let (path, file) = out(&first, "saved.tar");
    first.images.save(&[name.to_owned()], file).await.unwrap();
    let again = second.images.load(File::open(&path).unwrap(), None).await.unwrap();
    assert_eq!(again, loaded, "id, names and digest");
    check(&second, name, "a");
    // A kept blob that was damaged is not written: the layer is packed anew.
    for entry in std::fs::read_dir(first.dir.path().join("store/blobs")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[0] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let (path, file) = out(&first, "packed.tar");
    // By the first digits of its id, with all its names.
    first.images.save(&[loaded[0].id.hex()[..12].to_owned()], file).await.unwrap();
    let third = Node::new(None);
    let packed = third.images.load(File::open(&path).unwrap(), None).await.unwrap();
    assert_eq!(packed[0].names[0], name);
    check(&third, name, "a");
    // Packed once, it is packed to the same bytes ever after.
    let (path, file) = out(&third, "packed-again.tar");
    third.images.save(&[name.to_owned()], file).await.unwrap();
    let fourth = Node::new(None);
    assert_eq!(fourth.images.load(File::open(&path).unwrap(), None).await.unwrap(), packed);
}

#[tokio::test]
async fn an_image_keeps_its_id_and_its_tags_when_it_is_saved_removed_and_loaded() {
    let base = Layer::new().directory("etc", 0o755).file("etc/base", 0o600, b"base");
    // Not as anybody here would pack it: out of order, and one file under two names.
    let top = Layer::new()
        .file("z", 0o644, b"z")
        .file("etc/top", 0o4755, b"top")
        .hard_link("a", "z")
        .whiteout("etc", "base");
    let image = Image::new(vec![base.build(Compression::Gzip), top.build(Compression::Zstd)]);
    let archive = testkit::archive::oci_layout(&[(&image, "x.io/one:1")]);
    let node = Node::new(None);
    node.images.load(Cursor::new(archive), None).await.unwrap();
    node.images.tag("x.io/one:1", "y.io/two:2").await.unwrap();
    let before = node.images.status("x.io/one:1").unwrap().unwrap();
    assert_eq!((before.id.as_str(), node.count("blobs")), (image.id().as_str(), 0));
    let (path, file) = out(&node, "saved.tar");
    node.images.save(&[before.id.to_string()], file).await.unwrap();
    node.images.remove(before.id.as_str()).await.unwrap();
    assert!(node.images.list(None).unwrap().is_empty());
    // Elsewhere, and here, where layers may still lie.
    for other in [Node::new(None), node] {
        let loaded = other.images.load(File::open(&path).unwrap(), None).await.unwrap();
        assert_eq!((loaded.len(), &loaded[0].id), (1, &before.id));
        let after = other.images.status("y.io/two:2").unwrap().unwrap();
        assert_eq!((&after.id, &after.repo_tags), (&before.id, &before.repo_tags));
        // The layers are not compressed any more, so what names a digest names another manifest.
        assert_ne!(after.repo_digests, before.repo_digests);
        assert_eq!(other.read("x.io/one:1", "a").as_deref(), Some("z"));
        other.assert_tidy();
    }
}
