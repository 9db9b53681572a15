//! Images, made on the spot, and the registry that they are had from.
//!
//! Always: what a case pulls has an id that no other image has, on this node or elsewhere, so that
//! cases can run side by side and remove what they pulled.

mod archive;
mod image;
mod layer;
mod push;
mod registry;

pub(crate) use archive::docker_save;
pub(crate) use image::{Image, Index};
pub(crate) use layer::{Compression, Layer};
pub(crate) use push::push;
pub(crate) use registry::{Mood, PASSWORD, Registry, TOKEN, USER};
