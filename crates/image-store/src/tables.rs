//! What is in the store, in memory. Pure: no I/O and no clock but the one that is passed in.
//!
//! Always: the uses of a layer are as many as images, containers and holders name it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{ContainerId, Digest, Timestamp};
use oci_image::ImageConfig;

use crate::names::{ImageName, Pattern};
use crate::types::{Image, LayerInfo, Measured, Usage};

#[derive(Debug)]
pub(crate) struct LayerEntry {
    pub info: LayerInfo,
    pub is_settled: bool,
    /// Its files are lost: it is no layer any more, but its uses are still given back one by one.
    is_lost: bool,
    uses: u32,
    idle_since: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct ImageEntry {
    pub config: Arc<ImageConfig>,
    pub layers: Vec<Digest>,
    pub size: u64,
    pub created: Timestamp,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct ContainerEntry {
    pub root: Option<Vec<Digest>>,
    pub volumes: Vec<Digest>,
    pub measured: Option<Measured>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    layers: HashMap<Digest, LayerEntry>,
    images: BTreeMap<Digest, ImageEntry>,
    names: BTreeMap<ImageName, Digest>,
    containers: BTreeMap<ContainerId, ContainerEntry>,
    /// Blobs that are kept, with their sizes.
    kept: HashMap<Digest, u64>,
    pub pinned: Vec<Pattern>,
}

impl Tables {
    pub fn layer(&self, chain_id: &Digest) -> Option<&LayerEntry> {
        self.layers.get(chain_id).filter(|l| !l.is_lost)
    }

    /// Chain ids of all layers, sorted.
    pub fn layer_ids(&self) -> Vec<Digest> {
        let there = self.layers.iter().filter(|(_, l)| !l.is_lost);
        let mut ids: Vec<_> = there.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Adds a layer with no use yet, or replaces what is known of it.
    pub fn insert_layer(&mut self, info: LayerInfo, is_settled: bool, now: Instant) {
        let uses = self.layers.get(&info.chain_id).map_or(0, |l| l.uses);
        let entry = LayerEntry { info, is_settled, is_lost: false, uses, idle_since: now };
        self.layers.insert(entry.info.chain_id.clone(), entry);
    }

    pub fn settle_layer(&mut self, chain_id: &Digest) {
        if let Some(layer) = self.layers.get_mut(chain_id) {
            layer.is_settled = true;
        }
    }

    /// The layer's files are lost. From now on it is not here; one that is brought again takes its place.
    pub fn lose_layer(&mut self, chain_id: &Digest) {
        if let Some(layer) = self.layers.get_mut(chain_id) {
            layer.is_lost = true;
        }
    }

    /// Remembers that a blob is kept.
    pub fn keep_blob(&mut self, digest: Digest, size: u64) {
        self.kept.insert(digest, size);
    }

    /// The size of a blob that is kept.
    pub fn kept_size(&self, digest: &Digest) -> Option<u64> {
        self.kept.get(digest).copied()
    }

    /// Forgets a kept blob that no layer was unpacked from; whether there was one.
    pub fn take_orphaned_blob(&mut self, digest: &Digest) -> bool {
        self.layers.values().all(|l| l.info.blob != *digest) && self.kept.remove(digest).is_some()
    }

    /// Blobs that layers were unpacked from.
    pub fn blobs(&self) -> Vec<Digest> {
        self.layers.values().map(|l| l.info.blob.clone()).collect()
    }

    /// Whether a container has an image of these layers.
    pub fn is_image_used(&self, layers: &[Digest]) -> bool {
        self.containers.values().any(|c| {
            let in_volumes = !layers.is_empty() && layers.iter().all(|l| c.volumes.contains(l));
            in_volumes || c.root.as_deref() == Some(layers)
        })
    }

    /// Whether the root or a volume of a container has the layer.
    pub fn is_used_by_container(&self, chain_id: &Digest) -> bool {
        self.containers.values().any(|c| {
            c.volumes.contains(chain_id) || c.root.as_ref().is_some_and(|r| r.contains(chain_id))
        })
    }

    /// One more use of each of `chain_ids`: of all, or of none when one is missing, which is returned.
    pub fn use_layers(&mut self, chain_ids: &[Digest]) -> Result<(), Digest> {
        if let Some(missing) = chain_ids.iter().find(|c| self.layer(c).is_none()) {
            return Err(missing.clone());
        }
        for chain_id in chain_ids {
            if let Some(layer) = self.layers.get_mut(chain_id) {
                layer.uses += 1;
            }
        }
        Ok(())
    }

    /// One use less of each; those that nobody uses now are returned.
    pub fn unuse_layers(&mut self, chain_ids: &[Digest], now: Instant) -> Vec<Digest> {
        let mut idle = Vec::new();
        for chain_id in chain_ids {
            let Some(layer) = self.layers.get_mut(chain_id) else { continue };
            layer.uses = layer.uses.saturating_sub(1);
            if layer.uses == 0 {
                layer.idle_since = now;
                idle.push(chain_id.clone());
            }
        }
        idle
    }

    /// Takes the layer out if nobody uses it.
    pub fn take_idle(&mut self, chain_id: &Digest) -> Option<LayerInfo> {
        if self.layers.get(chain_id)?.uses > 0 {
            return None;
        }
        self.layers.remove(chain_id).map(|l| l.info)
    }

    /// At most `most` layers that nobody has used for `keep`.
    pub fn idle_layers(&self, keep: Duration, now: Instant, most: usize) -> Vec<Digest> {
        self.layers
            .values()
            .filter(|l| l.uses == 0 && now.saturating_duration_since(l.idle_since) >= keep)
            .take(most)
            .map(|l| l.info.chain_id.clone())
            .collect()
    }

    pub fn has_image(&self, id: &Digest) -> bool {
        self.images.contains_key(id)
    }

    pub fn insert_image(&mut self, id: Digest, entry: ImageEntry) {
        self.images.insert(id, entry);
    }

    pub fn remove_image(&mut self, id: &Digest) -> Option<ImageEntry> {
        self.images.remove(id)
    }

    pub fn insert_name(&mut self, name: ImageName, id: Digest) {
        self.names.insert(name, id);
    }

    pub fn remove_name(&mut self, name: &ImageName) {
        self.names.remove(name);
    }

    pub fn named(&self, name: &ImageName) -> Option<&Digest> {
        self.names.get(name)
    }

    pub fn names_of(&self, id: &Digest) -> Vec<ImageName> {
        self.names.iter().filter(|(_, i)| *i == id).map(|(n, _)| n.clone()).collect()
    }

    /// The image as callers see it.
    pub fn image(&self, id: &Digest) -> Option<Image> {
        let entry = self.images.get(id)?;
        Some(self.assemble(id, entry, &self.names_of(id)))
    }

    pub fn all_images(&self) -> Vec<Image> {
        // One pass over the names for all images: there may be thousands of either.
        let mut names: HashMap<&Digest, Vec<ImageName>> = HashMap::new();
        for (name, id) in &self.names {
            names.entry(id).or_default().push(name.clone());
        }
        self.images
            .iter()
            .map(|(id, entry)| self.assemble(id, entry, names.get(id).map_or(&[], Vec::as_slice)))
            .collect()
    }

    /// Images that have the layer.
    pub fn images_with(&self, chain_id: &Digest) -> Vec<Digest> {
        self.images
            .iter()
            .filter(|(_, entry)| entry.layers.contains(chain_id))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Ids that begin with `prefix` in their digits.
    pub fn ids_from(&self, prefix: &str) -> Vec<&Digest> {
        self.images.keys().filter(|id| id.hex().starts_with(prefix)).collect()
    }

    fn assemble(&self, id: &Digest, entry: &ImageEntry, names: &[ImageName]) -> Image {
        let texts = |by_digest: bool| {
            let fits = names.iter().filter(|n| n.is_by_digest() == by_digest);
            fits.map(|n| n.as_str().to_owned()).collect()
        };
        Image {
            id: id.clone(),
            repo_tags: texts(false),
            repo_digests: texts(true),
            size: entry.size,
            config: Arc::clone(&entry.config),
            layers: entry.layers.clone(),
            pinned: names.iter().any(|n| self.pinned.iter().any(|p| p.matches(n))),
            created: entry.created,
        }
    }

    pub fn container(&self, id: &ContainerId) -> Option<&ContainerEntry> {
        self.containers.get(id)
    }

    pub fn container_mut(&mut self, id: &ContainerId) -> &mut ContainerEntry {
        self.containers.entry(id.clone()).or_default()
    }

    pub fn measured(&mut self, id: &ContainerId, measured: Measured) {
        if let Some(container) = self.containers.get_mut(id) {
            container.measured = Some(measured);
        }
    }

    pub fn measurable(&self, only_new: bool) -> Vec<ContainerId> {
        let wanted = |(_, c): &(&ContainerId, &ContainerEntry)| !only_new || c.measured.is_none();
        self.containers.iter().filter(wanted).map(|(id, _)| id.clone()).collect()
    }

    /// Forgets a container; layers that nobody uses now are returned.
    pub fn remove_container(&mut self, id: &ContainerId, now: Instant) -> Vec<Digest> {
        let Some(entry) = self.containers.remove(id) else { return Vec::new() };
        let mut idle = self.unuse_layers(&entry.root.unwrap_or_default(), now);
        idle.extend(self.unuse_layers(&entry.volumes, now));
        idle
    }

    pub fn container_ids(&self) -> impl Iterator<Item = &ContainerId> {
        self.containers.keys()
    }

    /// What all layers and kept blobs take.
    pub fn layers_usage(&self) -> Usage {
        let mut sum = Usage::default();
        for layer in self.layers.values().filter(|l| !l.is_lost) {
            sum += layer.info.usage;
        }
        for size in self.kept.values() {
            sum += Usage { bytes: *size, inodes: 1 };
        }
        sum
    }

    /// What all writable directories took when they were last measured.
    pub fn containers_usage(&self) -> Usage {
        let mut sum = Usage::default();
        for measured in self.containers.values().filter_map(|c| c.measured) {
            sum += measured.usage;
        }
        sum
    }
}
