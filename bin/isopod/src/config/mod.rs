//! The daemon's configuration: one TOML file, a directory of drop-ins, and flags.
//!
//! Owns: which keys there are (one table, from which checking, `isopod config explain` and the guide
//! come), how files are merged, and the checked result.
//! Always: a key that is not in the table, or a value that its kind does not allow, is a mistake with a
//! file and a line; all mistakes are told at once; a secret is never printed. A later file replaces
//! single keys of an earlier one, never whole tables.
//! Callers: the daemon, at its start and when it reloads; `isopod config`.

pub mod command;
mod containers;
mod document;
mod entries;
mod front;
mod keys;
mod kind;
mod machine;
mod mistake;
mod rules;
mod seeing;
mod settings;
mod streaming;

pub use entries::{Entries, Flags};
pub use front::{LimitSettings, MetricsAddress};
pub use keys::Takes;
pub use machine::with_project_quotas;
pub use mistake::Mistakes;
pub use seeing::TraceEndpoint;
pub use settings::{
    CgroupChoice, Config, Credential, HandlerKind, HandlerSettings, ImageSettings, LogFormat,
    LogSettings, NetworkChoice, SocketSettings, Ulimit,
};
pub use streaming::StreamingSettings;

use std::path::{Path, PathBuf};

/// Where the configuration is unless a flag says otherwise.
pub const DEFAULT_FILE: &str = "/etc/isopod/config.toml";

/// Reads the configuration.
///
/// # Errors
/// [`Mistakes`]: every mistake of every file.
pub fn load(file: Option<&Path>, flags: &Flags) -> Result<(Config, Entries), Mistakes> {
    let entries = entries::read(file, flags)?;
    let config = rules::config(&entries)?;
    Ok((config, entries))
}

/// The drop-in directory that belongs to a configuration file: `config.toml` has `config.d`.
fn drop_ins(file: &Path) -> PathBuf {
    file.with_extension("d")
}
