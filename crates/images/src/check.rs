//! Whether what is here is still what was pulled.

use image_store::{Condemned, LayerCheck};

use crate::{Images, ImagesError};

/// What is done about a layer that is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Nothing; it is reported.
    None,
    /// It is given up with the images that have it, so that the next pull fetches it anew.
    GiveUp,
}

/// A damaged layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What is wrong with it.
    pub found: LayerCheck,
    /// What came of giving it up, if it was.
    pub condemned: Option<Condemned>,
}

/// What checking all layers found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checked {
    /// Layers that were read.
    pub layers: usize,
    /// Files that were compared.
    pub files: usize,
    /// Layers that are not what was pulled.
    pub damaged: Vec<Damage>,
}

impl Images {
    /// Reads every layer and compares its files with the checksums that were taken when they were
    /// unpacked, one layer after the other.
    ///
    /// # Errors
    /// [`ImagesError::Store`] when the disk fails.
    pub async fn check(&self, repair: Repair) -> Result<Checked, ImagesError> {
        let mut checked = Checked::default();
        for chain_id in self.inner.store.layers() {
            let Some(found) = self.blocking(move |store| store.check_layer(&chain_id)).await?
            else {
                continue;
            };
            checked.layers += 1;
            checked.files += found.files;
            if found.is_good() {
                continue;
            }
            let chain_id = found.chain_id.clone();
            let condemned = match repair {
                Repair::None => None,
                Repair::GiveUp => {
                    Some(self.blocking(move |store| store.condemn_layer(&chain_id)).await?)
                }
            };
            checked.damaged.push(Damage { found, condemned });
        }
        Ok(checked)
    }
}
