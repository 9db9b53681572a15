//! Use cases of sandboxes.

pub(crate) mod list;
pub(crate) mod port_forward;
pub(crate) mod remove;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod update_resources;

pub(crate) mod files;
mod limits;
mod setup;
