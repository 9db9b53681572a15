//! Archives that are written again byte for byte.

use std::io::{Read as _, Write as _};

use model::{Class, Classified as _};
use oci_image::{Compression, sha256};

use super::support::*;
use crate::layout::FRAME;
use crate::tar::Entry;
use crate::{HeldLayer, ImageStore, ImageStoreError};

fn again(store: &ImageStore, layer: &HeldLayer) -> Option<Vec<u8>> {
    store.rebuild_layer(&layer.info().chain_id, Vec::new()).unwrap()
}

/// What an archive can have that a tree does not tell: order, padding, names in several ways.
fn odd() -> Vec<u8> {
    let long = "long/".to_owned() + &"n".repeat(180);
    let mut tar = archive(&[
        file("z", "last first"),
        dir("a"),
        file("a/empty", ""),
        (Entry { uid: 7, mtime: (5, 123), ..file("a/owned", "o").0 }, b"o".to_vec()),
        hard_link("a/again", "z"),
        symlink("to", "a"),
        file("to/through", "a link of the layer"),
        file(&long, &"x".repeat(70_000)),
        file("./dots//here", "dots"),
        file("a/.wh.gone", ""),
    ]);
    tar.extend_from_slice(&[0; 10 * 1024]);
    tar.extend_from_slice(b"and what stands behind its end");
    tar
}

#[test]
fn an_archive_is_written_again_as_it_came() {
    let place = Place::new();
    let store = place.open();
    let tar = odd();
    let mut all = vec![tar.clone(), archive(&[]), archive(&[file("a", "1")])];
    // Files with holes and long names, in all formats of GNU tar.
    for fixture in [
        include_bytes!("../../fixtures/gnu.tar.gz").as_slice(),
        include_bytes!("../../fixtures/pax0.0.tar.gz"),
        include_bytes!("../../fixtures/pax0.1.tar.gz"),
        include_bytes!("../../fixtures/pax1.0.tar.gz"),
        include_bytes!("../../fixtures/v7.tar.gz"),
    ] {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(fixture).read_to_end(&mut bytes).unwrap();
        all.push(bytes);
    }
    for (n, bytes) in all.iter().enumerate() {
        let compressed = gzip(bytes);
        let mut job = job(bytes, &[]);
        job.descriptor.digest = sha256(&compressed);
        job.descriptor.size = compressed.len() as u64;
        let read = std::sync::atomic::AtomicU64::new(0);
        let layer = store.unpack_layer(&job, Compression::Gzip, &compressed[..], &read).unwrap();
        assert!(again(&store, &layer).as_ref() == Some(bytes), "archive {n}");
    }
    // As the next daemon has it, too.
    drop(store);
    let store = place.open();
    let layer = store.hold_layer(&job(&tar, &[]).chain_id);
    assert!(layer.is_none_or(|l| again(&store, &l) == Some(tar)));
}

#[test]
fn a_layer_that_does_not_give_its_archive_any_more_says_so() {
    let place = Place::new();
    let store = place.open();
    // The first content of a file that comes twice is nowhere.
    let twice = archive(&[file("a", "one"), file("a", "two")]);
    let layer = unpack(&store, &job(&twice, &[]), &twice).unwrap();
    assert_eq!(again(&store, &layer), None);

    let tar = odd();
    let layer = unpack(&store, &job(&tar, &[]), &tar).unwrap();
    let root = files(&store, &layer);
    let frame = root.parent().unwrap().join(FRAME);
    let whole = std::fs::read(&frame).unwrap();
    assert!(whole.len() < tar.len() / 20, "{} bytes for {}", whole.len(), tar.len());
    for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&frame, &whole[..cut]).unwrap();
        assert_eq!(again(&store, &layer), None, "cut at {cut}");
    }
    for at in (0..whole.len()).step_by(7) {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        std::fs::write(&frame, bad).unwrap();
        // What a changed bit means the same in spite of is none of ours.
        assert!(again(&store, &layer).is_none_or(|a| a == tar), "changed at {at}");
    }
    std::fs::write(&frame, &whole).unwrap();
    assert!(again(&store, &layer) == Some(tar.clone()));
    // A file that was changed: another content, another size, a link out, none.
    for change in ["last secon", "longer than before"] {
        std::fs::write(root.join("z"), change).unwrap();
        assert_eq!(again(&store, &layer), None, "{change}");
    }
    std::fs::remove_file(root.join("z")).unwrap();
    assert_eq!(again(&store, &layer), None);
    std::os::unix::fs::symlink("/etc/hostname", root.join("z")).unwrap();
    assert_eq!(again(&store, &layer), None);
    std::fs::remove_file(&frame).unwrap();
    assert_eq!(again(&store, &layer), None);
}

#[test]
fn what_would_be_too_much_is_not_kept() {
    let place = Place::new();
    let store = place.open();
    // Nothing of it is a file's: it stands behind the end of the archive.
    let mut tar = archive(&[file("a", "1")]);
    tar.resize(tar.len() + (70 << 20), 0);
    let compressed = gzip(&tar);
    let mut job = job(&tar, &[]);
    job.descriptor.digest = sha256(&compressed);
    job.descriptor.size = compressed.len() as u64;
    let read = std::sync::atomic::AtomicU64::new(0);
    let layer = store.unpack_layer(&job, Compression::Gzip, &compressed[..], &read).unwrap();
    let frame = files(&store, &layer).parent().unwrap().join(FRAME);
    assert_eq!(std::fs::metadata(frame).unwrap().len(), 0);
    assert_eq!(again(&store, &layer), None);
}

/// A place that takes so many bytes.
struct Full(usize);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_place_that_is_full_is_told_as_that() {
    let place = Place::new();
    let store = place.open();
    let tar = odd();
    let layer = unpack(&store, &job(&tar, &[]), &tar).unwrap();
    let mut full = Full(3);
    full.flush().unwrap();
    let done = store.rebuild_layer(&layer.info().chain_id, full).map(|_| ());
    assert_eq!(done.unwrap_err().class(), Class::ResourceExhausted);
    let other = job(b"other", &[]).chain_id;
    let gone = store.rebuild_layer(&other, Vec::new()).unwrap_err();
    assert!(matches!(gone, ImageStoreError::NoLayer { .. }), "{gone}");
}
