//! The daemon's configuration.

pub mod command;
