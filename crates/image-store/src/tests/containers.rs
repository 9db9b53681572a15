//! What containers get out of images.

use std::os::unix::fs::{MetadataExt as _, symlink as make_symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use model::{Class, Classified as _};

use super::support::*;
use crate::{Step, Steps};

#[test]
fn an_image_that_is_removed_stays_for_the_container_that_uses_it() {
    let place = Place::quick();
    let store = place.open();
    let base = archive(&[file("base", "1")]);
    let image =
        commit(&store, &[base.clone(), archive(&[file("top", "2")])], "a", &["app"]).unwrap();
    let volume = commit(&store, &[archive(&[file("v", "")])], "v", &["volume"]).unwrap();
    let (one, two) = (container(1), container(2));
    let root = store.prepare(&image, &one, None).unwrap();
    assert_eq!(store.prepare(&image, &one, None).unwrap(), root);
    assert_eq!(root.lower.len(), 2);
    assert!(root.lower[0].join("top").exists() && root.lower[1].join("base").exists());
    store.read_only_root(&volume, &two).unwrap();
    for image in [&image, &volume] {
        let removed = store.remove_image(&image.id).unwrap().unwrap();
        assert_eq!((removed.layers_freed, removed.layers_in_use), (0, image.layers.len()));
    }
    assert!(store.images().is_empty() && root.lower[0].join("top").exists());
    // The use is not forgotten by the next daemon.
    drop(store);
    let store = place.open();
    assert_eq!(store.containers().unwrap(), [one.clone(), two.clone()]);
    store.collect(100).unwrap();
    assert_eq!(place.count("layers"), 3);
    store.release(&two).unwrap();
    assert_eq!(place.count("layers"), 2);
    store.release(&one).unwrap();
    store.release(&one).unwrap();
    assert_eq!((place.count("layers"), place.count("records/containers")), (0, 0));
    assert!(store.containers().unwrap().is_empty());
    let gone = store.prepare(&image, &one, None).unwrap_err();
    assert!(whole(&gone).contains(one.as_str()), "{}", whole(&gone));
}

#[test]
fn the_writable_root_looks_like_the_image_s_own() {
    let place = Place::quick();
    let store = place.open();
    let (mut root, _) = dir("./");
    root.mode = 0o751;
    root.uid = 5;
    let lower = archive(&[(root, Vec::new()), file("a", "")]);
    let image = commit(&store, &[lower, archive(&[file("b", "")])], "a", &[]).unwrap();
    let rootfs = store.prepare(&image, &container(1), None).unwrap();
    let (upper, work) = rootfs.upper.unwrap();
    let stat = std::fs::metadata(&upper).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o751, 5));
    assert!(work.is_dir());
    let empty = commit(&store, &[], "e", &[]).unwrap();
    let rootfs = store.prepare(&empty, &container(2), None).unwrap();
    assert!(rootfs.lower[0].is_dir(), "overlayfs wants a lower directory");
}

#[test]
fn orphans_are_listed_also_without_a_record() {
    let place = Place::quick();
    let store = place.open();
    std::fs::create_dir_all(place.root().join(format!("containers/{}/upper/x", container(7))))
        .unwrap();
    std::fs::create_dir(place.root().join("containers/strange")).unwrap();
    assert_eq!(store.containers().unwrap(), [container(7)]);
    store.release(&container(7)).unwrap();
    assert!(store.containers().unwrap().is_empty());
    assert_eq!(place.count("containers/.trash"), 0);
}

/// Whoever deletes first waits until it is told to go on.
#[derive(Debug)]
struct Gate {
    is_closed: AtomicBool,
    reached: Sender<()>,
    go: Mutex<Receiver<()>>,
}

impl Steps for Gate {
    fn before(&self, step: Step) -> std::io::Result<()> {
        if step == Step::Delete && self.is_closed.swap(false, Ordering::SeqCst) {
            self.reached.send(()).unwrap();
            let _ = self.go.lock().unwrap().recv();
        }
        Ok(())
    }
}

#[test]
fn collection_leaves_a_tree_to_whoever_deletes_it() {
    let place = Place::quick();
    let ((reached, hears), (go, told)) = (channel(), channel());
    let gate = Gate { is_closed: AtomicBool::new(true), reached, go: Mutex::new(told) };
    let store = place.open_with(Arc::new(gate)).unwrap();
    let image = commit(&store, &[archive(&[file("a", "")])], "a", &[]).unwrap();
    store.prepare(&image, &container(1), None).unwrap();
    std::thread::scope(|scope| {
        // Gone with this closure, also where it panics.
        let go = go;
        let release = scope.spawn(|| store.release(&container(1)));
        hears.recv().unwrap();
        let collected = store.collect(100).unwrap();
        assert_eq!((collected.deleted, collected.undeletable, collected.more), (0, 0, false));
        assert_eq!(place.count("containers/.trash"), 1);
        go.send(()).unwrap();
        release.join().unwrap().unwrap();
    });
    assert_eq!(place.count("containers/.trash"), 0);
    let collected = store.collect(100).unwrap();
    assert_eq!((collected.deleted, collected.undeletable), (0, 0));
}

#[test]
fn files_are_read_as_the_container_sees_them() {
    let place = Place::quick();
    let store = place.open();
    std::fs::write(place.dir.path().join("secret"), "host").unwrap();
    let outside = place.dir.path().join("secret");
    let image = commit(
        &store,
        &[
            archive(&[
                file("etc/passwd", "low"),
                file("etc/group", "low"),
                file("gone/x", "low"),
                file("old/x", "low"),
                file("usr/lib/os", "linux"),
                symlink("etc/os", "../usr/lib/os"),
                symlink("etc/out", outside.to_str().unwrap()),
                symlink("etc/up", "../../../../../../etc/passwd"),
                symlink("etc/loop", "loop"),
                dir("etc/dir"),
            ]),
            archive(&[
                file("etc/passwd", "high"),
                file(".wh.gone", ""),
                file("old/.wh..wh..opq", ""),
                file("old/y", "high"),
            ]),
        ],
        "a",
        &[],
    )
    .unwrap();
    let root = store.prepare(&image, &container(1), None).unwrap();
    let read = |path: &str| {
        let bytes = store.read_file(&root, Path::new(path), 100);
        bytes.map(|b| b.map(|b| String::from_utf8(b).unwrap()))
    };
    for (path, content) in [
        ("/etc/passwd", Some("high")),
        ("etc/../etc/./group", Some("low")),
        ("/gone/x", None),
        ("/old/x", None),
        ("/old/y", Some("high")),
        ("/etc/os", Some("linux")),
        ("/etc/out", None),
        ("/etc/up", Some("high")),
        ("/etc/dir", None),
        ("/etc/passwd/x", None),
        ("/nowhere", None),
    ] {
        assert_eq!(read(path).unwrap().as_deref(), content, "{path}");
    }
    assert!(read("/etc/loop").is_err());
    let upper = root.upper.clone().unwrap().0;
    std::fs::create_dir(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/passwd"), "upper").unwrap();
    make_symlink("/etc/shadow", upper.join("etc/group")).unwrap();
    assert_eq!(read("/etc/passwd").unwrap().as_deref(), Some("upper"));
    assert_eq!(read("/etc/group").unwrap(), None);
    std::fs::write(upper.join("etc/passwd"), "x".repeat(101)).unwrap();
    assert_eq!(read("/etc/passwd").unwrap_err().class(), Class::ResourceExhausted);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        upper.join("etc/pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert_eq!(read("/etc/pipe").unwrap(), None, "a pipe is not waited for");
}

#[test]
fn a_volume_has_the_image_s_content_owner_and_mode() {
    let place = Place::quick();
    let store = place.open();
    let (mut data, _) = dir("var/data");
    data.mode = 0o1770;
    data.uid = 999;
    let (mut owned, content) = file("var/data/a", "1");
    owned.uid = 999;
    owned.mode = 0o4750;
    owned.mtime = (1_600_000_000, 5);
    let image = commit(
        &store,
        &[
            archive(&[
                (data, Vec::new()),
                (owned, content),
                file("var/data/b", ""),
                file("var/data/s/c", "3"),
            ]),
            archive(&[
                file("var/data/.wh.b", ""),
                symlink("var/data/l", "a"),
                symlink("lib", "/var"),
            ]),
        ],
        "a",
        &[],
    )
    .unwrap();
    let id = container(1);
    assert_eq!(store.volume(&id, Path::new("/x")).unwrap_err().class(), Class::NotFound);
    store.prepare(&image, &id, None).unwrap();
    let volume = store.volume(&id, Path::new("/lib/data")).unwrap();
    assert_eq!(store.volume(&id, Path::new("/lib/data")).unwrap(), volume);
    let stat = std::fs::metadata(&volume).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o1770, 999));
    let a = std::fs::metadata(volume.join("a")).unwrap();
    assert_eq!(
        (a.mode() & 0o7777, a.uid(), a.mtime(), a.mtime_nsec()),
        (0o4750, 999, 1_600_000_000, 5)
    );
    assert!(!volume.join("b").exists());
    assert_eq!(std::fs::read(volume.join("s/c")).unwrap(), b"3");
    assert_eq!(std::fs::read_link(volume.join("l")).unwrap(), Path::new("a"));
    let fresh = store.volume(&id, Path::new("/not/there")).unwrap();
    assert!(fresh != volume && fresh.is_dir());
    store.release(&id).unwrap();
    assert!(!volume.exists());
}

#[test]
fn usage_is_measured_and_then_remembered() {
    let place = Place::quick();
    let store = place.open();
    let image = commit(&store, &[archive(&[file("a", &"x".repeat(1 << 20))])], "a", &[]).unwrap();
    let id = container(1);
    assert!(!store.was_asked());
    assert_eq!(store.usage(&id), None);
    assert!(store.was_asked() && !store.was_asked(), "once for each question");
    let root = store.prepare(&image, &id, None).unwrap();
    assert_eq!(store.measurable(true), std::slice::from_ref(&id));
    std::fs::write(root.upper.unwrap().0.join("big"), vec![1; 3 << 20]).unwrap();
    let measured = store.measure(&id).unwrap();
    assert!(measured.usage.bytes >= 3 << 20 && measured.usage.inodes == 2, "{measured:?}");
    assert_eq!(store.usage(&id), Some(measured));
    assert_eq!(store.measurable(true), []);
    assert_eq!(store.measurable(false), std::slice::from_ref(&id));
    assert!(store.was_asked());
    let info = store.fs_info().unwrap();
    assert!(store.was_asked());
    assert!(info.is_shared);
    assert_eq!(info.containers.used, measured.usage);
    assert!((1 << 20..3 << 20).contains(&info.images.used.bytes), "{info:?}");
    assert!(
        info.images.capacity.bytes >= info.images.available.bytes
            && info.images.available.inodes > 0
    );
    assert_eq!(store.measure(&container(9)).unwrap_err().class(), Class::NotFound);
    let space = store.space(&id).unwrap();
    let device = std::fs::metadata(store.root()).unwrap().dev();
    let own = rustix::fs::makedev(space.device.0, space.device.1);
    assert_eq!((own, space.capacity), (device, info.containers.capacity));
    assert!(space.capacity.bytes >= space.available.bytes, "{space:?}");
    assert_eq!(store.space(&container(9)).unwrap_err().class(), Class::NotFound);
}
