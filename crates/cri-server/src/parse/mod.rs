//! Requests from the wire become values of `model`; what is not allowed ends here.
//!
//! Owns: every rule of the CRI about single fields and about fields that contradict each other.
//! Always: pure; nothing is touched; an error names the field as the .proto spells it, and the value as
//! it was given, unless the value may be a secret.
//! Callers: the handlers of this crate.

mod at;
mod container;
mod filter;
mod ids;
mod image;
mod mounts;
mod namespaces;
mod network;
mod resources;
mod sandbox;
mod security;
mod text;

use cri_api::v1;
use model::{ContainerConfig, SandboxConfig};

pub use at::BadField;

pub(crate) use at::At;
pub(crate) use container::container_config;
pub(crate) use filter::{
    container_filter, container_stats_filter, sandbox_filter, sandbox_stats_filter,
};
pub(crate) use ids::{Given, container_id, sandbox_id};
pub(crate) use image::{auth, image_spec};
#[cfg(test)]
pub(crate) use resources::resources;
pub(crate) use resources::updated_resources;
pub(crate) use sandbox::sandbox_config;
pub(crate) use text::command;

/// What a CreateContainerRequest says of its container and of the pod around it: what is read of every request
/// before anything is touched, for whoever wants to know what comes of one.
///
/// # Errors
/// [`BadField`], the first that is wrong.
pub fn read_request(
    given: v1::CreateContainerRequest,
) -> Result<(SandboxConfig, ContainerConfig), BadField> {
    let sandbox = sandbox_config(At::field("sandbox_config"), given.sandbox_config, "")?;
    Ok((sandbox, container_config(At::field("config"), given.config)?))
}
