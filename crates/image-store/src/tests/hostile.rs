//! More of what no honest program writes: names, numbers, twins, depth and bombs.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::atomic::AtomicU64;

use model::{Class, Classified as _};
use oci_image::{Compression, Descriptor, sha256};

use super::support::*;
use crate::tar::{Entry, Kind};
use crate::{ImageStore, Limits, Options};

/// `tar` with other bytes in its first header, and the checksum put right.
fn patched(tar: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut tar = tar.to_vec();
    tar[at..at + bytes.len()].copy_from_slice(bytes);
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

/// A PAX header with these records before `tar`.
fn with_pax(records: &[u8], tar: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(records).into_owned();
    let head = archive(&[file("PaxHeaders/x", &text)]);
    let blocks = 512 + records.len().next_multiple_of(512);
    [&patched(&head, 156, b"x")[..blocks], tar].concat()
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    format!("{length}{rest}").into_bytes()
}

#[test]
fn numbers_that_no_file_has_are_refused() {
    let good = archive(&[file("name", "content")]);
    let mut huge = [0xff; 12];
    huge[0] = 0x80;
    let cases: [(&str, Vec<u8>); 10] = [
        ("a negative owner", patched(&good, 108, &[0xff; 8])),
        ("a negative size", patched(&good, 124, &[0xff; 12])),
        ("a size of 2^88", patched(&good, 124, &huge)),
        ("an owner above 2^32", patched(&good, 108, &[0x80, 0, 0, 1, 0, 0, 0, 0])),
        ("a negative size in PAX", with_pax(&record("size", "-1"), &good)),
        ("a size above 2^64 in PAX", with_pax(&record("size", "18446744073709551616"), &good)),
        ("an owner above 2^32 in PAX", with_pax(&record("uid", "4294967296"), &good)),
        ("a NUL in a name", with_pax(&record("path", "a\0b"), &good)),
        ("a record that lies about its length", with_pax(b"99 path=x\n", &good)),
        ("a sparse map beyond its file", {
            let map = [record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0")].concat();
            with_pax(&[map, record("GNU.sparse.realsize", "4")].concat(), &good)
        }),
    ];
    for (what, tar) in cases {
        let place = Place::quick();
        let store = place.open();
        let Err(error) = unpack(&store, &job(&tar, &[]), &tar) else { panic!("{what}") };
        assert_eq!(error.class(), Class::DataLoss, "{what}: {}", whole(&error));
        assert_eq!((place.count("staging"), place.count("layers")), (0, 0), "{what}");
    }
}

#[test]
fn odd_names_twins_and_nodes_are_contained() {
    let place = Place::quick();
    let store = place.open();
    let device = |path: &str, kind| (Entry { device: (1, 3), ..entry(kind, path) }, Vec::new());
    let deep = "d/".repeat(1500);
    let tar = archive(&[
        file("line\nbreak\t\u{7f}", "1"),
        file("Twin", "2"),
        file("twin", "3"),
        device("dev/null", Kind::CharDevice),
        device("dev/disk", Kind::BlockDevice),
        (entry(Kind::Fifo, "fifo"), Vec::new()),
        file("fifo", "5"),
        file(&format!("{deep}bottom"), "6"),
        file("-rf", "7"),
        file("\u{202e}txt", "8"),
    ]);
    let layer = unpack(&store, &job(&tar, &[]), &tar).unwrap();
    let root = files(&store, &layer);
    for (path, content) in
        [("line\nbreak\t\u{7f}", "1"), ("Twin", "2"), ("twin", "3"), ("fifo", "5"), ("-rf", "7")]
    {
        assert_eq!(std::fs::read_to_string(root.join(path)).unwrap(), content, "{path:?}");
    }
    let null = std::fs::symlink_metadata(root.join("dev/null")).unwrap();
    assert!(null.file_type().is_char_device() && null.rdev() == rustix::fs::makedev(1, 3));
    // It can be checked, measured and taken away whatever its depth.
    let chain_id = layer.info().chain_id.clone();
    assert!(store.check_layer(&chain_id).unwrap().unwrap().is_good());
    assert!(layer.info().usage.inodes > 1500);
    drop(layer);
    store.collect_older(std::time::Duration::ZERO, 100).unwrap();
    assert_eq!((place.count("layers"), place.count("trash")), (0, 0));
}

#[test]
fn a_blob_that_swells_beyond_all_measure_is_refused_while_it_does() {
    let limits = Limits { ratio: 1000, ..Limits::default() };
    let place = Place::quick();
    let options = Options { limits, ..Options::default() };
    let store = ImageStore::open(&place.root(), options).unwrap();
    let tar = archive(&[file("zeros", &"\0".repeat(80 << 20))]);
    let blob = zstd::encode_all(&tar[..], 1).unwrap();
    assert!(tar.len() / blob.len() > 1000, "{}", blob.len());
    let mut job = job(&tar, &[]);
    job.descriptor = Descriptor::new("x", sha256(&blob), blob.len() as u64);
    let done = store.unpack_layer(&job, Compression::Zstd, &blob[..], &AtomicU64::new(0));
    let error = done.map(drop).unwrap_err();
    assert_eq!(error.class(), Class::ResourceExhausted);
    assert!(whole(&error).contains("more than 1000 times its own size"), "{}", whole(&error));
    assert_eq!((place.count("staging"), place.count("layers")), (0, 0));
}
