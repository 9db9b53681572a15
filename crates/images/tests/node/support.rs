//! A node's images, without the node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use image_store::{ImageStore, Options};
use images::{Images, PullLimits, Sources};
use model::{ContainerId, ImageSpec};
use operations::Operations;
use registry::{Limits, RegistryConfig};
use tempfile::TempDir;
use testkit::Registry;

/// A store and what works on it, in a directory of its own.
#[derive(Debug)]
pub struct Node {
    pub images: Images,
    pub operations: Operations,
    pub dir: TempDir,
}

/// How a node differs from the usual one.
#[derive(Debug, Default)]
pub struct SetUp {
    pub limits: PullLimits,
    pub sources: Sources,
    pub options: Options,
    pub auth_files: Vec<PathBuf>,
}

impl Node {
    /// A node that knows how to talk to `registry`.
    pub fn new(registry: Option<&Registry>) -> Self {
        Self::with(registry, PullLimits::default())
    }

    pub fn with(registry: Option<&Registry>, limits: PullLimits) -> Self {
        Self::set_up(registry, SetUp { limits, ..SetUp::default() })
    }

    pub fn set_up(registry: Option<&Registry>, set_up: SetUp) -> Self {
        // In memory where there is room: every layer syncs its file system.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        Self::open_in(dir, registry, set_up)
    }

    /// The next daemon on the same disk.
    pub fn restart(self, registry: Option<&Registry>, set_up: SetUp) -> Self {
        let Self { images, operations, dir } = self;
        drop((images, operations));
        Self::open_in(dir, registry, set_up)
    }

    fn open_in(dir: TempDir, registry: Option<&Registry>, set_up: SetUp) -> Self {
        let mut config = RegistryConfig {
            limits: Limits {
                connect: Duration::from_secs(5),
                backoff: Duration::from_millis(1),
                tries: 2,
                ..Limits::default()
            },
            ..RegistryConfig::default()
        };
        if let Some(registry) = registry {
            let hosts = dir.path().join("hosts");
            std::fs::create_dir_all(hosts.join(registry.host())).unwrap();
            std::fs::write(hosts.join(registry.host()).join("hosts.toml"), registry.hosts_toml())
                .unwrap();
            config.hosts_dirs = vec![hosts];
        }
        config.auth_files = set_up.auth_files;
        let store = ImageStore::open(&dir.path().join("store"), set_up.options).unwrap();
        let operations = Operations::new();
        let client = registry::Registry::new(config);
        let images = Images::new(store, client, operations.clone(), set_up.limits, set_up.sources);
        Self { images, operations, dir }
    }

    /// How many entries a directory of the store has.
    pub fn count(&self, dir: &str) -> usize {
        std::fs::read_dir(self.dir.path().join("store").join(dir)).unwrap().count()
    }

    /// A file of an image, as a container would see it.
    pub fn read(&self, image: &str, path: &str) -> Option<String> {
        let image = self.images.status(image).unwrap().expect("the image is here");
        let store = self.images.store();
        let container = ContainerId::from_random([1; 32]);
        let root = store.prepare(&image, &container, None).unwrap();
        let bytes = store.read_file(&root, Path::new(path), 1 << 20).unwrap();
        store.release(&container).unwrap();
        bytes.map(|b| String::from_utf8(b).unwrap())
    }

    /// Nothing half done is left.
    pub fn assert_tidy(&self) {
        for dir in ["staging", "trash"] {
            assert_eq!(self.count(dir), 0, "leftovers in {dir}");
        }
        assert!(self.images.progress().is_empty());
        assert!(self.operations.list().is_empty());
    }
}

pub fn spec(image: &str) -> ImageSpec {
    ImageSpec { image: image.to_owned(), ..ImageSpec::default() }
}

/// Writes into a file, so that it can be read again.
pub fn out(node: &Node, name: &str) -> (PathBuf, std::fs::File) {
    let path = node.dir.path().join(name);
    let file = std::fs::File::create(&path).unwrap();
    (path, file)
}
