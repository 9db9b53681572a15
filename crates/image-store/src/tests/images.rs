//! Images, their names, and what goes with them.

use std::time::Duration;

use model::{Class, Classified as _};

use super::support::*;
use crate::{ImageStore, ImageStoreError, Options, Pattern};

fn two_layers() -> Vec<Vec<u8>> {
    vec![archive(&[file("etc/base", "1")]), archive(&[file("etc/top", "2")])]
}

#[test]
fn an_image_is_found_by_every_name_that_it_has() {
    let place = Place::quick();
    let store = place.open();
    let image = commit(&store, &two_layers(), "a", &["busybox", "quay.io/x/y:1"]).unwrap();
    let digest = format!("busybox@{}", image.id);
    store.tag(&name(&digest), &image.id).unwrap();
    let hex = image.id.hex();
    for text in [
        "busybox",
        "busybox:latest",
        "docker.io/library/busybox",
        "quay.io/x/y:1",
        digest.as_str(),
        &format!("docker.io/library/busybox:other@{}", image.id),
        image.id.as_str(),
        hex,
    ] {
        assert_eq!(store.find(text).unwrap().map(|i| i.id), Some(image.id.clone()), "{text}");
    }
    for text in ["busybox:1", "quay.io/x/y", &format!("x@{}", image.id), &"0".repeat(64)] {
        assert!(store.find(text).unwrap().is_none(), "{text}");
    }
    assert_eq!(store.find_prefix(&hex[..12]).unwrap().unwrap().id, image.id);
    assert_eq!(store.find_prefix(&image.id.as_str()[..12]).unwrap().unwrap().id, image.id);
    assert_eq!(store.find("UPPER").unwrap_err().class(), Class::InvalidArgument);
    let found = store.find("busybox").unwrap().unwrap();
    assert_eq!(found.repo_tags, ["docker.io/library/busybox:latest", "quay.io/x/y:1"]);
    assert_eq!(found.repo_digests, [format!("docker.io/library/busybox@{}", image.id)]);
}

#[test]
fn a_name_moves_and_the_image_without_names_stays_until_it_is_removed() {
    let place = Place::quick();
    let store = place.open();
    let old = commit(&store, &two_layers(), "old", &["app"]).unwrap();
    let new = commit(&store, &two_layers(), "new", &["app"]).unwrap();
    assert_eq!(store.find("app").unwrap().unwrap().id, new.id);
    assert_eq!(store.find(old.id.as_str()).unwrap().unwrap().repo_tags, Vec::<String>::new());
    assert_eq!(place.count("layers"), 2, "the layers are shared");
    let removed = store.remove_image(&old.id).unwrap().unwrap();
    assert_eq!((removed.layers_freed, removed.layers_in_use), (0, 2));
    assert!(store.remove_image(&old.id).unwrap().is_none());
    let removed = store.remove_image(&new.id).unwrap().unwrap();
    assert_eq!(removed.names, [name("app")]);
    assert_eq!((removed.layers_freed, place.count("layers"), place.count("trash")), (2, 0, 0));
    assert!(store.images().is_empty());
}

#[test]
fn what_was_stored_is_there_after_reopening_and_the_store_has_one_owner() {
    let place = Place::quick();
    let before = {
        let store = place.open();
        commit(&store, &two_layers(), "a", &["one", "two"]).unwrap();
        commit(&store, &[], "empty", &["none"]).unwrap();
        let locked = ImageStore::open(&place.root(), Options::default());
        assert!(matches!(locked, Err(ImageStoreError::Locked { .. })));
        format!("{:?}", store.images())
    };
    let store = place.open();
    assert_eq!(format!("{:?}", store.images()), before);
    assert!(store.findings().is_empty(), "{:?}", store.findings());
    let id = store.find("one").unwrap().unwrap().id;
    assert_eq!(store.raw(&id).unwrap().manifest, b"{\"salt\":\"a\"}");
}

#[test]
fn an_image_that_lost_a_layer_or_its_record_is_forgotten_and_can_come_again() {
    let place = Place::quick();
    let (image, other) = {
        let store = place.open();
        let image = commit(&store, &two_layers(), "a", &["a"]).unwrap();
        let other = commit(&store, &[archive(&[file("o", "")])], "o", &["other"]).unwrap();
        (image, other)
    };
    std::fs::remove_dir_all(place.root().join("layers").join(image.layers[0].hex())).unwrap();
    std::fs::create_dir(place.root().join("layers/orphan")).unwrap();
    std::fs::write(place.root().join("records/images").join(other.id.hex()), "torn").unwrap();
    let store = place.open();
    assert!(store.images().is_empty());
    let findings = format!("{:?}", store.findings());
    for object in [image.layers[0].as_str(), image.id.as_str(), other.id.hex(), "library/a:latest"]
    {
        assert!(findings.contains(object), "{object} is not in {findings}");
    }
    assert!(!place.root().join("layers/orphan").exists());
    assert!(store.layer(&image.layers[1]).is_some(), "the good layer is kept");
    commit(&store, &two_layers(), "a", &["a"]).unwrap();
    assert_eq!(store.find("a").unwrap().unwrap().id, image.id);
}

#[test]
fn texts_that_are_not_what_they_say_are_no_image() {
    let place = Place::quick();
    let store = place.open();
    let tar = archive(&[file("a", "")]);
    let held = unpack(&store, &job(&tar, &[]), &tar).unwrap();
    let config = config(&[held.info().diff_id.clone()], "x");
    let good = crate::NewImage {
        manifest_digest: oci_image::sha256(b"{}"),
        manifest: b"{}".to_vec(),
        manifest_media_type: String::new(),
        index_digest: None,
        config_digest: oci_image::sha256(&config),
        config,
        layers: vec![held.info().chain_id.clone()],
        size: 1,
    };
    let mut bad_config = good.clone();
    bad_config.config.push(b' ');
    let mut bad_manifest = good.clone();
    bad_manifest.manifest.push(b' ');
    let mut bad_layers = good.clone();
    bad_layers.layers.clear();
    for bad in [bad_config, bad_manifest, bad_layers] {
        assert_eq!(store.commit_image(bad, &[]).unwrap_err().class(), Class::DataLoss);
    }
    assert!(store.images().is_empty());
    store.commit_image(good, &[]).unwrap();
}

#[test]
fn layers_without_an_image_are_kept_for_a_while_and_then_collected() {
    let place = Place::quick();
    let tar = archive(&[file("a", "1")]);
    {
        let store = place.open();
        let held = unpack(&store, &job(&tar, &[]), &tar).unwrap();
        store.collect(10).unwrap();
        drop(held);
        store.collect(10).unwrap();
        assert_eq!(place.count("layers"), 1, "it is kept for the next pull");
    }
    let options = Options { keep_unused: Duration::ZERO, ..Options::default() };
    let store = ImageStore::open(&place.root(), options).unwrap();
    let held = store.hold_layer(&job(&tar, &[]).chain_id).unwrap();
    assert_eq!(store.collect(10).unwrap().layers, 0, "it is held");
    drop(held);
    let collected = store.collect(10).unwrap();
    assert_eq!((collected.layers, place.count("layers"), place.count("trash")), (1, 0, 0));
    assert_eq!(place.count("records/layers"), 0);
}

#[test]
fn collection_goes_in_slices_past_what_cannot_be_deleted() {
    let place = Place::quick();
    let store = place.open();
    let stuck = place.root().join("trash/0-stuck");
    std::fs::create_dir_all(stuck.join("mount")).unwrap();
    rustix::mount::mount_bind(place.dir.path(), stuck.join("mount")).unwrap();
    for i in 1..=5 {
        std::fs::create_dir_all(place.root().join(format!("trash/{i}/x"))).unwrap();
    }
    let mut slices = Vec::new();
    loop {
        let slice = store.collect(2).unwrap();
        slices.push((slice.deleted, slice.undeletable));
        if !slice.more {
            break;
        }
    }
    let left = place.count("trash");
    rustix::mount::unmount(stuck.join("mount"), rustix::mount::UnmountFlags::DETACH).unwrap();
    assert_eq!(slices, [(2, 1), (2, 1), (1, 1)]);
    assert_eq!(left, 1);
}

#[test]
fn pinned_images_say_so() {
    let place = Place::quick();
    let store = place.open();
    commit(&store, &[], "a", &["registry.k8s.io/pause:3.10"]).unwrap();
    assert!(!store.images()[0].pinned);
    store.set_pinned(vec![Pattern::new("*/pause:*")]);
    assert!(
        store.images()[0].pinned
            && store.find("registry.k8s.io/pause:3.10").unwrap().unwrap().pinned
    );
}

#[test]
fn a_layer_that_is_exported_is_the_same_when_it_is_unpacked_again() {
    let (mut special, data) = file("dir/special", "data");
    special.mode = 0o6755;
    special.xattrs = vec![(b"user.a".to_vec(), b"1".to_vec())];
    let lower = archive(&[dir("dir"), file("dir/old", ""), dir("gone"), file("gone/x", "")]);
    let upper = archive(&[
        (special, data),
        hard_link("dir/again", "dir/special"),
        symlink("link", "dir"),
        file(".wh.gone", ""),
        dir("dir"),
        file("dir/.wh..wh..opq", ""),
    ]);
    let place = Place::quick();
    let store = place.open();
    let image = commit(&store, &[lower.clone(), upper], "a", &[]).unwrap();
    let out = store.export_layer(&image.layers[1], Vec::new()).unwrap();
    let again = commit(&store, &[lower, out.clone()], "b", &[]).unwrap();
    assert_ne!(image.layers[1], again.layers[1]);
    assert_eq!(store.export_layer(&again.layers[1], Vec::new()).unwrap(), out);
}

#[test]
fn damage_of_a_layer_is_found_and_only_that_layer_is_given_up() {
    let place = Place::quick();
    let store = place.open();
    let tars = vec![
        archive(&[
            dir("d"),
            file("d/gone", "x"),
            file("d/cut", "long text"),
            file("d/flip", "abc"),
        ]),
        archive(&[
            file("twice", "old"),
            file("twice", "new"),
            dir("t"),
            file("t/x", ""),
            file("t", "1"),
        ]),
    ];
    let image = commit(&store, &tars, "a", &["app"]).unwrap();
    let other = commit(&store, &tars[1..], "b", &["other"]).unwrap();
    assert_eq!(store.layers().len(), 3);
    for layer in store.layers() {
        let check = store.check_layer(&layer).unwrap().unwrap();
        assert!(check.is_good() && check.files > 0, "{check:?}");
    }
    let files = store.inner.layout.layer_fs(&image.layers[0]);
    std::fs::remove_file(files.join("d/gone")).unwrap();
    std::fs::write(files.join("d/cut"), "").unwrap();
    std::fs::write(files.join("d/flip"), "abd").unwrap();
    let check = store.check_layer(&image.layers[0]).unwrap().unwrap();
    assert_eq!((check.files, check.bad), (3, 3), "{check:?}");
    let container = container(1);
    store.prepare(&image, &container, None).unwrap();
    let condemned = store.condemn_layer(&image.layers[0]).unwrap();
    assert_eq!((condemned.images.as_slice(), condemned.is_in_use), (&[image.id.clone()][..], true));
    store.release(&container).unwrap();
    assert!(store.layer(&image.layers[0]).is_none());
    assert_eq!(store.images().len(), 1, "{} has no damage", other.id);
    commit(&store, &tars, "a", &["app"]).unwrap();
    assert!(store.check_layer(&image.layers[0]).unwrap().unwrap().is_good());
}

#[test]
fn a_name_without_a_registry_is_looked_up_in_the_list_and_nowhere_else() {
    let place = Place::quick();
    let listed = |unqualified: &[&str]| {
        let unqualified = unqualified.iter().map(|r| (*r).to_owned()).collect();
        ImageStore::open(&place.root(), Options { unqualified, ..Options::default() }).unwrap()
    };
    let store = listed(&[]);
    let hub = commit(&store, &[], "hub", &["docker.io/library/app:1"]).unwrap().id;
    let first = commit(&store, &[], "first", &["r.example/app:1"]).unwrap().id;
    let second = commit(&store, &[], "second", &["s.example/app:1", "s.example/b:1"]).unwrap().id;
    let find = |store: &ImageStore, text: &str| store.find(text).unwrap().map(|i| i.id);
    assert_eq!(find(&store, "app:1").as_ref(), Some(&hub), "docker.io is the list's default");
    drop(store);
    let store = listed(&["r.example", "s.example"]);
    assert_eq!(find(&store, "app:1").as_ref(), Some(&first));
    assert_eq!(find(&store, "b:1").as_ref(), Some(&second));
    assert_eq!(find(&store, "library/app:1"), None, "docker.io is not in the list");
    assert_eq!(find(&store, "docker.io/app:1").as_ref(), Some(&hub));
    // An id is an id first.
    assert_eq!(find(&store, hub.hex()).as_ref(), Some(&hub));
    assert!(store.find("Bad Name").is_err());
}
