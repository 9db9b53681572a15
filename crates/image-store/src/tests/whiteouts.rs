//! Layers upon layers, against a model and against the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::support::*;
use crate::merged::{MergedDir, Node};
use crate::tar::Entry;

#[derive(Debug, Clone)]
enum Op {
    File(String, u8),
    Dir(String, u32),
    Whiteout(String),
    Opaque(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    File(u8),
    Dir(u32),
}

type Tree = BTreeMap<PathBuf, Thing>;

/// A layer by the rules of the OCI image specification, as sets.
#[derive(Debug, Default)]
struct Layer {
    things: BTreeMap<PathBuf, Layered>,
    whiteouts: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone)]
enum Layered {
    File(u8),
    Dir { mode: Option<u32>, is_opaque: bool },
}

impl Layer {
    /// Takes an entry in; `false` if it cannot be, because it lies in a file.
    fn add(&mut self, op: &Op) -> bool {
        let (Op::File(path, _) | Op::Dir(path, _) | Op::Whiteout(path) | Op::Opaque(path)) = op;
        let path = PathBuf::from(path);
        let holds_itself = matches!(op, Op::Opaque(_));
        let dirs: Vec<PathBuf> = path
            .ancestors()
            .skip(usize::from(!holds_itself))
            .filter(|p| !p.as_os_str().is_empty())
            .map(Path::to_owned)
            .collect();
        if dirs.iter().any(|d| matches!(self.things.get(d), Some(Layered::File(_)))) {
            return false;
        }
        for dir in dirs {
            self.things.entry(dir).or_insert(Layered::Dir { mode: None, is_opaque: false });
        }
        match op {
            Op::File(_, content) => {
                self.replace(&path);
                self.things.insert(path, Layered::File(*content));
            }
            Op::Dir(_, new) => match self.things.get_mut(&path) {
                Some(Layered::Dir { mode, .. }) => *mode = Some(*new),
                Some(Layered::File(_)) | None => {
                    self.replace(&path);
                    self.things.insert(path, Layered::Dir { mode: Some(*new), is_opaque: false });
                }
            },
            Op::Whiteout(_) => drop(self.whiteouts.insert(path)),
            Op::Opaque(_) => {
                if let Some(Layered::Dir { is_opaque, .. }) = self.things.get_mut(&path) {
                    *is_opaque = true;
                }
            }
        }
        true
    }

    /// What is replaced is gone with everything in it.
    fn replace(&mut self, path: &Path) {
        self.things.retain(|p, _| !p.starts_with(path));
        self.whiteouts.retain(|p| p == path || !p.starts_with(path));
    }

    /// The tree that shows when this layer lies on `below`.
    fn on(&self, below: &Tree) -> Tree {
        let mut tree = below.clone();
        for hidden in &self.whiteouts {
            tree.retain(|p, _| !p.starts_with(hidden));
        }
        for (path, thing) in &self.things {
            if matches!(thing, Layered::Dir { is_opaque: true, .. }) {
                tree.retain(|p, _| p == path || !p.starts_with(path));
                if let Layered::Dir { mode: None, .. } = thing {
                    tree.insert(path.clone(), Thing::Dir(0o755));
                }
            }
        }
        for (path, thing) in &self.things {
            match thing {
                Layered::File(content) => {
                    tree.retain(|p, _| !p.starts_with(path));
                    tree.insert(path.clone(), Thing::File(*content));
                }
                Layered::Dir { mode, .. } => {
                    let was = match tree.get(path) {
                        Some(Thing::Dir(mode)) => Some(*mode),
                        Some(Thing::File(_)) | None => None,
                    };
                    tree.insert(path.clone(), Thing::Dir(mode.or(was).unwrap_or(0o755)));
                }
            }
        }
        tree
    }
}

fn to_entry(op: &Op) -> (Entry, Vec<u8>) {
    match op {
        Op::File(path, content) => file(path, &content.to_string()),
        Op::Dir(path, mode) => {
            let (mut entry, data) = dir(path);
            entry.mode = *mode;
            (entry, data)
        }
        Op::Whiteout(path) => {
            let path = Path::new(path);
            let name = format!(".wh.{}", path.file_name().unwrap().to_str().unwrap());
            file(path.with_file_name(name).to_str().unwrap(), "")
        }
        Op::Opaque(path) => file(&format!("{path}/.wh..wh..opq"), ""),
    }
}

fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|p| p.join("/"))
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (paths(), 0..9_u8).prop_map(|(p, c)| Op::File(p, c)),
        3 => (paths(), prop::sample::select(vec![0o700, 0o711, 0o750])).prop_map(|(p, m)| Op::Dir(p, m)),
        3 => paths().prop_map(Op::Whiteout),
        1 => paths().prop_map(Op::Opaque),
    ];
    prop::collection::vec(op, 0..8)
}

/// The tree as our own eyes see it.
fn merged(dir: &MergedDir, at: &Path, tree: &mut Tree) {
    for name in dir.names().unwrap() {
        let path = at.join(&name);
        match dir.lookup(&name).unwrap().unwrap() {
            Node::Directory(sub) => {
                let mode = rustix::fs::fstat(sub.top().unwrap()).unwrap().st_mode & 0o7777;
                tree.insert(path.clone(), Thing::Dir(mode));
                merged(&sub, &path, tree);
            }
            Node::Other { parent, name, .. } => {
                let file = crate::merged::open_file(&parent, &name).unwrap().unwrap();
                tree.insert(
                    path,
                    Thing::File(std::io::read_to_string(file).unwrap().parse().unwrap()),
                );
            }
        }
    }
}

/// The tree as it is mounted.
fn walk(dir: &Path, at: &Path, tree: &mut Tree) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = at.join(entry.file_name());
        let stat = entry.metadata().unwrap_or_else(|e| panic!("{} is listed: {e}", path.display()));
        if stat.is_dir() {
            tree.insert(path.clone(), Thing::Dir(stat.mode() & 0o7777));
            walk(&entry.path(), &path, tree);
        } else {
            let content = std::fs::read_to_string(entry.path()).unwrap();
            tree.insert(path, Thing::File(content.parse().unwrap()));
        }
    }
}

/// The root that overlayfs shows, in a mount namespace that ends with its thread.
fn kernel(lower: Vec<PathBuf>) -> Tree {
    let thread = std::thread::spawn(move || {
        use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
        sys::unshare(sys::Namespaces::MOUNT).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let place = tempfile::tempdir().unwrap();
        let mut tree = Tree::new();
        if let [only] = lower.as_slice() {
            walk(only, Path::new(""), &mut tree);
            return tree;
        }
        let list: Vec<_> = lower.iter().map(|p| p.to_str().unwrap()).collect();
        let data = std::ffi::CString::new(format!("lowerdir={}", list.join(":"))).unwrap();
        mount("overlay", place.path(), "overlay", MountFlags::RDONLY, data.as_c_str()).unwrap();
        walk(place.path(), Path::new(""), &mut tree);
        rustix::mount::unmount(place.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
        tree
    });
    thread.join().unwrap()
}

fn compare(layers: &[Vec<Op>]) {
    let mut model = Tree::new();
    let mut tars = Vec::new();
    for ops in layers {
        let mut layer = Layer::default();
        let kept: Vec<_> = ops.iter().filter(|op| layer.add(op)).map(to_entry).collect();
        model = layer.on(&model);
        tars.push(archive(&kept));
    }
    let place = Place::quick();
    let store = place.open();
    let image = commit(&store, &tars, "x", &[]).unwrap();
    let root = store.read_only_root(&image, &container(1)).unwrap();
    let mut ours = Tree::new();
    merged(&MergedDir::open(&root.lower).unwrap(), Path::new(""), &mut ours);
    assert_eq!(ours, model, "our own view");
    assert_eq!(kernel(root.lower), model, "the kernel's view");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn layers_show_what_the_specification_says(layers in prop::collection::vec(ops(), 1..4)) {
        compare(&layers);
    }
}

#[test]
fn the_root_itself_can_be_opaque() {
    let place = Place::quick();
    let store = place.open();
    let image = commit(
        &store,
        &[
            archive(&[file("a/x", "1"), file("b", "2"), file("c", "3")]),
            archive(&[file(".wh..wh..opq", ""), file("a/y", "4"), file("c", "5")]),
        ],
        "x",
        &[],
    )
    .unwrap();
    let root = store.read_only_root(&image, &container(1)).unwrap();
    let seen: Vec<_> = kernel(root.lower).into_keys().collect();
    assert_eq!(seen, ["a", "a/y", "c"].map(PathBuf::from));
}
