//! OCI images: references, manifests, configurations, layer and whiteout rules.
//!
//! Owns: what the bytes of an image mean. References follow Docker's normalisation; manifests,
//! indexes, configurations and layouts follow the OCI image specification 1.1 and Docker's image
//! manifest version 2, schema 2.
//! Always: no I/O. Every document is untrusted: its size is bounded, a JSON object never has the
//! same key twice, and a document that two readers could understand differently is refused.
//! Callers: `registry`, `trust`, `image-store`, `images`, `specgen`, `pods`.

mod config;
mod descriptor;
mod hash;
mod json;
mod layer;
mod layout;
mod manifest;
mod media_type;
mod platform;
mod reference;

pub use config::{BadConfig, ImageConfig, MAX_CONFIG};
pub use descriptor::Descriptor;
pub use hash::{Hasher, sha256};
pub use json::strict as strict_json;
pub use layer::{BadLayerPath, LayerEntry, OPAQUE_MARKER, WHITEOUT_PREFIX, chain_ids, layer_entry};
pub use layout::{
    ANNOTATION_FULL_NAME, ANNOTATION_REF_NAME, ArchiveImage, BadLayout, DOCKER_MANIFEST_FILE,
    LAYOUT_INDEX_FILE, LAYOUT_MARKER, LAYOUT_MARKER_FILE, blob_path, check_layout_marker,
    docker_archive_to_json, parse_docker_archive,
};
pub use manifest::{
    BadManifest, ImageManifest, Index, MAX_INDEX, MAX_LAYERS, MAX_MANIFEST, Manifest,
};
pub use media_type::{
    Compression, DocumentKind, MANIFEST_TYPES, UnsupportedLayer, UnsupportedReason, document_kind,
    is_image_config, layer_compression, types,
};
pub use platform::Platform;
pub use reference::{BadReference, MAX_NAME, MAX_TAG, Reference, shown};
