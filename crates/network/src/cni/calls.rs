//! Which plugins run now, and how long those took that have ended.
//!
//! Always: a call that is given up is out of the list as well; whoever watches is told of every end.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use model::Timestamp;

/// A call of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCall {
    /// The plugin's type.
    pub plugin: String,
    /// The network's name.
    pub network: String,
    /// ADD, DEL and so on.
    pub verb: &'static str,
    /// For which sandbox; empty where the call is for none.
    pub sandbox: String,
    /// When it began.
    pub since: Timestamp,
}

/// Hears of every call of a plugin that ends. Must not block.
pub trait PluginWatcher: fmt::Debug + Send + Sync {
    /// One has ended, or was given up.
    fn ended(&self, call: &PluginCall, took: Duration, succeeded: bool);
}

#[derive(Debug, Default)]
struct Running {
    last: u64,
    all: BTreeMap<u64, PluginCall>,
}

/// The calls of one set of plugins. Bounded by the number of plugins that may run at once.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    running: Mutex<Running>,
    watcher: OnceLock<Arc<dyn PluginWatcher>>,
}

impl Calls {
    /// From now on `watcher` hears of ends; a second one is not taken.
    pub(crate) fn watch(&self, watcher: Arc<dyn PluginWatcher>) {
        let _ = self.watcher.set(watcher);
    }

    /// What runs now, the oldest first.
    pub(crate) fn list(&self) -> Vec<PluginCall> {
        self.lock().all.values().cloned().collect()
    }

    /// A call begins, and ends with the value.
    pub(crate) fn begin(
        &self,
        plugin: &str,
        network: &str,
        verb: &'static str,
        sandbox: &str,
    ) -> OpenCall<'_> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let call = PluginCall {
            plugin: plugin.to_owned(),
            network: network.to_owned(),
            verb,
            sandbox: sandbox.to_owned(),
            since: Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)),
        };
        let mut running = self.lock();
        running.last += 1;
        let number = running.last;
        running.all.insert(number, call);
        OpenCall { calls: self, number, begun: Instant::now(), succeeded: false }
    }

    fn lock(&self) -> MutexGuard<'_, Running> {
        // What is under the lock is whole between any two statements.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that runs.
#[derive(Debug)]
pub(crate) struct OpenCall<'a> {
    calls: &'a Calls,
    number: u64,
    begun: Instant,
    succeeded: bool,
}

impl OpenCall<'_> {
    /// It has done what it was asked for.
    pub(crate) fn succeeded(mut self) {
        self.succeeded = true;
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        let call = self.calls.lock().all.remove(&self.number);
        if let (Some(call), Some(watcher)) = (call, self.calls.watcher.get()) {
            watcher.ended(&call, self.begun.elapsed(), self.succeeded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Heard(Mutex<Vec<(String, &'static str, bool)>>);

    impl PluginWatcher for Heard {
        fn ended(&self, call: &PluginCall, _took: Duration, succeeded: bool) {
            self.0.lock().unwrap().push((call.plugin.clone(), call.verb, succeeded));
        }
    }

    #[test]
    fn calls_are_listed_while_they_run_and_told_when_they_end() {
        let calls = Calls::default();
        let heard = Arc::new(Heard::default());
        calls.watch(heard.clone());
        let first = calls.begin("bridge", "net", "ADD", "s1");
        let second = calls.begin("portmap", "net", "DEL", "");
        let listed: Vec<_> = calls.list().into_iter().map(|call| call.plugin).collect();
        assert_eq!(listed, ["bridge", "portmap"]);
        first.succeeded();
        drop(second);
        assert!(calls.list().is_empty());
        let heard = heard.0.lock().unwrap().clone();
        assert_eq!(heard, [("bridge".into(), "ADD", true), ("portmap".into(), "DEL", false)]);
    }
}
