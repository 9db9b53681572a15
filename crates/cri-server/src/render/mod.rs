//! Values of `model`, `pods` and `images` become messages of the wire.
//!
//! Owns: what a caller sees of an object. Always: pure; environment values and credentials are in none of
//! it. Callers: the handlers of this crate.

mod container;
mod image;
mod namespaces;
mod resources;
mod sandbox;
pub(crate) mod stats;

pub(crate) use container::{container_info, container_item, container_status};
pub(crate) use image::{filesystem, image, image_info};
pub(crate) use sandbox::{sandbox_info, sandbox_item, sandbox_status};

use model::Span;

/// Where the time went, for people.
fn spans(spans: &[Span]) -> serde_json::Value {
    serde_json::to_value(spans).unwrap_or_default()
}
