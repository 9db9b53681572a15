//! The store is cut at every step, and opened again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::support::*;
use crate::{ImageStore, ImageStoreError, Step, Steps};

/// Takes so many steps, then nothing works any more: as after a crash, nobody tidies up either.
#[derive(Debug)]
struct Dies {
    left: AtomicUsize,
}

impl Steps for Dies {
    fn before(&self, step: Step) -> std::io::Result<()> {
        let took = self.left.try_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        took.map(drop).map_err(|_| std::io::Error::other(format!("cut at {step:?}")))
    }
}

fn layers() -> Vec<Vec<u8>> {
    let (mut etc, _) = dir("etc");
    etc.mode = 0o700;
    vec![
        archive(&[(etc, Vec::new()), file("etc/a", "1"), file("gone", "")]),
        archive(&[file("etc/b", "2"), file(".wh.gone", "")]),
        archive(&[file("etc/c", "3")]),
    ]
}

/// A life of two images and a container.
fn story(store: &ImageStore) -> Result<(), ImageStoreError> {
    let image = commit(store, &layers(), "one", &["app:1", "app:2"])?;
    let other = commit(store, &layers()[..2], "two", &["app:1", "other"])?;
    let id = container(1);
    store.prepare(&image, &id, None)?;
    store.read_only_root(&other, &id)?;
    store.volume(&id, Path::new("/etc"))?;
    store.untag(&name("other"))?;
    store.remove_image(&image.id)?;
    store.release(&id)?;
    store.collect(100)?;
    Ok(())
}

/// Whatever is listed is whole.
fn check(place: &Place, store: &ImageStore, cut: usize) {
    for image in store.images() {
        let root = store.prepare(&image, &container(9), None).unwrap();
        for (path, content) in [("etc/a", Some("1")), ("etc/b", Some("2")), ("gone", None)] {
            let read = store.read_file(&root, Path::new(path), 10).unwrap();
            assert_eq!(read.as_deref(), content.map(str::as_bytes), "cut at {cut}: {path}");
        }
        let etc = std::fs::metadata(top(store, &image).join("etc")).unwrap();
        let mode = std::os::unix::fs::MetadataExt::mode(&etc) & 0o7777;
        assert_eq!(mode, 0o700, "cut at {cut}: a listed image has a layer that is not settled");
        for tag in &image.repo_tags {
            assert_eq!(store.find(tag).unwrap().unwrap().id, image.id, "cut at {cut}");
        }
        store.release(&container(9)).unwrap();
    }
    for container in store.containers().unwrap() {
        store.release(&container).unwrap();
    }
    let collected = store.collect(1000).unwrap();
    assert_eq!((collected.undeletable, collected.more), (0, false), "cut at {cut}");
    for dir in ["staging", "trash", "containers/.trash"] {
        assert_eq!(place.count(dir), 0, "cut at {cut}: leftovers in {dir}");
    }
    assert_eq!(place.count("layers"), place.count("records/layers"), "cut at {cut}");
    let problems: Vec<_> =
        store.findings().iter().filter(|f| !f.object.starts_with("name")).collect();
    assert!(problems.is_empty(), "cut at {cut}: {problems:?}");
}

#[test]
fn whatever_the_step_at_which_it_is_cut_only_whole_things_are_listed_afterwards() {
    let mut cut = 0;
    loop {
        let place = Place::quick();
        let store = place.open_with(Arc::new(Dies { left: AtomicUsize::new(cut) })).unwrap();
        let told = story(&store);
        drop(store);
        let store = place.open();
        check(&place, &store, cut);
        story(&store).unwrap_or_else(|e| panic!("cut at {cut}, then: {}", whole(&e)));
        assert_eq!(store.images().len(), 1, "cut at {cut}");
        assert_eq!(place.count("layers"), 2, "cut at {cut}");
        if told.is_ok() {
            break;
        }
        cut += 1;
    }
    assert!(cut > 30, "the story has only {cut} steps");
}
