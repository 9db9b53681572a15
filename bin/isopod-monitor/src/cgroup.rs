//! The cgroups of containers and execs.
//!
//! Owns: when they are made, and what counts as this container's own lack of memory. Always: nothing here
//! waits for a process; what is still busy goes to [`crate::dying`].

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::rc::Rc;

use cgroups::{Cgroup, CgroupError, Driver, Entrance, Hierarchies, OomCounts};
use launcher::{CgroupView, LegacyView, Seat};
use model::{Class, Classified as _, Span, with_causes};
use monitor_api::Refusal;
use runtime_spec::Spec;
use rustix::process::Pid;

use crate::pod::Spans;
use crate::poller::{Poller, Source};

/// The hierarchies of this machine, and how a container is shown them.
#[derive(Debug)]
pub struct Machine {
    hierarchies: Hierarchies,
    view: CgroupView,
}

impl Machine {
    pub fn detect() -> Result<Self, Refusal> {
        let hierarchies = Hierarchies::detect().map_err(|e| refused(&e))?;
        let legacy = |shown: cgroups::Shown| LegacyView {
            directory: shown.directory,
            options: shown.options,
            links: shown.links,
        };
        let view = match hierarchies.shown() {
            None => CgroupView::Unified,
            Some(shown) => CgroupView::Legacy(shown.into_iter().map(legacy).collect()),
        };
        Ok(Self { hierarchies, view })
    }
}

/// A container's cgroup; one whose spec names none has the monitor's.
#[derive(Debug)]
pub struct ContainerCgroup {
    cgroup: Option<Cgroup>,
    machine: Rc<Machine>,
    /// What had happened when the container was made, as a cgroup may be older, or when it was told to end.
    before: OomCounts,
    /// What had happened when the kernel told last.
    last: OomCounts,
    /// The kernel's counts, where they may go before they are asked for.
    events: Option<File>,
    /// The place of an exec that has ended, for the next one: a cgroup that is made and removed costs more than
    /// what a probe does.
    free_seat: RefCell<Option<ExecSeat>>,
}

impl ContainerCgroup {
    /// Makes the cgroup that `spec` names and sets its limits.
    pub fn create(machine: Rc<Machine>, spec: &Spec) -> Result<(Self, Vec<Span>), Refusal> {
        let mut spans = Spans::new();
        let Some(path) = path_of(spec)? else {
            return Ok((Self::new(None, machine, OomCounts::default()), Vec::new()));
        };
        let cgroup = Cgroup::create(&machine.hierarchies, &path).map_err(|e| refused(&e))?;
        let resources = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
        if let Some(Err(error)) = resources.map(|resources| cgroup.apply(resources)) {
            if let Err(left) = cgroup.remove() {
                eprintln!("isopod-monitor: {left}");
            }
            return Err(refused(&error));
        }
        let before = counts(&cgroup);
        spans.ended("cgroup");
        Ok((Self::new(Some(cgroup), machine, before), spans.spans))
    }

    const fn new(cgroup: Option<Cgroup>, machine: Rc<Machine>, before: OomCounts) -> Self {
        Self { cgroup, machine, before, last: before, events: None, free_seat: RefCell::new(None) }
    }

    /// The cgroup that `spec` names, which an external runtime will make.
    pub fn named(machine: Rc<Machine>, spec: &Spec) -> Result<Self, Refusal> {
        let cgroup = path_of(spec)?.map(|path| Cgroup::at(&machine.hierarchies, &path));
        let before = cgroup.as_ref().map(counts).unwrap_or_default();
        Ok(Self::new(cgroup, machine, before))
    }

    /// What its container is shown of the cgroups.
    pub fn view(&self) -> &CgroupView {
        &self.machine.view
    }

    /// Hands out the way into it.
    pub fn seated<T>(&self, launch: impl FnOnce(Seat<'_>) -> T) -> T {
        match self.awaits_unit() {
            // systemd is asked beside the loop.
            Some(_) => launch(Seat::Later),
            None => seated(self.cgroup.as_ref(), &mut None, launch),
        }
    }

    /// The cgroup, if systemd is to make a unit around its first process.
    pub fn awaits_unit(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref().filter(|cgroup| cgroup.awaits_unit())
    }

    /// A place for an exec that can be killed on its own. `number` is given once in a monitor's life.
    pub fn exec_seat(&self, number: u64) -> ExecSeat {
        // Who may write to cgroups in the container may have put another one there.
        let free = self.free_seat.take().filter(ExecSeat::is_there);
        free.unwrap_or_else(|| self.new_seat(number))
    }

    fn new_seat(&self, number: u64) -> ExecSeat {
        let own = self.cgroup.as_ref().map(|cgroup| cgroup.child(&format!("exec-{number}")));
        let (own, joined) = match own {
            Some(Ok(own)) => (Some(own.clone()), Some(own)),
            // It is killed by its process alone then; the container's own end still takes all of it.
            Some(Err(error)) => {
                eprintln!("isopod-monitor: {error}");
                (None, self.cgroup.clone())
            }
            None => (None, None),
        };
        let identity = own.as_ref().and_then(Cgroup::identity);
        ExecSeat { own, joined, identity, way: None }
    }

    /// Takes the place of an exec back that has left it clean, if nobody is there and no other place is kept; else it
    /// is given back.
    pub fn keep_seat(&self, seat: ExecSeat) -> Option<ExecSeat> {
        let mut free = self.free_seat.borrow_mut();
        if free.is_some() || !seat.is_there() || !seat.is_empty() {
            return Some(seat);
        }
        *free = Some(seat);
        None
    }

    /// Nothing is begun in it any more.
    pub fn close_seats(&self) -> Option<ExecSeat> {
        self.free_seat.take()
    }

    /// Whether a process of it was killed since it was made because its own limit was reached.
    pub fn was_out_of_memory(&self) -> bool {
        let now = self.cgroup.as_ref().map(counts).unwrap_or_default();
        // A cgroup that has gone counts nothing any more.
        is_own_kill(self.before, now) || is_own_kill(self.before, self.last)
    }

    /// Whoever is told to end from now on does not end for want of memory that was missed before.
    pub fn begin_end(&mut self) {
        let now = self.cgroup.as_ref().map(counts).unwrap_or_default();
        // They only grow, and one that has gone counts nothing any more. That its limit was hit stays true.
        self.before.kills = self.before.kills.max(self.last.kills).max(now.kills);
    }

    /// Watches the kernel's counts, if this is a cgroup that systemd removes with its last process.
    pub fn watch_events(&mut self, poller: &Poller, source: Source) -> io::Result<()> {
        let unit = self.cgroup.as_ref().filter(|cgroup| cgroup.has_unit());
        let Some(file) = unit.map(Cgroup::memory_events).transpose()?.flatten() else {
            return Ok(());
        };
        poller.add_for_changes(&file, source)?;
        self.events = Some(file);
        // A change before this one was not told.
        self.read_events(poller);
        Ok(())
    }

    /// Reads the counts anew; what has gone is let go.
    pub fn read_events(&mut self, poller: &Poller) {
        let Some(file) = &mut self.events else { return };
        let mut text = String::new();
        let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
        match read {
            Ok(_) => self.last = OomCounts::of_events(&text),
            Err(_) => {
                poller.remove(&*file);
                self.events = None;
            }
        }
    }

    /// The cgroup itself, for its end.
    pub const fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }
}

/// Killed, and at its own limit: a kill without its limit being hit was for want of memory elsewhere.
const fn is_own_kill(before: OomCounts, now: OomCounts) -> bool {
    now.kills > before.kills && now.limit_hits > before.limit_hits
}

fn counts(cgroup: &Cgroup) -> OomCounts {
    cgroup.oom().unwrap_or_default()
}

fn path_of(spec: &Spec) -> Result<Option<cgroups::CgroupPath>, Refusal> {
    let text = spec.linux.as_ref().map_or("", |linux| linux.cgroups_path.as_str());
    if text.is_empty() {
        return Ok(None);
    }
    let read = Driver::read_cgroups_path(text).map_err(|bad| Refusal {
        class: Class::InvalidArgument,
        phase: "cgroup".to_owned(),
        message: bad.to_string(),
    })?;
    Ok(Some(read.1))
}

/// Hands out `way`, which is opened if nobody has yet.
fn seated<T>(
    cgroup: Option<&Cgroup>,
    way: &mut Option<Entrance>,
    launch: impl FnOnce(Seat<'_>) -> T,
) -> T {
    let Some(cgroup) = cgroup else { return launch(Seat::Stay) };
    let join = |pid: Pid| cgroup.join(pid).map_err(into_io);
    if way.is_none() {
        // What is wrong with it is said by the failure to join.
        *way = cgroup.entrance().ok().flatten();
    }
    match way {
        Some(way) => launch(Seat::Entered(way)),
        None => launch(Seat::Moved(&join)),
    }
}

fn into_io(error: CgroupError) -> io::Error {
    match error.errno() {
        Some(errno) => io::Error::from_raw_os_error(errno),
        None => io::Error::other(error.to_string()),
    }
}

/// A failure of a cgroup as the daemon is told it, with all its causes.
pub fn refused(error: &CgroupError) -> Refusal {
    Refusal { class: error.class(), phase: "cgroup".to_owned(), message: with_causes(error) }
}

/// Where an exec's processes are.
#[derive(Debug)]
pub struct ExecSeat {
    /// Its own cgroup, if it has one.
    own: Option<Cgroup>,
    joined: Option<Cgroup>,
    /// Its directory, when it was made.
    identity: Option<u64>,
    /// The way into it, once it was gone.
    way: Option<Entrance>,
}

impl ExecSeat {
    /// That of an exec whose place an external runtime chooses.
    pub const fn elsewhere() -> Self {
        Self { own: None, joined: None, identity: None, way: None }
    }

    /// Hands out the way into it.
    pub fn seated<T>(&mut self, launch: impl FnOnce(Seat<'_>) -> T) -> T {
        seated(self.joined.as_ref(), &mut self.way, launch)
    }

    /// Whether it is the one that was made, and nobody has made others in it.
    fn is_there(&self) -> bool {
        let now = self.own.as_ref().and_then(Cgroup::identity);
        now.is_some() && now == self.identity
    }

    fn is_empty(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.procs().is_ok_and(|left| left.is_empty()))
    }

    /// Its own cgroup, for its end.
    pub const fn cgroup(&self) -> Option<&Cgroup> {
        self.own.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_remembered_when_the_cgroup_has_gone_with_its_last_process() {
        let machine = Rc::new(Machine::detect().unwrap());
        let path = cgroups::CgroupPath::parse("/isopod-test-that-is-gone").unwrap();
        let cgroup = Cgroup::at(&machine.hierarchies, &path);
        let mut container = ContainerCgroup::new(Some(cgroup), machine, OomCounts::default());
        assert!(!container.was_out_of_memory());
        container.last = OomCounts::of_events("low 0\noom 1\noom_kill 1\n");
        assert!(container.was_out_of_memory());
        container.begin_end();
        assert!(!container.was_out_of_memory(), "it was killed before it was told to end");
        container.last = OomCounts::of_events("low 0\noom 2\noom_kill 2\n");
        assert!(container.was_out_of_memory());
    }

    #[test]
    fn only_a_new_kill_at_the_own_limit_is_the_containers_lack_of_memory() {
        let counts = |kills, limit_hits| OomCounts { kills, limit_hits };
        for (before, now, expected) in [
            (counts(0, 0), counts(0, 0), false),
            (counts(0, 0), counts(1, 1), true),
            (counts(0, 0), counts(1, 0), false),
            (counts(0, 0), counts(0, 9), false),
            (counts(2, 5), counts(2, 6), false),
            (counts(2, 5), counts(3, 5), false),
            (counts(2, 5), counts(3, 6), true),
        ] {
            assert_eq!(is_own_kill(before, now), expected, "{before:?} {now:?}");
        }
    }
}
