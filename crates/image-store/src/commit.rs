//! An image is recorded, then named.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use model::Digest;
use oci_image::{Hasher, ImageConfig, chain_ids};
use rustix::fs::{Mode, OFlags, openat};

use crate::error::{ImageStoreError, at};
use crate::layout::{self, FS, IMPLIED};
use crate::merged::MergedDir;
use crate::names::ImageName;
use crate::pending::Pending;
use crate::records::{self, ImageRecord, LayerRecord, NameRecord};
use crate::settle::settle;
use crate::steps::Step;
use crate::store::{ImageStore, Inner};
use crate::tables::ImageEntry;
use crate::types::{Image, NewImage, RawImage};

impl ImageStore {
    /// Records an image whose layers are here, then its names, each of which leaves the image that
    /// had it. For an image that is here already, the names are added.
    ///
    /// # Errors
    /// [`ImageStoreError::BadConfig`] for texts that are not what their digests say;
    /// [`ImageStoreError::NoLayer`]; what cannot be written.
    pub fn commit_image(
        &self,
        new: NewImage,
        names: &[ImageName],
    ) -> Result<Image, ImageStoreError> {
        let inner = &self.inner;
        let config = check(&new)?;
        let id = new.config_digest.clone();
        inner.tables().use_layers(&new.layers).map_err(|chain_id| ImageStoreError::NoLayer {
            chain_id,
            needed_by: format!("image {id}"),
        })?;
        // From here on the uses must be given back unless the image takes them.
        let layers = new.layers.clone();
        let committed = inner.settle_all(&layers).and_then(|()| {
            let _writer = inner.writer();
            if inner.tables().has_image(&id) { Ok(false) } else { inner.record(new, config) }
        });
        if !matches!(committed, Ok(true)) {
            let _idle = inner.tables().unuse_layers(&layers, Instant::now());
        }
        if let Err(error) = &committed {
            inner.make_room(error);
        }
        committed?;
        for name in names {
            inner.name(name, &id)?;
        }
        self.image(&id)
    }

    /// Gives an image one more name; the name leaves the image that had it.
    ///
    /// # Errors
    /// [`ImageStoreError::NoImage`]; what cannot be written.
    pub fn tag(&self, name: &ImageName, id: &Digest) -> Result<Image, ImageStoreError> {
        self.inner.name(name, id)?;
        self.image(id)
    }

    /// Takes a name away. An image that has no name left stays until it is removed by id.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn untag(&self, name: &ImageName) -> Result<(), ImageStoreError> {
        let _writer = self.inner.writer();
        self.inner.forget_name(name)
    }

    /// An image's manifest and configuration as they were hashed.
    ///
    /// # Errors
    /// [`ImageStoreError::NoImage`]; what cannot be read.
    pub fn raw(&self, id: &Digest) -> Result<RawImage, ImageStoreError> {
        let record: Option<ImageRecord> =
            self.inner.image_records.get(&records::key(id)).map_err(record("read", id.as_str()))?;
        let record = record.ok_or_else(|| ImageStoreError::NoImage { given: id.to_string() })?;
        Ok(RawImage {
            manifest_digest: record.manifest_digest,
            index_digest: record.index_digest,
            manifest: record.manifest.into_bytes(),
            config: record.config.into_bytes(),
        })
    }

    fn image(&self, id: &Digest) -> Result<Image, ImageStoreError> {
        // It may be removed again at any moment.
        self.inner
            .tables()
            .image(id)
            .ok_or_else(|| ImageStoreError::NoImage { given: id.to_string() })
    }
}

/// The configuration, if the texts are what their digests say and it has the image's layers.
fn check(new: &NewImage) -> Result<ImageConfig, ImageStoreError> {
    let bad = |reason: String| ImageStoreError::BadConfig { id: new.config_digest.clone(), reason };
    for (what, bytes, digest) in [
        ("configuration", &new.config, &new.config_digest),
        ("manifest", &new.manifest, &new.manifest_digest),
    ] {
        let mut hasher = Hasher::like(digest);
        hasher.update(bytes);
        let found = hasher.finish();
        if found != *digest {
            return Err(bad(format!("its {what} has the digest {found}, not {digest}")));
        }
        if std::str::from_utf8(bytes).is_err() {
            return Err(bad(format!("its {what} is not UTF-8")));
        }
    }
    let config = ImageConfig::parse(&new.config).map_err(|e| bad(e.to_string()))?;
    if chain_ids(&config.diff_ids) != new.layers {
        return Err(bad("its layers are not those of its configuration".to_owned()));
    }
    Ok(config)
}

/// Turns an error of the records into ours.
pub(crate) fn record(
    action: &'static str,
    object: impl Into<String>,
) -> impl FnOnce(store::StoreError) -> ImageStoreError {
    let object = object.into();
    move |source| ImageStoreError::Record { action, object, source }
}

impl Inner {
    /// Writes the image's record and lists it. The caller is the writer.
    fn record(&self, new: NewImage, config: ImageConfig) -> Result<bool, ImageStoreError> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let id = new.config_digest;
        let created = layout::now();
        let image = ImageRecord {
            id: id.clone(),
            manifest_digest: new.manifest_digest,
            manifest_media_type: new.manifest_media_type,
            index_digest: new.index_digest,
            manifest: text(new.manifest),
            config: text(new.config),
            layers: new.layers,
            size: new.size,
            created: created.0,
        };
        self.step(Step::RecordImage, "record an image in", self.layout.root.clone())?;
        self.image_records
            .put(&records::key(&id), &image)
            .map_err(record("record image", id.as_str()))?;
        let entry = ImageEntry {
            config: Arc::new(config),
            layers: image.layers,
            size: image.size,
            created,
        };
        self.tables().insert_image(id, entry);
        Ok(true)
    }

    fn name(&self, name: &ImageName, id: &Digest) -> Result<(), ImageStoreError> {
        let _writer = self.writer();
        {
            let tables = self.tables();
            if !tables.has_image(id) {
                return Err(ImageStoreError::NoImage { given: id.to_string() });
            }
            if tables.named(name) == Some(id) {
                return Ok(());
            }
        }
        self.step(Step::RecordName, "record a name in", self.layout.root.clone())?;
        let named = NameRecord { name: name.clone(), image: id.clone() };
        self.name_records
            .put(&records::name_key(name), &named)
            .map_err(record("record the name", name.as_str()))?;
        self.tables().insert_name(name.clone(), id.clone());
        Ok(())
    }

    /// Removes a name. The caller is the writer.
    pub fn forget_name(&self, name: &ImageName) -> Result<(), ImageStoreError> {
        self.step(Step::ForgetName, "remove a name from", self.layout.root.clone())?;
        self.name_records
            .remove(&records::name_key(name))
            .map_err(record("remove the name", name.as_str()))?;
        self.tables().remove_name(name);
        Ok(())
    }

    /// Settles the layers of an image from the lowest up.
    fn settle_all(&self, layers: &[Digest]) -> Result<(), ImageStoreError> {
        for (i, chain_id) in layers.iter().enumerate() {
            let _turn = self.chains.take(chain_id);
            let info = match self.tables().layer(chain_id) {
                Some(layer) if layer.is_settled => continue,
                Some(layer) => layer.info.clone(),
                None => continue,
            };
            self.step(Step::Settle, "settle layers of", self.layout.root.clone())?;
            self.settle_one(chain_id, &layers[..i])?;
            self.layer_records
                .put(&records::key(chain_id), &LayerRecord::new(&info, true))
                .map_err(record("record layer", chain_id.as_str()))?;
            self.tables().settle_layer(chain_id);
        }
        Ok(())
    }

    fn settle_one(&self, chain_id: &Digest, below: &[Digest]) -> Result<(), ImageStoreError> {
        let path = self.layout.root.join("layers").join(chain_id.hex());
        let dir =
            layout::open_dir(&self.layout.layers_fd, chain_id.hex()).map_err(at("open", path))?;
        self.settle_dir(&dir, chain_id, below)
    }

    /// Settles the layer in the directory `dir`, which may have no place yet.
    pub(crate) fn settle_dir(
        &self,
        dir: &OwnedFd,
        chain_id: &Digest,
        below: &[Digest],
    ) -> Result<(), ImageStoreError> {
        let path = self.layout.root.join("layers").join(chain_id.hex());
        let fail = |e: rustix::io::Errno| at("open", path.clone())(e);
        let own = layout::open_dir(dir, FS).map_err(fail)?;
        let list = openat(dir, IMPLIED, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let mut bytes = Vec::new();
        list.map_err(std::io::Error::from)
            .and_then(|fd| std::fs::File::from(fd).read_to_end(&mut bytes))
            .map_err(at("read", path.join(IMPLIED)))?;
        let pending = Pending::from_bytes(&bytes).ok_or_else(|| {
            at("read", path.join(IMPLIED))(std::io::Error::from(std::io::ErrorKind::InvalidData))
        })?;
        let roots: Vec<_> = below.iter().rev().map(|c| self.layout.layer_fs(c)).collect();
        let below = MergedDir::open(&roots).map_err(|(path, e)| at("open", path)(e))?;
        settle(&own, &below, &pending).map_err(at("settle the layer", path))
    }
}
