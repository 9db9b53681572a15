//! On the kernel of this machine, as root, in whichever hierarchies it has.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cgroups::{Cgroup, CgroupError, CgroupPath, Controller, Detail, Hierarchies, Mode};
use runtime_spec::{Cpu, DeviceCgroup, Memory, Pids, Resources};
use rustix::process::Pid;

/// A cgroup of this test's own, gone at its end whatever becomes of it.
struct Own(Cgroup);

impl Own {
    fn new(hierarchies: &Hierarchies, name: &str) -> Self {
        let path = format!("/isopod-test-{}-{name}", std::process::id());
        let path = CgroupPath::parse(&path).expect("the path is good");
        Self(Cgroup::create(hierarchies, &path).expect("root can make a cgroup"))
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.0.kill_all();
        let _ = self.0.remove();
    }
}

fn hierarchies() -> Hierarchies {
    Hierarchies::detect().expect("there are cgroups")
}

/// The hierarchies of one kind of file system alone, if there are any.
fn only(kind: &str) -> Option<Hierarchies> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let word = format!(" - {kind} ");
    let lines: Vec<&str> = table.lines().filter(|line| line.contains(&word)).collect();
    (!lines.is_empty()).then(|| Hierarchies::parse(&lines.join("\n")))
}

/// What v2's root gives on, to be as it was when the test ends.
struct RootControl(Option<(PathBuf, String)>);

impl RootControl {
    fn note() -> Self {
        let file = hierarchies().v2().map(|mount| mount.join("cgroup.subtree_control"));
        Self(file.and_then(|file| Some((file.clone(), std::fs::read_to_string(file).ok()?))))
    }
}

impl Drop for RootControl {
    fn drop(&mut self) {
        let Some((file, before)) = &self.0 else { return };
        let now = std::fs::read_to_string(file).unwrap_or_default();
        let had = |name: &&str| before.split_whitespace().any(|known| known == *name);
        for more in now.split_whitespace().filter(|name| !had(name)) {
            // Somebody else's cgroups may need it by now.
            let _ = std::fs::write(file, format!("-{more}"));
        }
    }
}

/// A shell that waits for a line and then runs `script`; it can be moved meanwhile.
struct Shell(Child);

impl Shell {
    fn new(script: &str) -> Self {
        let child = Command::new("/bin/sh")
            .args(["-c", &format!("read line; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Lets it run, and waits for its end: its output and whether it succeeded.
    fn finish(mut self) -> (String, bool) {
        drop(self.0.stdin.take());
        let mut text = String::new();
        let mut stdout = self.0.stdout.take().expect("it has an output");
        stdout.read_to_string(&mut text).expect("the output can be read");
        let status = self.0.wait().expect("it ends");
        (text, status.success())
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_cgroup_is_made_with_its_parents_joined_and_removed_with_what_is_below() {
    let hierarchies = hierarchies();
    let outer = Own::new(&hierarchies, "nest");
    let inner = CgroupPath::parse(&format!("{}/pod/container", outer.0.path())).unwrap();
    let inner = Cgroup::create(&hierarchies, &inner).unwrap();
    assert!(inner.exists());
    // Making it again finds it.
    assert_eq!(Cgroup::create(&hierarchies, inner.path()).unwrap(), inner);
    let shell = Shell::new("grep -c isopod-test /proc/self/cgroup");
    inner.join(shell.pid()).unwrap();
    assert_eq!(inner.procs().unwrap(), [shell.pid()]);
    assert_eq!(outer.0.procs().unwrap(), [shell.pid()]);
    let (lines, _) = shell.finish();
    let all = hierarchies.v1().len() + usize::from(hierarchies.v2().is_some());
    assert_eq!(lines.trim(), all.to_string());
    outer.0.remove().unwrap();
    assert!(!outer.0.exists() && !inner.exists());
    // What is gone is no error to anybody.
    outer.0.remove().unwrap();
    outer.0.kill_all().unwrap();
    assert!(outer.0.procs().unwrap().is_empty());
    assert_eq!(outer.0.oom_kills().unwrap(), 0);
}

#[test]
fn killing_leaves_nobody_even_of_those_that_fork() {
    // v2's way where it is mounted, and v1's freezer where that is.
    let variants = [("kill", Some(hierarchies())), ("kill-v1", only("cgroup"))];
    for (name, hierarchies) in variants {
        let Some(hierarchies) = hierarchies else { continue };
        kill_forking(&hierarchies, name);
    }
}

fn kill_forking(hierarchies: &Hierarchies, name: &str) {
    let own = Own::new(hierarchies, name);
    let mut shell = Shell::new("while :; do /bin/true & done");
    own.0.join(shell.pid()).expect("it can be moved");
    drop(shell.0.stdin.take());
    // It forks when there is more than itself.
    let until = Instant::now() + Duration::from_secs(20);
    while own.0.procs().expect("they can be listed").len() < 2 {
        assert!(Instant::now() < until, "it does not fork");
        std::thread::yield_now();
    }
    own.0.kill_all().expect("all can be killed");
    let status = shell.0.wait().expect("it ends");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{name}");
    own.0.remove().expect("nobody is left in it");
    assert!(!own.0.exists(), "{name}");
}

#[test]
fn a_child_is_killed_alone_and_limits_stay_the_parents() {
    let hierarchies = hierarchies();
    let own = Own::new(&hierarchies, "child");
    let child = own.0.child("exec-1").unwrap();
    let identity = child.identity();
    assert!(identity.is_some() && identity != own.0.identity());
    assert_eq!(own.0.identity(), None, "it has one below it");
    let (first, mut second) = (Shell::new("echo lives"), Shell::new("true"));
    own.0.join(first.pid()).unwrap();
    child.join(second.pid()).unwrap();
    let mut both = own.0.procs().unwrap();
    both.sort_by_key(|pid| pid.as_raw_nonzero());
    let mut expected = [first.pid(), second.pid()];
    expected.sort_by_key(|pid| pid.as_raw_nonzero());
    assert_eq!(both, expected);
    child.kill_all().unwrap();
    let status = second.0.wait().unwrap();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    child.remove().unwrap();
    assert_eq!(own.0.procs().unwrap(), [first.pid()]);
    assert_eq!(first.finish(), ("lives\n".to_owned(), true));
}

#[test]
fn limits_are_set_and_changed_in_both_directions() {
    let hierarchies = hierarchies();
    let own = Own::new(&hierarchies, "limits");
    let mut resources = Resources {
        cpu: Some(Cpu {
            shares: Some(512),
            quota: Some(50_000),
            period: Some(100_000),
            ..Cpu::default()
        }),
        pids: Some(Pids { limit: 20 }),
        ..Resources::default()
    };
    for megabytes in [64, 32, 128, -1, 256] {
        let limit = if megabytes < 0 { -1 } else { megabytes << 20 };
        resources.memory =
            Some(Memory { limit: Some(limit), swap: Some(limit), ..Memory::default() });
        own.0.apply(&resources).unwrap();
        let stats = own.0.stats(Detail::Whole).unwrap();
        assert_eq!(stats.memory.unwrap().limit, u64::try_from(limit).ok());
        assert_eq!(stats.pids.unwrap().limit, Some(20));
    }
    // A quota for a shorter period alone, and back.
    for (quota, period) in [(5_000, 10_000), (500_000, 1_000_000)] {
        let cpu = Cpu { quota: Some(quota), period: Some(period), ..Cpu::default() };
        own.0.apply(&Resources { cpu: Some(cpu), ..Resources::default() }).unwrap();
    }
}

#[test]
fn a_value_that_the_kernel_refuses_is_named_with_its_field_and_its_file() {
    let hierarchies = hierarchies();
    let own = Own::new(&hierarchies, "refused");
    let cpu = Cpu { cpus: "4000-5000".to_owned(), ..Cpu::default() };
    let error = own.0.apply(&Resources { cpu: Some(cpu), ..Resources::default() }).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, CgroupError::Limit { .. }), "{text}");
    assert!(text.starts_with("cpu.cpus is \"4000-5000\""), "{text}");
    assert!(text.ends_with("cpuset.cpus"), "{text}");
    assert_eq!(model::Classified::class(&error), model::Class::InvalidArgument);
}

#[test]
fn usage_is_counted() {
    let hierarchies = hierarchies();
    let own = Own::new(&hierarchies, "stats");
    let shell = Shell::new("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo $i");
    own.0.join(shell.pid()).unwrap();
    let (text, _) = shell.finish();
    assert_eq!(text, "20000\n");
    let stats = own.0.stats(Detail::Whole).unwrap();
    let cpu = stats.cpu.unwrap();
    assert!(cpu.usage_ns > 0 && cpu.usage_ns < 60_000_000_000, "{cpu:?}");
    let memory = stats.memory.unwrap();
    // The kernel sums up the parts of memory.stat in its own time; the whole it knows at once.
    assert!(memory.peak.is_none_or(|peak| peak > 0), "{memory:?}");
    assert_eq!(stats.pids.unwrap().current, 0);
}

#[test]
fn a_process_beyond_the_memory_limit_is_counted_as_killed() {
    let hierarchies = hierarchies();
    let own = Own::new(&hierarchies, "oom");
    let limit = Some(8 << 20);
    let memory = Memory { limit, swap: limit, ..Memory::default() };
    own.0.apply(&Resources { memory: Some(memory), ..Resources::default() }).unwrap();
    assert_eq!(own.0.oom_kills().unwrap(), 0);
    // The shell keeps all of it in memory, and is the largest there.
    let shell = Shell::new("text=$(head -c 64000000 /dev/zero | tr '\\0' x); echo ${#text}");
    own.0.join(shell.pid()).unwrap();
    let (_, succeeded) = shell.finish();
    assert!(!succeeded);
    let oom = own.0.oom().unwrap();
    assert!(oom.kills >= 1 && oom.limit_hits >= 1, "{oom:?}");
}

#[test]
fn all_stand_still_until_they_are_let_go() {
    let hierarchies = hierarchies();
    let own = Own::new(&hierarchies, "freeze");
    let mut shell = Shell::new("echo goes on");
    own.0.join(shell.pid()).unwrap();
    assert!(!own.0.is_frozen().unwrap());
    own.0.freeze().unwrap();
    assert!(own.0.is_frozen().unwrap());
    drop(shell.0.stdin.take());
    // It has been told to go on, and would have said so in this time.
    assert!(!is_ready(shell.0.stdout.as_ref().unwrap(), 200), "it goes on while it is frozen");
    own.0.thaw().unwrap();
    assert_eq!(shell.finish(), ("goes on\n".to_owned(), true));
    assert!(!own.0.is_frozen().unwrap());
}

/// Whether there is something to be read, or the end, within this many milliseconds.
fn is_ready(stream: impl std::os::fd::AsFd, millis: i64) -> bool {
    let mut ready = [rustix::event::PollFd::new(&stream, rustix::event::PollFlags::IN)];
    let patience =
        rustix::event::Timespec { tv_sec: millis / 1000, tv_nsec: millis % 1000 * 1_000_000 };
    rustix::event::poll(&mut ready, Some(&patience)).expect("it can be waited for") > 0
}

#[test]
fn who_stands_still_can_be_killed() {
    let hierarchies = hierarchies();
    let variants = [("frozen", Some(hierarchies)), ("frozen-v1", only("cgroup"))];
    for (name, hierarchies) in variants {
        let Some(hierarchies) = hierarchies else { continue };
        // All at once, and one by one.
        for all in [true, false] {
            let own = Own::new(&hierarchies, name);
            let mut shell = Shell::new("echo goes on");
            own.0.join(shell.pid()).unwrap();
            own.0.freeze().unwrap();
            if all {
                own.0.kill_all().unwrap();
            } else {
                shell.0.kill().unwrap();
                own.0.let_killed_go();
            }
            let ends = is_ready(shell.0.stdout.as_ref().unwrap(), 20_000);
            // So that a failure is told, and not waited for.
            own.0.thaw().unwrap();
            assert!(ends, "{name}: it does not end");
            let status = shell.0.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{name}");
        }
    }
}

#[test]
fn one_more_process_goes_beside_the_first_where_controllers_are_given_on() {
    let _control = RootControl::note();
    let Some(hierarchies) = only("cgroup2") else { return };
    let own = Own::new(&hierarchies, "beside");
    let (first, second) = (Shell::new("true"), Shell::new("true"));
    own.0.join(first.pid()).unwrap();
    assert_eq!(own.0.beside(first.pid()), own.0);
    let leaf = CgroupPath::parse(&format!("{}/leaf", own.0.path())).unwrap();
    // Who makes a cgroup below gives controllers on, which takes the first process out of the way before.
    let dir = hierarchies.v2().unwrap().join(leaf.relative());
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("cgroup.procs"), first.pid().as_raw_nonzero().to_string()).unwrap();
    let controllers = std::fs::read_to_string(dir.with_file_name("cgroup.controllers")).unwrap();
    let Some(controller) = controllers.split_whitespace().next() else {
        println!("skipped: this machine's cgroup v2 has no controllers");
        return;
    };
    std::fs::write(dir.with_file_name("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    assert!(own.0.join(second.pid()).is_err(), "it takes a process though it gives controllers on");
    own.0.beside(first.pid()).join(second.pid()).unwrap();
    let listed = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let occupants = own.0.occupants().unwrap();
    assert!(occupants.contains(&first.pid()) && occupants.contains(&second.pid()));
}

#[test]
fn who_is_here_in_one_hierarchy_only_is_an_occupant() {
    let hierarchies = hierarchies();
    let Some(legacy) = hierarchies.v1().first() else { return };
    let own = Own::new(&hierarchies, "occupants");
    assert!(own.0.occupants().unwrap().is_empty());
    let shell = Shell::new("true");
    let procs = legacy.mount.join(own.0.path().relative()).join("cgroup.procs");
    std::fs::write(procs, shell.pid().as_raw_nonzero().to_string()).unwrap();
    assert_eq!(own.0.occupants().unwrap(), [shell.pid()]);
}

fn rule(allow: bool, minor: Option<i64>, access: &str) -> DeviceCgroup {
    let (kind, major) = if minor.is_some() { ("c", Some(1)) } else { ("a", None) };
    DeviceCgroup { allow, kind: kind.to_owned(), major, minor, access: access.to_owned() }
}

/// Which of null, zero and full may be opened to read, and null to write.
const OPEN: &str = "for f in null zero full; do (: </dev/$f) 2>/dev/null && echo $f; done; \
                    (: >/dev/null) 2>&- && echo write; true";

fn opened(cgroup: &Cgroup) -> Vec<String> {
    let shell = Shell::new(OPEN);
    cgroup.join(shell.pid()).expect("it can be moved");
    shell.finish().0.lines().map(str::to_owned).collect()
}

#[test]
fn devices_are_used_as_the_last_rules_say() {
    let _control = RootControl::note();
    // Where v1 decides on devices, v2's program is tried in v2's hierarchy alone.
    for (name, hierarchies) in [("devices", Some(hierarchies())), ("devices-v2", only("cgroup2"))] {
        let Some(hierarchies) = hierarchies else { continue };
        let own = Own::new(&hierarchies, name);
        let apply = |devices: Vec<DeviceCgroup>| {
            own.0.apply(&Resources { devices, ..Resources::default() }).unwrap();
        };
        // stderr goes to /dev/null, so that one is always allowed.
        apply(vec![rule(false, None, "rwm"), rule(true, Some(3), "rw"), rule(true, Some(5), "r")]);
        assert_eq!(opened(&own.0), ["null", "zero", "write"], "{name}");
        apply(vec![rule(true, None, "rwm"), rule(false, Some(7), "r")]);
        assert_eq!(opened(&own.0), ["null", "zero", "write"], "{name}");
        apply(vec![rule(true, None, "rwm")]);
        assert_eq!(opened(&own.0), ["null", "zero", "full", "write"], "{name}");
    }
}

#[test]
fn what_this_machine_has_is_found() {
    let all = hierarchies();
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(all.v2().is_some(), table.contains(" - cgroup2 "));
    let has_memory = all.v1().iter().any(|h| h.controllers().contains(&Controller::Memory));
    assert_eq!(has_memory, all.mode() != Mode::Unified);
}
