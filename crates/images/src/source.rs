//! Where the parts of an image come from: a directory of this node, or registries.

use std::path::PathBuf;

use image_store::{Check, Form, HeldLayer, ImageStoreError};
use model::{Class, Classified as _};
use oci_image::{Descriptor, MAX_CONFIG, MAX_MANIFEST, Manifest, Reference};
use registry::Credentials;

use crate::layout::Layout;
use crate::manifest::unusable;
use crate::{Images, ImagesError};

/// What the node's configuration says about where images come from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// OCI layouts that are looked into before any registry. They are only read.
    pub preloaded: Vec<PathBuf>,
    /// The file that says what may be pulled; everything where there is none.
    pub policy: Option<PathBuf>,
}

/// Whose pull it is, and from where.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub reference: Reference,
    pub credentials: Option<Credentials>,
    /// The directory that has the image; a registry where none has.
    pub layout: Option<Layout>,
}

/// What a name leads to.
#[derive(Debug, Clone)]
pub(crate) struct Top {
    pub descriptor: Descriptor,
    pub bytes: Vec<u8>,
}

/// A layer that came, and whether it was the one that was announced.
pub(crate) type Brought = Result<HeldLayer, ImageStoreError>;

impl Images {
    /// What `reference` means at its registry; `None` where the registry says that it has no such thing.
    pub(crate) async fn top(
        &self,
        origin: &Origin,
        reference: &Reference,
    ) -> Result<Option<Top>, ImagesError> {
        let given = origin.credentials.as_ref();
        match self.inner.registry.resolve(reference, given).await {
            Ok(found) => {
                let size = found.bytes.len() as u64;
                let descriptor = Descriptor::new(&found.media_type, found.digest, size);
                Ok(Some(Top { descriptor, bytes: found.bytes.to_vec() }))
            }
            Err(e) if e.class() == Class::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// A manifest or index, verified.
    pub(crate) async fn document(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, ImagesError> {
        if let Some(layout) = &origin.layout {
            return layout.bytes(descriptor.clone(), MAX_MANIFEST).await;
        }
        let (registry, given) = (&self.inner.registry, origin.credentials.as_ref());
        Ok(registry.manifest(&origin.reference, descriptor, given).await?.to_vec())
    }

    /// A small blob, verified.
    pub(crate) async fn small(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Vec<u8>, ImagesError> {
        if descriptor.size > limit {
            return Err(ImagesError::Unusable {
                object: origin.reference.to_string(),
                problem: format!("{} has {} bytes", descriptor.digest, descriptor.size),
                class: Class::ResourceExhausted,
            });
        }
        if let Some(layout) = &origin.layout {
            return layout.bytes(descriptor.clone(), limit).await;
        }
        let (registry, given) = (&self.inner.registry, origin.credentials.as_ref());
        Ok(registry.small_blob(&origin.reference, descriptor, limit, given).await?.to_vec())
    }

    /// An image's configuration, verified.
    pub(crate) async fn config_of(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, ImagesError> {
        match self.inner.store.find(descriptor.digest.as_str())? {
            // The same image by another manifest: its configuration is here.
            Some(image) => Ok(self.blocking(move |store| store.raw(&image.id)).await?.config),
            None => self.small(origin, descriptor, MAX_CONFIG).await,
        }
    }

    pub(crate) fn parse_document(
        object: &str,
        bytes: &[u8],
        media_type: &str,
    ) -> Result<Manifest, ImagesError> {
        let announced = Some(media_type).filter(|t| !t.is_empty());
        Manifest::parse(bytes, announced).map_err(|e| unusable(object, &e))
    }
}

/// A layer's form, hashed by the store.
pub(crate) const fn checked_here(form: &Form) -> (&Form, Check) {
    (form, Check::Here)
}
