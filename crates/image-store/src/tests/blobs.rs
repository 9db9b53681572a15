//! Beginnings of blobs, and blobs that are kept.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use model::{Class, Classified as _};
use oci_image::{Compression, Descriptor, sha256};

use super::support::*;
use crate::{
    Check, Ended, Form, ImageStore, ImageStoreError, LayerJob, NoFaults, Options, Partial, Step,
    Steps,
};

const PLAIN: Form = Form::Archive(Compression::None);

fn open(place: &Place, options: Options) -> ImageStore {
    ImageStore::open(&place.root(), options).unwrap()
}

fn keeps(keep_blobs: bool) -> Options {
    Options { keep_blobs, partial_from: 1, ..Options::default() }
}

/// Unpacks a layer while its blob is written down.
fn bring(store: &ImageStore, job: &LayerJob, tar: &[u8]) -> Result<(), ImageStoreError> {
    let mut reader = store.partial(&job.descriptor).unwrap().reader(tar);
    let blob = (&PLAIN, Check::Here);
    let done = store.bring_layer(job, blob, &mut reader, &AtomicU64::new(0));
    reader.end(Ended::Whole);
    done.map(drop)
}

fn blob(n: u8) -> Descriptor {
    Descriptor::new("application/vnd.oci.image.layer.v1.tar", sha256(&[n]), 1000)
}

/// A hundred bytes of it come, then it breaks off.
fn break_off(partial: Partial) {
    let mut reader = partial.reader(&[7; 100][..]);
    reader.read_to_end(&mut Vec::new()).unwrap();
    reader.end(Ended::BrokeOff);
}

fn path(place: &Place, descriptor: &Descriptor) -> PathBuf {
    let name = format!("{}.{}", descriptor.digest.hex(), descriptor.size);
    place.root().join("partial").join(name)
}

/// As if it had come so long ago.
fn make_old(place: &Place, descriptor: &Descriptor, age: u64) {
    let file = std::fs::File::options().write(true).open(path(place, descriptor)).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
}

#[test]
fn a_blob_is_kept_only_when_it_was_read_to_its_end() {
    let place = Place::quick();
    let store = open(&place, keeps(true));
    let tar = archive(&[file("a", "1")]);
    let job = job(&tar, &[]);
    // The layer comes another way first: nobody reads this blob, and nobody knows what is in it.
    let here = unpack(&store, &job, &tar).unwrap();
    bring(&store, &job, b"anything").unwrap();
    assert!(store.kept_blob(&job.descriptor).is_none());
    assert_eq!((place.count("blobs"), place.count("partial")), (0, 0));
    drop(here);
    store.condemn_layer(&job.chain_id).unwrap();
    bring(&store, &job, &tar).unwrap();
    let mut kept = Vec::new();
    store.kept_blob(&job.descriptor).unwrap().read_to_end(&mut kept).unwrap();
    assert_eq!(kept, tar);
    assert!(store.kept_blob_path(&job.descriptor).is_some());
    // Somebody else's word for the size is not this blob's.
    let other = Descriptor { size: job.descriptor.size + 1, ..job.descriptor.clone() };
    assert!(store.kept_blob(&other).is_none() && store.kept_blob_path(&other).is_none());
}

#[test]
fn beginnings_are_counted_and_bounded_and_the_oldest_go_first() {
    let place = Place::quick();
    let store = open(&place, Options { partial_total: 250, ..keeps(false) });
    let used = || store.fs_info().unwrap().images.used;
    let before = used();
    for (n, age) in [(1, 30), (2, 20)] {
        break_off(store.partial(&blob(n)).unwrap());
        make_old(&place, &blob(n), age);
    }
    assert_eq!((used().bytes - before.bytes, used().inodes - before.inodes), (200, 2));
    break_off(store.partial(&blob(3)).unwrap());
    let there = [1, 2, 3].map(|n| path(&place, &blob(n)).exists());
    assert_eq!(there, [false, true, true]);
    // One that comes now is not taken away, however old it is.
    make_old(&place, &blob(3), 10);
    let comes = store.partial(&blob(2)).unwrap();
    assert_eq!(comes.have(), 100);
    break_off(store.partial(&blob(4)).unwrap());
    let there = [2, 3, 4].map(|n| path(&place, &blob(n)).exists());
    assert_eq!(there, [true, false, true]);
    drop(comes);
    // The next daemon may be given less.
    drop(store);
    let store = open(&place, Options { partial_total: 0, ..keeps(false) });
    assert_eq!(store.sweep_partial(false).unwrap(), 200);
    assert_eq!(place.count("partial"), 0);
}

#[test]
fn another_size_of_the_same_digest_spoils_no_beginning() {
    let place = Place::quick();
    let store = open(&place, keeps(false));
    break_off(store.partial(&blob(1)).unwrap());
    for size in [10, 500, 2000] {
        let other = store.partial(&Descriptor { size, ..blob(1) }).unwrap();
        assert_eq!(other.have(), 0, "{size}");
        other.give_up();
    }
    assert_eq!(store.partial(&blob(1)).unwrap().have(), 100);
}

/// Fails at the entries of layers, in one way and then in another.
#[derive(Debug, Default)]
struct Full(AtomicBool);

impl Steps for Full {
    fn before(&self, step: Step) -> std::io::Result<()> {
        match (step, self.0.load(Ordering::SeqCst)) {
            (Step::Entry, true) => Err(std::io::ErrorKind::StorageFull.into()),
            (Step::Entry, false) => Err(std::io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn a_full_disk_takes_all_beginnings() {
    let place = Place::quick();
    let steps = Arc::new(Full::default());
    let store = open(&place, Options { steps: steps.clone(), ..keeps(false) });
    break_off(store.partial(&blob(1)).unwrap());
    let tar = archive(&[file("a", "1")]);
    unpack(&store, &job(&tar, &[]), &tar).unwrap_err();
    assert_eq!(place.count("partial"), 1, "what else fails is not for want of room");
    steps.0.store(true, Ordering::SeqCst);
    let comes = store.partial(&blob(2)).unwrap();
    let error = unpack(&store, &job(&tar, &[]), &tar).unwrap_err();
    assert_eq!(error.class(), Class::ResourceExhausted, "{error}");
    assert!(!path(&place, &blob(1)).exists());
    assert!(path(&place, &blob(2)).exists(), "it comes now");
    comes.give_up();
}

/// Takes the new layer away just before it would be put in the place of the old one.
#[derive(Debug)]
struct Thief {
    staging: PathBuf,
    is_armed: AtomicBool,
}

impl Steps for Thief {
    fn before(&self, step: Step) -> std::io::Result<()> {
        if step == Step::Trash && self.is_armed.swap(false, Ordering::SeqCst) {
            for entry in std::fs::read_dir(&self.staging)? {
                std::fs::remove_dir_all(entry?.path())?;
            }
        }
        NoFaults.before(step)
    }
}

#[test]
fn a_layer_that_is_lost_while_it_is_replaced_is_listed_no_more() {
    let place = Place::quick();
    let staging = place.root().join("staging");
    let steps = Arc::new(Thief { staging, is_armed: AtomicBool::new(false) });
    let store = place.open_with(steps.clone()).unwrap();
    let tars = [archive(&[file("a", "1")]), archive(&[file("b", "2")])];
    commit(&store, &tars, "x", &["app:1"]).unwrap();
    let job = job(&tars[0], &[]);
    let lower = place.root().join("layers").join(job.chain_id.hex());
    let replace = || {
        let blob = (&PLAIN, Check::Here);
        store.replace_layer(&job, &[], blob, &tars[0][..], &AtomicU64::new(0))
    };
    // Its directory is gone: there is nothing to exchange it for. That is mended.
    std::fs::remove_dir_all(&lower).unwrap();
    assert_eq!(replace().unwrap(), crate::Replaced::Done);
    assert!(store.check_layer(&job.chain_id).unwrap().unwrap().is_good());
    // Now the new one does not get its place.
    std::fs::remove_dir_all(&lower).unwrap();
    steps.is_armed.store(true, Ordering::SeqCst);
    replace().unwrap_err();
    assert!(store.layer(&job.chain_id).is_none() && store.hold_layer(&job.chain_id).is_none());
    assert!(!store.layers().contains(&job.chain_id));
    assert!(store.images().is_empty() && store.find("app:1").unwrap().is_none());
    // The next pull brings it, and nobody has lost count.
    let image = commit(&store, &tars, "x", &["app:1"]).unwrap();
    assert_eq!(store.find("app:1").unwrap().unwrap().id, image.id);
    drop(store);
    let store = place.open();
    assert!(store.findings().is_empty(), "{:?}", store.findings());
    let removed = store.remove_image(&image.id).unwrap().unwrap();
    assert_eq!((removed.layers_freed, place.count("layers")), (2, 0));
}
