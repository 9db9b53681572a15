//! Opens the store: what is whole is listed, what is not is put right or aside, and reported.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use model::{ContainerId, Timestamp};
use oci_image::ImageConfig;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat};
use rustix::io::Errno;
use store::{Durability, Key, Loaded, Record, Store};

use crate::blobs;
use crate::error::{ImageStoreError, at};
use crate::layout::{self, FORMAT, FS, Layout};
use crate::options::Options;
use crate::quotas::Quotas;
use crate::records::{self, ContainerRecord, ImageRecord, LayerRecord, NameRecord};
use crate::store::{ImageStore, Opened};
use crate::sync::Syncer;
use crate::tables::{ImageEntry, Tables};
use crate::trash::{Area, trash};
use crate::types::Finding;

impl ImageStore {
    /// Opens the store in `root`, which is made if it is missing. What a dead daemon left behind is
    /// moved to the trash; [`ImageStore::collect`] deletes it later, so that opening is quick.
    ///
    /// # Errors
    /// [`ImageStoreError::Locked`] while another process has it; [`ImageStoreError::Format`]; what
    /// cannot be read or made. A bad record or a missing layer is no error but a finding.
    pub fn open(root: &Path, options: Options) -> Result<Self, ImageStoreError> {
        let layout = Layout::open(root, options.containers.as_deref())?;
        let lock = lock(&layout)?;
        check_format(&layout)?;
        layout::ensure_dir(&layout.root_fd, "empty").map_err(at("make", layout.empty()))?;
        let open = |kind: &'static str, durability| {
            let path = layout.records(kind);
            Store::open(&path, durability).map_err(|source| ImageStoreError::Record {
                action: "open the records of",
                object: kind.to_owned(),
                source,
            })
        };
        let sync_fd = layout.root_fd.try_clone().map_err(at("open", layout.root.clone()))?;
        let mut tables = Tables::default();
        tables.pinned.clone_from(&options.pinned);
        let mut opening = Opening {
            layer_records: open("layers", Durability::Disk)?,
            image_records: open("images", Durability::Disk)?,
            name_records: open("names", Durability::Disk)?,
            // Containers do not outlive the machine, so neither must this.
            container_records: open("containers", Durability::Boot)?,
            layout,
            options,
            findings: Vec::new(),
        };
        opening.sweep_staging()?;
        opening.load_layers(&mut tables)?;
        opening.load_images(&mut tables)?;
        opening.load_names(&mut tables)?;
        opening.load_containers(&mut tables)?;
        let kept = blobs::load(&opening.layout, tables.blobs().into_iter());
        for (digest, size) in kept.map_err(at("read", opening.layout.root.join("blobs")))? {
            tables.keep_blob(digest, size);
        }
        let range = opening.options.projects.clone();
        let quotas = Quotas::open(&opening.layout, range, &mut opening.findings)?;
        for finding in &opening.findings {
            tracing::warn!(object = %finding.object, problem = %finding.problem, "image store");
        }
        Ok(Self::assemble(Opened {
            layout: opening.layout,
            options: opening.options,
            layer_records: opening.layer_records,
            image_records: opening.image_records,
            name_records: opening.name_records,
            container_records: opening.container_records,
            syncer: Syncer::new(sync_fd),
            tables,
            quotas,
            findings: opening.findings,
            lock,
        }))
    }
}

fn lock(layout: &Layout) -> Result<OwnedFd, ImageStoreError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path = layout.root.join("lock");
    let fd = openat(&layout.root_fd, "lock", flags, Mode::RUSR | Mode::WUSR)
        .map_err(at("open", path.clone()))?;
    match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(fd),
        Err(Errno::WOULDBLOCK) => Err(ImageStoreError::Locked { path: layout.root.clone() }),
        Err(e) => Err(at("lock", path)(e)),
    }
}

fn check_format(layout: &Layout) -> Result<(), ImageStoreError> {
    let path = layout.root.join("format");
    match std::fs::read_to_string(&path) {
        Ok(text) if text.trim_end() == FORMAT => Ok(()),
        // An empty file is what a crash leaves of the very first opening.
        Ok(text) if !text.is_empty() => Err(ImageStoreError::Format {
            path: layout.root.clone(),
            found: text.chars().take(80).collect(),
            known: FORMAT,
        }),
        Ok(_) => std::fs::write(&path, format!("{FORMAT}\n")).map_err(at("write", path)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::write(&path, format!("{FORMAT}\n")).map_err(at("write", path))
        }
        Err(e) => Err(at("read", path)(e)),
    }
}

struct Opening {
    layout: Layout,
    options: Options,
    layer_records: Store,
    image_records: Store,
    name_records: Store,
    container_records: Store,
    findings: Vec<Finding>,
}

impl Opening {
    fn found(&mut self, object: impl Into<String>, problem: impl Into<String>) {
        self.findings.push(Finding { object: object.into(), problem: problem.into() });
    }

    /// Everything in the staging directory is somebody's who died.
    fn sweep_staging(&mut self) -> Result<(), ImageStoreError> {
        let names = layout::names(&self.layout.staging_fd)
            .map_err(at("read", self.layout.root.join("staging")))?;
        for name in names {
            self.to_trash(&name, Where::Staging)?;
        }
        Ok(())
    }

    fn to_trash(&self, name: &OsStr, place: Where) -> Result<(), ImageStoreError> {
        let from = match place {
            Where::Staging => &self.layout.staging_fd,
            Where::Layers => &self.layout.layers_fd,
        };
        trash(&self.layout, &*self.options.steps, Area::Images, from, name).map(drop)
    }

    /// Reads a directory of records and reports the bad ones.
    fn load<R: Record>(&mut self, which: &Which) -> Result<Vec<(Key, R)>, ImageStoreError> {
        let store = match which {
            Which::Layers => &self.layer_records,
            Which::Images => &self.image_records,
            Which::Names => &self.name_records,
            Which::Containers => &self.container_records,
        };
        let loaded: Loaded<R> = store.load_all().map_err(|source| ImageStoreError::Record {
            action: "read the records of",
            object: R::KIND.to_owned(),
            source,
        })?;
        for bad in loaded.quarantined {
            let problem = format!("{}; moved to {}", bad.reason, bad.moved_to.display());
            self.found(format!("{} record {}", R::KIND, bad.name), problem);
        }
        Ok(loaded.records)
    }

    fn drop_record(store: &Store, key: &Key) -> Result<(), ImageStoreError> {
        store.remove(key).map_err(|source| ImageStoreError::Record {
            action: "remove the record",
            object: key.to_string(),
            source,
        })
    }

    fn load_layers(&mut self, tables: &mut Tables) -> Result<(), ImageStoreError> {
        let mut orphans: BTreeSet<OsString> = layout::names(&self.layout.layers_fd)
            .map_err(at("read", self.layout.root.join("layers")))?
            .into_iter()
            .collect();
        let now = Instant::now();
        for (key, record) in self.load::<LayerRecord>(&Which::Layers)? {
            let is_whole = key == records::key(&record.chain_id)
                && orphans.contains(OsStr::new(key.as_str()))
                && self.has_files(key.as_str());
            if is_whole {
                orphans.remove(OsStr::new(key.as_str()));
                tables.insert_layer(record.info(), record.is_settled, now);
            } else {
                self.found(format!("layer {}", record.chain_id), "its files are gone; forgotten");
                Self::drop_record(&self.layer_records, &key)?;
            }
        }
        for name in orphans {
            self.to_trash(&name, Where::Layers)?;
        }
        Ok(())
    }

    fn has_files(&self, hex: &str) -> bool {
        layout::open_dir(&self.layout.layers_fd, hex)
            .and_then(|fd| layout::open_dir(&fd, FS))
            .is_ok()
    }

    fn load_images(&mut self, tables: &mut Tables) -> Result<(), ImageStoreError> {
        for (key, record) in self.load::<ImageRecord>(&Which::Images)? {
            let config = ImageConfig::parse(record.config.as_bytes());
            let problem = match &config {
                Err(e) => Some(format!("its configuration is bad: {e}")),
                Ok(_) if key != records::key(&record.id) => Some("its key is another's".to_owned()),
                Ok(_) => tables
                    .use_layers(&record.layers)
                    .err()
                    .map(|missing| format!("its layer {missing} is gone")),
            };
            match (config, problem) {
                (Ok(config), None) => tables.insert_image(
                    record.id,
                    ImageEntry {
                        config: Arc::new(config),
                        layers: record.layers,
                        size: record.size,
                        created: Timestamp(record.created),
                    },
                ),
                (_, problem) => {
                    let problem = problem.unwrap_or_default();
                    self.found(
                        format!("image {}", record.id),
                        format!("{problem}; forgotten, pull it again"),
                    );
                    Self::drop_record(&self.image_records, &key)?;
                }
            }
        }
        Ok(())
    }

    fn load_names(&mut self, tables: &mut Tables) -> Result<(), ImageStoreError> {
        for (key, record) in self.load::<NameRecord>(&Which::Names)? {
            if tables.has_image(&record.image) && key == records::name_key(&record.name) {
                tables.insert_name(record.name, record.image);
            } else {
                self.found(
                    format!("name {}", record.name),
                    format!("image {} is not here; forgotten", record.image),
                );
                Self::drop_record(&self.name_records, &key)?;
            }
        }
        Ok(())
    }

    fn load_containers(&mut self, tables: &mut Tables) -> Result<(), ImageStoreError> {
        for (_, record) in self.load::<ContainerRecord>(&Which::Containers)? {
            let id: ContainerId = record.container;
            // Layers may be gone after a crash; the container that had them is gone too.
            let root = record.root.filter(|layers| tables.use_layers(layers).is_ok());
            let volumes: Vec<_> = record
                .volumes
                .into_iter()
                .filter(|l| tables.use_layers(std::slice::from_ref(l)).is_ok())
                .collect();
            let entry = tables.container_mut(&id);
            entry.root = root;
            entry.volumes = volumes;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Where {
    Staging,
    Layers,
}

enum Which {
    Layers,
    Images,
    Names,
    Containers,
}
