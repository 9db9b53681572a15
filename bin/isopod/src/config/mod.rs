//! The daemon's configuration: one TOML file, a directory of drop-ins, and flags.
//!
//! Owns: which keys there are (one table, from which checking, `isopod config explain` and the guide
//! come), how files are merged, and the checked result.
//! Always: a key that is not in the table, or a value that its kind does not allow, is a mistake with a
//! file and a line; all mistakes are told at once; a secret is never printed. A later file replaces
//! single keys of an earlier one, never whole tables.
//! Callers: the daemon, at its start and when it reloads; `isopod config`; `isopod doctor`, which judges what could
//! be read.

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
pub use mistake::{Mistake, Mistakes};
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
    let Looked { config, entries, mistakes } = look(file, flags);
    Mistakes::or(mistakes, (config, entries))
}

/// What could be read of a configuration, and every mistake.
#[derive(Debug)]
pub struct Looked {
    /// What counts; a default where a mistake hides what was meant.
    pub config: Config,
    /// The same by key.
    pub entries: Entries,
    /// What is wrong.
    pub mistakes: Vec<Mistake>,
}

impl Looked {
    /// What the configuration names and is not on this machine, a line each with the key.
    pub fn misfits(&self) -> Vec<String> {
        let mut all = machine::misfits(&self.config);
        if self.entries.is_unsure(&["root"]) {
            all.retain(|line| !line.starts_with("pods.writable_"));
        }
        all
    }
}

/// Reads the configuration as far as it can be read.
pub fn look(file: Option<&Path>, flags: &Flags) -> Looked {
    let (entries, mistakes) = entries::read(file, flags);
    judged(entries, mistakes)
}

/// The configuration that a daemon shows of itself: keys with their values as TOML.
pub fn shown_by_daemon<'a>(shown: impl Iterator<Item = (&'a str, &'a str)>) -> Looked {
    let text: String = shown.map(|(key, value)| format!("{key} = {value}\n")).collect();
    let (mut entries, mut mistakes) = (Entries::default(), Vec::new());
    entries.take(Path::new("the daemon"), &text, &mut mistakes);
    judged(entries, mistakes)
}

fn judged(entries: Entries, mut mistakes: Vec<Mistake>) -> Looked {
    let (config, of_all) = rules::config(&entries);
    // A file that cannot be read may hold what the others seem to lack.
    if !entries.is_incomplete() {
        mistakes.extend(of_all);
    }
    Looked { config, entries, mistakes }
}

/// The drop-in directory that belongs to a configuration file: `config.toml` has `config.d`.
fn drop_ins(file: &Path) -> PathBuf {
    file.with_extension("d")
}
