//! Reading the configuration again.
//!
//! Always: all of it or nothing; what needs a restart is named and stays as it was.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use cri_server::Reloaded;
use image_store::{ImageStore, Pattern};

use super::lines::Lines;
use super::logging;
use crate::config::{self, Config, Entries, Flags, Mistakes, Takes};

/// Where the configuration comes from.
#[derive(Debug)]
pub struct Source {
    /// The file, where a flag names one.
    pub file: Option<PathBuf>,
    /// The flags.
    pub flags: Flags,
}

/// The configuration of the running daemon.
#[derive(Debug)]
pub struct Current {
    source: Source,
    log: logging::Handle,
    store: ImageStore,
    entries: Mutex<Entries>,
}

impl Current {
    /// `entries` count from the start on.
    pub fn new(source: Source, log: logging::Handle, store: ImageStore, entries: Entries) -> Self {
        Self { source, log, store, entries: Mutex::new(entries) }
    }

    /// Reads it again, and takes up what can be taken up.
    pub fn reload(&self) -> Result<Reloaded, Mistakes> {
        let (config, newer) = config::load(self.source.file.as_deref(), &self.source.flags)?;
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reloaded = Reloaded::default();
        for (key, name) in entries.changed(&newer) {
            match key.takes {
                Takes::Reload => reloaded.changed.push(name),
                Takes::Restart => reloaded.needs_restart.push(name),
            }
        }
        *entries = newer;
        drop(entries);
        self.take_up(&config);
        tracing::info!(
            changed = reloaded.changed.join(", "),
            needs_restart = reloaded.needs_restart.join(", "),
            "the configuration was read again"
        );
        Ok(reloaded)
    }

    fn take_up(&self, config: &Config) {
        self.log.set_level(&config.log.level);
        self.store.set_pinned(config.images.pinned.iter().map(|text| Pattern::new(text)).collect());
    }

    /// The last lines of the daemon's log.
    pub fn last_lines(&self) -> &Lines {
        self.log.last()
    }

    /// Every key that somebody set, for people; without secrets.
    pub fn shown(&self) -> serde_json::Value {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let all = entries.all().into_iter().filter_map(|(_, name, entry)| {
            entry.map(|entry| (name, serde_json::Value::String(entry.printable().to_owned())))
        });
        serde_json::Value::Object(all.collect())
    }
}
