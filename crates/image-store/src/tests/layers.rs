//! What an archive becomes on disk, and which archives become nothing.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::sync::atomic::AtomicU64;

use model::{Class, Classified as _};
use oci_image::{Compression, Descriptor, sha256};

use super::support::*;
use crate::tar::Kind;
use crate::{ImageStoreError, LayerError, Limits, Options};

#[test]
fn everything_that_an_archive_says_is_on_disk() {
    let place = Place::new();
    let store = place.open();
    let (mut suid, data) = file("bin/su", "program");
    suid.mode = 0o4755;
    suid.uid = 3_000_000_000;
    suid.gid = 7;
    suid.mtime = (1_600_000_000, 123_456_789);
    let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    suid.xattrs = vec![
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.note".to_vec(), b"\0\xffx".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.overlay.redirect".to_vec(), b"/etc".to_vec()),
        (b"security.selinux".to_vec(), b"label".to_vec()),
    ];
    let (mut bin, _) = dir("bin/");
    bin.mode = 0o1711;
    bin.mtime = (-5, 250_000_000);
    let mut null = entry(Kind::CharDevice, "dev/null");
    null.device = (1, 3);
    null.mode = 0o666;
    let mut fifo = entry(Kind::Fifo, "run/pipe");
    fifo.mode = 0o600;
    let tar = archive(&[
        (bin, Vec::new()),
        (suid, data),
        hard_link("bin/sudo", "bin/su"),
        symlink("sh", "/bin/su"),
        hard_link("sh2", "sh"),
        (null, Vec::new()),
        (fifo, Vec::new()),
    ]);
    let layer = unpack(&store, &job(&tar, &[]), &tar).unwrap();
    let root = files(&store, &layer);
    let su = std::fs::symlink_metadata(root.join("bin/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.uid(), su.gid()), (0o4755, 3_000_000_000, 7));
    assert_eq!((su.mtime(), su.mtime_nsec(), su.nlink()), (1_600_000_000, 123_456_789, 2));
    assert_eq!(xattr(&root.join("bin/su"), "security.capability"), Some(capability));
    assert_eq!(xattr(&root.join("bin/su"), "user.note"), Some(b"\0\xffx".to_vec()));
    for hidden in ["trusted.overlay.opaque", "trusted.overlay.redirect", "security.selinux"] {
        assert_eq!(xattr(&root.join("bin/su"), hidden), None, "{hidden}");
    }
    let bin = std::fs::symlink_metadata(root.join("bin")).unwrap();
    assert_eq!((bin.mode() & 0o7777, bin.mtime(), bin.mtime_nsec()), (0o1711, -5, 250_000_000));
    assert_eq!(std::fs::read_link(root.join("sh")).unwrap().to_str(), Some("/bin/su"));
    assert_eq!(std::fs::symlink_metadata(root.join("sh2")).unwrap().nlink(), 2);
    let null = std::fs::symlink_metadata(root.join("dev/null")).unwrap();
    assert!(
        null.file_type().is_char_device() && null.rdev() == 259 && null.mode() & 0o777 == 0o666
    );
    assert!(std::fs::symlink_metadata(root.join("run/pipe")).unwrap().file_type().is_fifo());
    // What is only implied is what a plain directory is.
    assert_eq!(std::fs::symlink_metadata(root.join("dev")).unwrap().mode() & 0o7777, 0o755);
    // Seven of the archive, the layer's two directories and its two lists.
    assert_eq!(layer.info().usage.inodes, 12);
}

#[test]
fn every_compression_gives_the_same_layer() {
    let tar = archive(&[file("a", &"text ".repeat(50_000))]);
    let (first, second) = tar.split_at(tar.len() / 2);
    let two_members = [gzip(first), gzip(second)].concat();
    let zstd = zstd::encode_all(&tar[..], 3).unwrap();
    for (compression, blob) in [
        (Compression::None, tar.clone()),
        (Compression::Gzip, gzip(&tar)),
        (Compression::Gzip, two_members),
        (Compression::Zstd, zstd),
    ] {
        let place = Place::quick();
        let store = place.open();
        let mut job = job(&tar, &[]);
        job.descriptor = Descriptor::new("x", sha256(&blob), blob.len() as u64);
        let progress = AtomicU64::new(0);
        let layer = store.unpack_layer(&job, compression, &blob[..], &progress).unwrap();
        assert_eq!(std::fs::read(files(&store, &layer).join("a")).unwrap().len(), 250_000);
        assert_eq!(progress.into_inner(), blob.len() as u64, "{compression:?}");
    }
}

#[test]
fn a_layer_is_read_once_and_is_there_for_the_next_who_opens() {
    let place = Place::quick();
    let tar = archive(&[file("a", "1")]);
    let info = {
        let store = place.open();
        let info = unpack(&store, &job(&tar, &[]), &tar).unwrap().info().clone();
        // A reader that fails when it is touched.
        let again = unpack(&store, &job(&tar, &[]), b"").unwrap();
        assert_eq!(again.info(), &info);
        info
    };
    let store = place.open();
    assert_eq!(store.layer(&info.chain_id), Some(info));
    assert!(store.findings().is_empty());
}

#[test]
fn a_layer_that_is_not_what_was_announced_leaves_nothing() {
    let tar = archive(&[file("a", &"x".repeat(100_000))]);
    let good = job(&tar, &[]);
    let other = sha256(b"other");
    let blob = gzip(&tar);
    let mut zipped = good.clone();
    zipped.descriptor = Descriptor::new("x", sha256(&blob), blob.len() as u64);
    let with = |change: &dyn Fn(&mut crate::LayerJob)| {
        let mut job = zipped.clone();
        change(&mut job);
        job
    };
    let cases: Vec<(&str, crate::LayerJob, Vec<u8>)> = vec![
        ("digest", with(&|j| j.descriptor.digest = other.clone()), blob.clone()),
        ("diff id", with(&|j| j.diff_id = other.clone()), blob.clone()),
        ("too long", with(&|j| j.descriptor.size -= 1), blob.clone()),
        ("too short", with(&|j| j.descriptor.size += 1), blob.clone()),
        ("cut", zipped.clone(), blob[..blob.len() / 2].to_vec()),
        ("not compressed", zipped.clone(), tar.clone()),
        ("trailing garbage", zipped.clone(), [&blob[..], b"garbage"].concat()),
        ("a changed byte", zipped.clone(), {
            let mut bytes = blob.clone();
            bytes[blob.len() / 2] ^= 1;
            bytes
        }),
    ];
    for (what, job, bytes) in cases {
        let place = Place::quick();
        let store = place.open();
        let progress = AtomicU64::new(0);
        let error = store.unpack_layer(&job, Compression::Gzip, &bytes[..], &progress).unwrap_err();
        assert_eq!(error.class(), Class::DataLoss, "{what}: {}", whole(&error));
        assert!(whole(&error).contains(job.descriptor.digest.as_str()), "{what}");
        for dir in ["layers", "staging", "trash", "records/layers"] {
            assert_eq!(place.count(dir), 0, "{what} left something in {dir}");
        }
    }
}

#[test]
fn a_source_that_fails_is_unavailable_and_keeps_its_cause() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the cable is cut"))
        }
    }
    let place = Place::quick();
    let store = place.open();
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let job = job(&archive(&[]), &[]);
        let error = store.unpack_layer(&job, compression, Broken, &AtomicU64::new(0)).unwrap_err();
        assert_eq!(error.class(), Class::Unavailable);
        assert!(whole(&error).ends_with("the cable is cut"), "{}", whole(&error));
        assert!(matches!(error, ImageStoreError::Layer { source: LayerError::Read(_), .. }));
    }
    assert_eq!(place.count("staging"), 0);
}

#[test]
fn bombs_stop_at_the_limits() {
    let limits = Limits { bytes: 1 << 20, ratio: 4096, entries: 50, path_bytes: 300 };
    let many: Vec<_> = (0..60).map(|i| file(&format!("f{i}"), "")).collect();
    for (what, tar) in [
        ("bytes", archive(&[file("big", &"0".repeat(2 << 20))])),
        ("entries", archive(&many)),
        ("longer than 300", archive(&[file(&"d/".repeat(200), "")])),
    ] {
        let place = Place::quick();
        let store =
            crate::ImageStore::open(&place.root(), Options { limits, ..Options::default() })
                .unwrap();
        let blob = gzip(&tar);
        let mut job = job(&tar, &[]);
        job.descriptor = Descriptor::new("x", sha256(&blob), blob.len() as u64);
        let progress = AtomicU64::new(0);
        let error = store.unpack_layer(&job, Compression::Gzip, &blob[..], &progress).unwrap_err();
        assert!(whole(&error).contains(what), "{what}: {}", whole(&error));
        assert_eq!((place.count("staging"), place.count("layers")), (0, 0));
    }
}

#[test]
fn two_who_bring_the_same_layer_at_once_get_one() {
    let place = Place::quick();
    let store = place.open();
    let tar = archive(&[file("a", &"x".repeat(1 << 20)), file("b", "y")]);
    let job = job(&tar, &[]);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| unpack(&store, &job, &tar).unwrap());
        }
    });
    assert_eq!((place.count("layers"), place.count("staging"), place.count("trash")), (1, 0, 0));
}
