//! The power goes out: what the file system had not written is lost.
//!
//! The store lies on an ext4 in a file. What is in that file at a step is what a disk would have then:
//! bytes that only the page cache of the mounted file system has are not in it. Each such state is
//! mounted, which replays its journal, and opened.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::support::*;
use crate::{ImageStore, Options, Step, Steps};

fn run(program: &str, args: &[&Path]) {
    let done = Command::new(program).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program} {args:?}: {said}");
}

/// A disk that is mounted as long as this value lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(disk: &Path, at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        run("mount", &[Path::new("-oloop"), disk, &at]);
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A test that fails may still have files open in it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Keeps the state of the disk before each step from the first record on.
#[derive(Debug)]
struct Keeps {
    disk: PathBuf,
    to: PathBuf,
    count: AtomicUsize,
    steps: Mutex<Vec<Step>>,
}

impl Keeps {
    fn keep(&self, step: Step) {
        let number = self.count.fetch_add(1, Ordering::SeqCst);
        let copy = self.to.join(format!("cut-{number}"));
        run("cp", &[Path::new("--sparse=always"), &self.disk, &copy]);
        self.steps.lock().unwrap().push(step);
    }
}

impl Steps for Keeps {
    fn before(&self, step: Step) -> std::io::Result<()> {
        // Between the others nothing becomes visible.
        if !matches!(step, Step::Entry | Step::Stage | Step::Sync | Step::Delete) {
            self.keep(step);
        }
        Ok(())
    }
}

fn layers() -> Vec<Vec<u8>> {
    let noise: String = (0..40_000_u32).map(|i| char::from(b'a' + (i * i % 25) as u8)).collect();
    vec![
        archive(&[dir("etc"), file("etc/a", &noise), file("gone", "")]),
        archive(&[file("etc/b", &noise), file(".wh.gone", "")]),
    ]
}

/// Everything that is listed is whole, to the last byte.
fn check(store: &ImageStore, when: &str) -> usize {
    assert!(store.findings().is_empty(), "{when}: {:?}", store.findings());
    for image in store.images() {
        for chain_id in &image.layers {
            let found = store.check_layer(chain_id).unwrap().unwrap();
            assert!(found.is_good(), "{when}: {found:?}");
        }
        let root = store.prepare(&image, &container(9), None).unwrap();
        for (path, is_there) in [("etc/a", true), ("etc/b", true), ("gone", false)] {
            let read = store.read_file(&root, Path::new(path), 1 << 20).unwrap();
            assert_eq!(read.is_some(), is_there, "{when}: {path}");
        }
        store.release(&container(9)).unwrap();
    }
    store.images().len()
}

#[test]
fn what_is_listed_is_whole_after_the_writes_that_a_power_cut_loses() {
    let dir = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let disk = dir.path().join("disk");
    std::fs::File::create(&disk).unwrap().set_len(24 << 20).unwrap();
    run("mkfs.ext4", &[Path::new("-qF"), &disk]);
    let keeps = Arc::new(Keeps {
        disk: disk.clone(),
        to: dir.path().to_owned(),
        count: AtomicUsize::new(0),
        steps: Mutex::default(),
    });
    {
        let mounted = Mounted::new(&disk, dir.path().join("running"));
        let steps: Arc<dyn Steps> = Arc::<Keeps>::clone(&keeps);
        let options = Options { steps, ..Options::default() };
        let store = ImageStore::open(&mounted.0.join("images"), options).unwrap();
        let image = commit(&store, &layers(), "one", &["app:1"]).unwrap();
        keeps.keep(Step::RecordName);
        store.remove_image(&image.id).unwrap();
        keeps.keep(Step::Trash);
    }
    let steps = keeps.steps.lock().unwrap().clone();
    let mut listed = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let disk = dir.path().join(format!("cut-{number}"));
        let mounted = Mounted::new(&disk, dir.path().join(format!("mount-{number}")));
        let root = mounted.0.join("images");
        let when = format!("cut before step {number}, {step:?}");
        let store = ImageStore::open(&root, Options::default()).unwrap();
        listed.push(check(&store, &when));
        // Whoever pulls it again has it again.
        let again = commit(&store, &layers(), "one", &["app:1"]).unwrap();
        assert!(check(&store, &when) == 1 && store.find("app:1").unwrap().is_some(), "{when}");
        drop((store, again));
    }
    assert!(listed.contains(&1) && listed.first() == Some(&0), "{listed:?} {steps:?}");
    assert!(listed.len() > 8, "{steps:?}");
}
