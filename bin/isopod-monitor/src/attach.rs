//! Daemons that take part in containers' standard streams.
//!
//! Always: an attach belongs to the connection that asked for it; its end never touches the container, but
//! for a standard input that was meant for one attach.

use std::collections::BTreeMap;

use monitor_api::{AttachEnd, Event};

use crate::monitor::Monitor;
use crate::poller::Key;

/// An attach that has not ended.
#[derive(Debug)]
pub struct Attach {
    /// The number that its connection knows it by.
    pub number: u64,
    pub connection: Key,
    pub container: Key,
    /// Whether it writes standard input.
    pub stdin: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Attaches(BTreeMap<Key, Attach>);

impl Attaches {
    pub fn add(&mut self, key: Key, attach: Attach) {
        self.0.insert(key, attach);
    }

    pub fn by_number(&self, connection: Key, number: u64) -> Option<Key> {
        let found = self.0.iter().find(|(_, a)| a.connection == connection && a.number == number);
        found.map(|(key, _)| *key)
    }

    pub fn of_connection(&self, connection: Key) -> Vec<Key> {
        self.0.iter().filter(|(_, a)| a.connection == connection).map(|(key, _)| *key).collect()
    }

    pub fn of_container(&self, container: Key) -> Vec<Key> {
        self.0.iter().filter(|(_, a)| a.container == container).map(|(key, _)| *key).collect()
    }
}

/// Ends an attach; `why` is told to its connection, where nobody there has ended it.
pub fn end(monitor: &mut Monitor, key: Key, why: Option<AttachEnd>) {
    let Some(attach) = monitor.attaches.0.remove(&key) else { return };
    if let Some(container) = monitor.containers.get_mut(&attach.container) {
        container.output.remove_reader(key);
        if attach.stdin && container.stdio.stdin_once {
            container.stdin = None;
        }
    }
    if let Some(why) = why {
        monitor.tell(attach.connection, Event::AttachEnded { attach: attach.number, why });
    }
}
