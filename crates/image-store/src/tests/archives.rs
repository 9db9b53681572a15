//! Archives that other programs wrote, and archives that nobody should have written.

use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::AtomicU64;

use model::{Class, Classified as _};
use oci_image::{Compression, Descriptor, sha256};

use super::support::*;
use crate::tar::{Entry, Kind};

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(bytes), &mut out).unwrap();
    out
}

#[test]
fn sparse_files_and_long_names_of_gnu_tar_are_read_in_every_format() {
    let mut expected = vec![0; 5_000_001];
    for at in [0_usize, 100_000, 700_000, 2_000_000, 3_000_000, 4_000_000] {
        let text = format!("x{at}{}", "y".repeat(5000));
        expected[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    let fixtures: [(&str, &[u8]); 5] = [
        ("gnu", include_bytes!("../../fixtures/gnu.tar.gz")),
        ("pax 0.0", include_bytes!("../../fixtures/pax0.0.tar.gz")),
        ("pax 0.1", include_bytes!("../../fixtures/pax0.1.tar.gz")),
        ("pax 1.0", include_bytes!("../../fixtures/pax1.0.tar.gz")),
        ("v7", include_bytes!("../../fixtures/v7.tar.gz")),
    ];
    for (what, blob) in fixtures {
        let place = Place::new();
        let store = place.open();
        let mut job = job(&unzip(blob), &[]);
        job.descriptor = Descriptor::new("x", sha256(blob), blob.len() as u64);
        let progress = AtomicU64::new(0);
        let layer = store.unpack_layer(&job, Compression::Gzip, blob, &progress).unwrap();
        let root = files(&store, &layer);
        assert!(std::fs::read(root.join("sparse")).unwrap() == expected, "{what}");
        let sparse = std::fs::metadata(root.join("sparse")).unwrap();
        assert_eq!(sparse.nlink(), 2, "{what}");
        if what == "v7" {
            continue;
        }
        assert!(sparse.blocks() * 512 < 200_000, "{what}: the holes are filled");
        let deep = root.join("d".repeat(90)).join("e".repeat(90)).join("f".repeat(120));
        assert_eq!(std::fs::read(deep).unwrap(), b"long", "{what}");
        let link = std::fs::read_link(root.join("link")).unwrap();
        assert_eq!(link.to_str(), Some("t".repeat(180).as_str()), "{what}");
        let nanos = if what == "gnu" { 0 } else { 123_456_789 };
        assert_eq!((sparse.mtime(), sparse.mtime_nsec()), (1_700_000_000, nanos), "{what}");
    }
}

#[test]
fn an_archive_may_end_without_its_padding() {
    let whole_tar = archive(&[file("a", "12345"), file("b", &"x".repeat(700))]);
    let data_end = whole_tar.len() - 1024 - (1024 - 700);
    for end in [data_end, data_end + 100, whole_tar.len() - 1024, whole_tar.len() - 512] {
        let tar = &whole_tar[..end];
        let place = Place::quick();
        let store = place.open();
        let layer = unpack(&store, &job(tar, &[]), tar).unwrap();
        assert_eq!(std::fs::read(files(&store, &layer).join("b")).unwrap().len(), 700, "{end}");
    }
    // With more after the end, as `docker save` and some builders pad to 10 KiB.
    let padded = [&whole_tar[..], &[0; 9000]].concat();
    let place = Place::quick();
    let store = place.open();
    unpack(&store, &job(&padded, &[]), &padded).unwrap();
}

fn device(path: &str, device: (u32, u32)) -> (Entry, Vec<u8>) {
    (Entry { device, ..entry(Kind::CharDevice, path) }, Vec::new())
}

#[test]
fn hostile_entries_are_refused_by_name_and_leave_nothing() {
    let big_owner = (Entry { uid: u64::from(u32::MAX), ..entry(Kind::File, "f") }, Vec::new());
    type Case = (&'static str, Vec<(Entry, Vec<u8>)>);
    let cases: Vec<Case> = vec![
        ("../escape", vec![file("../escape", "x")]),
        ("a/../../escape", vec![file("a/../../escape", "x")]),
        ("a/.wh...", vec![file("a/.wh...", "")]),
        ("a/.wh.", vec![file("a/.wh.", "")]),
        ("file/inside", vec![file("file", ""), file("file/inside", "")]),
        ("loop/x", vec![symlink("loop", "loop"), file("loop/x", "")]),
        ("l", vec![hard_link("l", "/etc/passwd")]),
        ("l", vec![hard_link("l", "../../etc/passwd")]),
        ("l", vec![symlink("out", "/etc"), hard_link("l", "out/passwd")]),
        ("l", vec![dir("d"), hard_link("l", "d")]),
        ("l", vec![file("l", "x"), hard_link("l", "l")]),
        ("l", vec![hard_link("l", "")]),
        ("s", vec![symlink("s", "")]),
        ("f", vec![big_owner]),
        ("hide", vec![device("hide", (0, 0))]),
        (".", vec![file(".", "")]),
    ];
    for (i, (name, entries)) in cases.into_iter().enumerate() {
        let place = Place::quick();
        let store = place.open();
        let tar = archive(&entries);
        let Err(error) = unpack(&store, &job(&tar, &[]), &tar) else { panic!("case {i}: {name}") };
        assert_eq!(error.class(), Class::DataLoss, "case {i}: {}", whole(&error));
        assert!(whole(&error).contains(name), "case {i}: {}", whole(&error));
        assert_eq!((place.count("staging"), place.count("layers")), (0, 0), "case {i}");
        assert!(!place.dir.path().join("escape").exists());
    }
}

#[test]
fn what_looks_like_a_way_out_stays_inside() {
    let place = Place::quick();
    let store = place.open();
    let outside = place.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let out = outside.to_str().unwrap();
    let tar = archive(&[
        file("/abs", "1"),
        symlink("away", out),
        file("away/file", "2"),
        symlink("up", "../../../../.."),
        file("up/top", "3"),
        dir("etc"),
        symlink("etc2", "etc"),
        file("etc2/passwd", "4"),
        symlink("etc/rel", "../etc/../etc"),
        file("etc/rel/deep", "5"),
        // Replaced: first a link that leads out, then a file of the same name.
        symlink("swap", out),
        file("swap", "6"),
        // Replaced: a directory with content, then a link, then a file through it.
        dir("tree"),
        file("tree/x", ""),
        symlink("tree", out),
        file("tree/y", "7"),
        file("twice", "old"),
        file("twice", "new"),
        hard_link("hard", "etc2/passwd"),
    ]);
    let layer = unpack(&store, &job(&tar, &[]), &tar).unwrap();
    let root = files(&store, &layer);
    let inside = root.join(out.trim_start_matches('/'));
    for (path, content) in [
        (root.join("abs"), "1"),
        (inside.join("file"), "2"),
        (root.join("top"), "3"),
        (root.join("etc/passwd"), "4"),
        (root.join("etc/deep"), "5"),
        (root.join("swap"), "6"),
        (inside.join("y"), "7"),
        (root.join("twice"), "new"),
        (root.join("hard"), "4"),
    ] {
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "{}", path.display());
        assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "something got out");
}

#[test]
fn malformed_archives_are_refused() {
    let good = archive(&[file("name", "content")]);
    let change = |at: usize, bytes: &[u8]| {
        let mut tar = good.clone();
        tar[at..at + bytes.len()].copy_from_slice(bytes);
        // The checksum is put right, so that what was changed is what is refused.
        tar[148..156].fill(b' ');
        let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
        tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        tar
    };
    let mut bad_sum = good.clone();
    bad_sum[0] ^= 1;
    for (what, tar) in [
        ("checksum", bad_sum),
        ("no number", change(124, b"zzzzzzzzzzz\0")),
        ("not supported", change(156, b"M")),
        ("too long", {
            let mut tar = change(156, b"x");
            tar = {
                let mut t = tar;
                t[124..136].copy_from_slice(b"77777777777\0");
                t
            };
            tar[148..156].fill(b' ');
            let sum: u32 = tar[..512].iter().map(|b| u32::from(*b)).sum();
            tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            tar
        }),
        ("ends in the middle", change(124, b"00000777777\0")),
        ("middle of a header", good[..1024 + 200].iter().copied().chain([1]).collect()),
        ("PAX record", change(156, b"x")),
        ("stands alone", [&[0; 512][..], &good].concat()),
    ] {
        let place = Place::quick();
        let store = place.open();
        let error = unpack(&store, &job(&tar, &[]), &tar).map(drop).unwrap_err();
        assert!(whole(&error).contains(what), "{what}: {}", whole(&error));
        assert_eq!(error.class(), Class::DataLoss, "{what}");
    }
}
