//! Cgroups that belong to systemd's units.
//!
//! Where systemd is the init it owns the tree: what somebody else makes below a slice it may take apart when
//! it reloads. So a container's cgroup there is a scope that systemd makes around the container's first
//! process, delegated to us; and a pod's is a slice. The path says which it is: `….slice/name.scope` and
//! `….slice`. Owns: the calls to systemd. Always: each is bounded in time; a unit that is not there has
//! nothing to change.

mod bus;
mod properties;
mod wire;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use runtime_spec::Resources;
use rustix::process::Pid;

use crate::error::CgroupError;
use crate::hierarchy::Mode;
use crate::path::CgroupPath;
use bus::{Bus, CallError};
use properties::{Names, properties};
use wire::{Message, Property, Value, Writer};

/// Whether systemd is the init here, and can be talked to.
pub(crate) fn is_there() -> bool {
    Bus::is_there()
}

/// Kinds of units that have cgroups of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Scope,
    Slice,
}

/// The unit of a cgroup.
#[derive(Debug)]
pub(crate) struct Unit {
    name: String,
    /// The slice that it is in.
    slice: String,
    kind: Kind,
    names: Names,
    /// Whether systemd knows it. A scope begins with its first process.
    is_started: AtomicBool,
    /// Limits that were set before it has started.
    waiting: Mutex<Vec<Resources>>,
}

impl Unit {
    /// The unit that the cgroup at `path` belongs to, where systemd is there and the path is that of one.
    /// `is_started` says whether it is expected to be running.
    pub(crate) fn of(path: &CgroupPath, mode: Mode, is_started: bool) -> Option<Arc<Self>> {
        let unit = Self::named(path, mode, is_started)?;
        is_there().then(|| Arc::new(unit))
    }

    fn named(path: &CgroupPath, mode: Mode, is_started: bool) -> Option<Self> {
        let (above, name) = path.as_str().rsplit_once('/')?;
        let above = above.rsplit('/').next().unwrap_or("");
        let (kind, slice) = if name.ends_with(".scope") && above.ends_with(".slice") {
            (Kind::Scope, above)
        } else if name.ends_with(".slice") && (above.is_empty() || above.ends_with(".slice")) {
            (Kind::Slice, if above.is_empty() { "-.slice" } else { above })
        } else {
            return None;
        };
        let names = match mode {
            Mode::Unified => Names::Unified,
            Mode::Legacy | Mode::Hybrid => Names::Legacy,
        };
        Some(Self {
            name: name.to_owned(),
            slice: slice.to_owned(),
            kind,
            names,
            is_started: AtomicBool::new(is_started),
            waiting: Mutex::new(Vec::new()),
        })
    }

    /// Whether a process comes into it by [`Unit::start`] alone: a scope that has not begun.
    pub(crate) fn awaits_process(&self) -> bool {
        self.kind == Kind::Scope && !self.is_started.load(Ordering::Acquire)
    }

    /// Somebody else has begun it, with the limits that were set before.
    pub(crate) fn has_begun(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.is_started.store(true, Ordering::Release);
    }

    /// Begins a scope around `pid`, with the limits that were set before, and hands them back: systemd knows
    /// a part of them only.
    pub(crate) fn start(&self, pid: Pid) -> Result<Vec<Resources>, CgroupError> {
        let limits =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut all = vec![
            ("Description", Value::Text(format!("container {}", self.name))),
            ("Slice", Value::Text(self.slice.clone())),
            ("PIDs", Value::Pids(vec![pid.as_raw_nonzero().get().cast_unsigned()])),
            ("Delegate", Value::Flag(true)),
            ("DefaultDependencies", Value::Flag(false)),
            // Otherwise one whose process failed would stay until somebody resets it.
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
        ];
        all.extend(accounting(self.names));
        for resources in &limits {
            let newer = properties(resources, self.names);
            all.retain(|(name, _)| !newer.iter().any(|(new, _)| new == name));
            all.extend(newer);
        }
        self.start_with(&all)?;
        Ok(limits)
    }

    /// Tells systemd of limits: at once if the unit runs, else when it starts.
    pub(crate) fn limit(&self, resources: &Resources) -> Result<(), CgroupError> {
        if self.awaits_process() {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.push(resources.clone());
            return Ok(());
        }
        let new = properties(resources, self.names);
        if new.is_empty() {
            return Ok(());
        }
        match self.set(&new) {
            // A slice that was only a directory so far becomes a unit. A scope ends with its processes.
            Err(error) if error.is_no_such_unit() => match self.kind {
                Kind::Scope => Ok(()),
                Kind::Slice => {
                    let mut all = accounting(self.names);
                    all.push(("DefaultDependencies", Value::Flag(false)));
                    all.extend(new);
                    self.start_with(&all)
                }
            },
            other => other.map_err(|e| self.failed("change the limits of", e)),
        }
    }

    /// Ends a slice. A scope has ended with its last process.
    pub(crate) fn stop(&self) -> Result<(), CgroupError> {
        if self.kind == Kind::Scope {
            return Ok(());
        }
        let stop = || -> Result<(), CallError> {
            let mut body = Writer::default();
            body.text(&self.name);
            body.text("replace");
            Bus::open()?.manager("StopUnit", "ss", body).map(drop)
        };
        match stop() {
            Err(error) if error.is_no_such_unit() => Ok(()),
            other => other.map_err(|e| self.failed("stop", e)),
        }
    }

    fn set(&self, new: &[Property]) -> Result<(), CallError> {
        let mut body = Writer::default();
        body.text(&self.name);
        // For this boot.
        body.flag(true);
        body.properties(new);
        Bus::open()?.manager("SetUnitProperties", "sba(sv)", body).map(drop)
    }

    fn start_with(&self, all: &[Property]) -> Result<(), CgroupError> {
        self.transient(all).map_err(|e| self.failed("start", e))?;
        self.is_started.store(true, Ordering::Release);
        Ok(())
    }

    fn transient(&self, all: &[Property]) -> Result<(), CallError> {
        let mut bus = Bus::open()?;
        bus.manager("Subscribe", "", Writer::default())?;
        let mut body = Writer::default();
        body.text(&self.name);
        body.text("fail");
        body.properties(all);
        body.no_units();
        let job = bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", body)?;
        let job = job.body().text().unwrap_or_default();
        let ended = bus.wait_for(|message| ended_job(message).is_some_and(|(id, _)| id == job))?;
        match ended_job(&ended) {
            Some((_, result)) if result == "done" => Ok(()),
            Some((_, result)) => Err(io::Error::other(format!("its job ended: {result}")).into()),
            None => Err(io::Error::other("its job ended in silence").into()),
        }
    }

    fn failed(&self, what: &'static str, error: CallError) -> CgroupError {
        CgroupError::Systemd { what, unit: self.name.clone(), source: error.into_io() }
    }
}

/// The job that a signal tells the end of, and its result.
fn ended_job(message: &Message) -> Option<(String, String)> {
    if message.kind != wire::Kind::Signal || message.member != "JobRemoved" {
        return None;
    }
    let mut body = message.body();
    body.word()?;
    let job = body.text()?;
    let _unit = body.text()?;
    Some((job, body.text()?))
}

/// So that the controllers are there, whatever the node's defaults are.
fn accounting(names: Names) -> Vec<Property> {
    let io = match names {
        Names::Legacy => "BlockIOAccounting",
        Names::Unified => "IOAccounting",
    };
    ["CPUAccounting", "MemoryAccounting", "TasksAccounting", io]
        .map(|name| (name, Value::Flag(true)))
        .to_vec()
}

#[cfg(test)]
mod tests;
