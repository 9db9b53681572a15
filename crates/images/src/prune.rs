//! Frees what nobody needs, when somebody asks for it.

use std::time::{Duration, Instant};

use image_store::Collected;
use model::Digest;

use crate::{Images, ImagesError};

const SLICE: usize = 16;

/// Which images may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prune {
    /// Those without a name by tag.
    Untagged,
    /// All.
    All,
}

/// What was freed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Images that are gone, with the names that they had.
    pub images: Vec<(Digest, Vec<String>)>,
    /// Bytes of disk.
    pub bytes: u64,
}

impl Images {
    /// Removes images that no container uses and that are not pinned, layers that no image has, and
    /// blobs that came in part.
    ///
    /// # Errors
    /// [`ImagesError::Store`].
    pub async fn prune(&self, which: Prune) -> Result<Pruned, ImagesError> {
        let (begun, mut sum) = (Instant::now(), Collected::default());
        let before = self.fs_info().await?.images.used.bytes;
        let mut pruned = Pruned::default();
        for image in self.inner.store.images() {
            let is_named = which == Prune::Untagged && !image.repo_tags.is_empty();
            if is_named || image.pinned || self.inner.store.is_used(&image) {
                continue;
            }
            let id = image.id.clone();
            let removed = self.blocking(move |store| store.remove_image(&id)).await?;
            if let Some(removed) = removed {
                sum.layers += removed.layers_freed;
                let names = image.repo_tags.into_iter().chain(image.repo_digests).collect();
                pruned.images.push((image.id, names));
            }
        }
        loop {
            let slice = self.blocking(|store| store.collect_older(Duration::ZERO, SLICE)).await?;
            sum.add(&slice);
            if !slice.more {
                break;
            }
            tokio::task::yield_now().await;
        }
        let partial = self.blocking(|store| store.sweep_partial(true)).await?;
        self.inner.done.collected(&sum, begun.elapsed());
        let after = self.fs_info().await?.images.used.bytes;
        pruned.bytes = before.saturating_sub(after).saturating_add(partial);
        Ok(pruned)
    }
}
